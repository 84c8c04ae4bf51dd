"""Batch norm for training alone: put after every convolution, folded into it in the end."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _Normed(nn.Module):
    """A convolution and its batch norm, in the place of the convolution."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels).to(conv.weight)

    def forward(self, features: Tensor) -> Tensor:
        """The normalised output of the convolution."""
        return self.norm(self.conv(features))


def insert_batch_norm(module: nn.Module) -> None:
    """Puts a batch norm after every `torch.nn.Conv2d` of a network that has none; in place.

    Raises:
        ValueError: Where a convolution is shared: its places would come to differ.
    """
    weights: set[int] = set()
    for name, conv in module.named_modules(remove_duplicate=False):
        if not isinstance(conv, nn.Conv2d):
            continue
        if id(conv.weight) in weights:
            raise ValueError(
                f"The convolution {name!r} is shared, so that no batch norm can be folded into it; "
                "use fold_batch_norm=False."
            )
        weights.add(id(conv.weight))
    for parent in list(module.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d):
                setattr(parent, name, _Normed(conv))


def fold_batch_norm(module: nn.Module) -> None:
    """Undoes `insert_batch_norm`; the network computes what it did in evaluation mode."""
    for parent in list(module.modules()):
        for name, normed in list(parent.named_children()):
            if isinstance(normed, _Normed):
                normed.eval()
                setattr(parent, name, fuse_conv_bn_eval(normed.conv, normed.norm))
