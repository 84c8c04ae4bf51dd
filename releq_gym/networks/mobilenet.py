"""MobileNet-V1 for ImageNet."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from releq_gym.networks.base import Recipe, register_network

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Channels after the stem and after each of the 13 blocks."""

STRIDED = (2, 4, 6, 12)
"""Blocks that halve the resolution."""

TIMM_BLOCKS = ("0.0", "1.0", "1.1", "2.0", "2.1", *(f"3.{i}" for i in range(6)), "4.0", "4.1")
"""What timm calls the 13 blocks."""

TIMM_NORM_EPS = 1e-5


def _download() -> dict[str, Tensor]:
    import timm

    return timm.create_model("mobilenetv1_100.ra4_e3600_r224_in1k", pretrained=True).state_dict()


class Block(nn.Module):
    """A 3x3 depthwise and a 1x1 convolution, each followed by ReLU6.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.pad = _same_padding(stride)
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``[batch, inputs, h, w]`` to ``[batch, outputs, h / stride, w / stride]``."""
        features = functional.relu6(self.depthwise(self.pad(features)))
        return functional.relu6(self.pointwise(features))


@register_network(
    "mobilenet",
    input_shape=(3, 224, 224),
    classes=1000,
    dataset="imagenet",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    recipes={
        "short": Recipe(images=6_400, learning_rate=1e-3),
        "long": Recipe(
            images=20_000, learning_rate=1e-3, schedule="cosine", warmup=0.1, augment="flip_shift"
        ),
    },
    download=_download,
    source="Howard et al., 2017; weights mobilenetv1_100.ra4_e3600_r224_in1k of timm",
)
class MobileNet(nn.Module):
    """MobileNet-V1 1.0 with batch norm folded into its convolutions.

    Where the stride is 2, TensorFlow pads a row below and a column to the right, PyTorch one on
    every side; weights trained with one do not suit the other. ``same_padding`` (1 for
    TensorFlow's) is part of the state for that reason. `adapt_checkpoint` fills it in.

    | layer             | kind      | weights   | MACs        |
    |-------------------|-----------|-----------|-------------|
    | stem              | conv      | 864       | 10,838,016  |
    | block1.depthwise  | depthwise | 288       | 3,612,672   |
    | block1.pointwise  | conv      | 2,048     | 25,690,112  |
    | block2.depthwise  | depthwise | 576       | 1,806,336   |
    | block2.pointwise  | conv      | 8,192     | 25,690,112  |
    | block3.depthwise  | depthwise | 1,152     | 3,612,672   |
    | block3.pointwise  | conv      | 16,384    | 51,380,224  |
    | block4.depthwise  | depthwise | 1,152     | 903,168     |
    | block4.pointwise  | conv      | 32,768    | 25,690,112  |
    | block5.depthwise  | depthwise | 2,304     | 1,806,336   |
    | block5.pointwise  | conv      | 65,536    | 51,380,224  |
    | block6.depthwise  | depthwise | 2,304     | 451,584     |
    | block6.pointwise  | conv      | 131,072   | 25,690,112  |
    | block7.depthwise  | depthwise | 4,608     | 903,168     |
    | block7.pointwise  | conv      | 262,144   | 51,380,224  |
    | block8.depthwise  | depthwise | 4,608     | 903,168     |
    | block8.pointwise  | conv      | 262,144   | 51,380,224  |
    | block9.depthwise  | depthwise | 4,608     | 903,168     |
    | block9.pointwise  | conv      | 262,144   | 51,380,224  |
    | block10.depthwise | depthwise | 4,608     | 903,168     |
    | block10.pointwise | conv      | 262,144   | 51,380,224  |
    | block11.depthwise | depthwise | 4,608     | 903,168     |
    | block11.pointwise | conv      | 262,144   | 51,380,224  |
    | block12.depthwise | depthwise | 4,608     | 225,792     |
    | block12.pointwise | conv      | 524,288   | 25,690,112  |
    | block13.depthwise | depthwise | 9,216     | 451,584     |
    | block13.pointwise | conv      | 1,048,576 | 51,380,224  |
    | classifier        | linear    | 1,024,000 | 1,024,000   |
    | total             |           | 4,209,088 | 568,740,352 |
    """

    same_padding: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.pad = _same_padding(stride=2)
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, stride=2)
        for number, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS), 1):
            self.add_module(f"block{number}", Block(inputs, outputs, 1 + (number in STRIDED)))
        self.classifier = nn.Linear(WIDTHS[-1], 1000)
        self.register_buffer("same_padding", torch.tensor(1, dtype=torch.uint8))
        self.register_load_state_dict_post_hook(_set_padding)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[batch, 1000]`` of normalised images ``[batch, 3, 224, 224]``."""
        features = functional.relu6(self.stem(self.pad(images)))
        for number in range(1, len(WIDTHS)):
            features = self.get_submodule(f"block{number}")(features)
        return self.classifier(features.mean(dim=(2, 3)))

    @staticmethod
    def adapt_checkpoint(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint of TensorFlow's or timm's training, as one of this module.

        Args:
            tensors: With the names of this module and without ``same_padding``: batch norm was
                folded and TensorFlow's padding used. With the names of timm: neither. Anything
                else is returned as it is.
        """
        if "conv_stem.weight" in tensors:
            try:
                return _from_timm(tensors)
            except KeyError:  # of another network of timm's, which will be found not to fit
                return dict(tensors)
        return {"same_padding": torch.tensor(1, dtype=torch.uint8)} | dict(tensors)


def _same_padding(stride: int) -> nn.ZeroPad2d:
    """TensorFlow's ``SAME`` for a 3x3 kernel: on inputs of even sides, if the stride is 2."""
    return nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)


def _set_padding(module: nn.Module, keys: Any) -> None:
    """Pads as the weights that were just loaded have it."""
    assert isinstance(module, MobileNet)
    strided = [module, *(module.get_submodule(f"block{number}") for number in STRIDED)]
    for part in strided:
        part.pad = _same_padding(2 if module.same_padding else 1)


def _from_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    adapted = {name: tensors[name] for name in ("classifier.weight", "classifier.bias")}
    adapted["same_padding"] = torch.tensor(0, dtype=torch.uint8)

    def fold(layer: str, conv: str, norm: str) -> None:
        mean, variance, weight, bias = (
            tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        adapted[f"{layer}.weight"], adapted[f"{layer}.bias"] = (
            folded.detach()
            for folded in fuse_conv_bn_weights(
                tensors[f"{conv}.weight"], None, mean, variance, TIMM_NORM_EPS, weight, bias
            )
        )

    fold("stem", "conv_stem", "bn1")
    for number, block in enumerate(TIMM_BLOCKS, 1):
        fold(f"block{number}.depthwise", f"blocks.{block}.conv_dw", f"blocks.{block}.bn1")
        fold(f"block{number}.pointwise", f"blocks.{block}.conv_pw", f"blocks.{block}.bn2")
    return adapted
