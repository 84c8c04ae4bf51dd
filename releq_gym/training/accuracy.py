"""How good a network is on the images of a split."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

BATCH = 1_000
"""Images per forward pass at most."""

FEWEST = 16
"""Images per forward pass at least, where there are as many."""

NUMBERS = {"cpu": 2**18, "cuda": 2**25}
"""Numbers in a batch. On a CPU a small one leaves its activations in the cache and in memory that
is at hand, which is faster than a large one."""


Score = Callable[[Tensor, Tensor], Tensor]
"""Takes outputs and targets of a batch, returns one score per input, higher is better."""


def top1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the largest output ``[n, classes]`` is that of the class, bool ``[n]``."""
    return outputs.argmax(dim=1) == targets


def each_score(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    score: Score = top1,
) -> Tensor:
    """What every input is worth, ``[n]``: by default whether it is classified correctly.

    Args:
        module: Maps ``[n, *input_shape]`` to outputs; left in evaluation mode.
        images: Before normalisation, on the module's device.
        labels: int64 ``[n]``, or whatever ``score`` takes.
        normalise: Applied to each batch.
        score: What one output is worth.
    """
    module.eval()
    with torch.inference_mode():
        size = batch_size(images.shape[1:], images.device)
        batches = zip(images.split(size), labels.split(size), strict=True)
        return torch.cat([score(module(normalise(batch)), targets) for batch, targets in batches])


def sum_scores(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    score: Score = top1,
) -> float:
    """The sum of `each_score`."""
    scores = each_score(module, images, labels, normalise, score)
    return float(scores.sum(dtype=torch.float64))


def batch_size(input_shape: torch.Size, device: torch.device) -> int:
    """How many inputs of this shape go into one forward pass on this device."""
    fitting = NUMBERS.get(device.type, NUMBERS["cpu"]) // max(input_shape.numel(), 1)
    return min(max(fitting, FEWEST), BATCH)
