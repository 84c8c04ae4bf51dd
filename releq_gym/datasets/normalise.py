"""From compact images to what a network sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalise:
    """``(image - mean) / std`` per channel, on pixels in [0, 1], as float32.

    Attributes:
        mean: One value per channel, or one for all.
        std: Likewise.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalises ``[n, channels, ...]`` of uint8 in 0 to 255, or float32 in 0 to 1."""
        pixels = images.to(torch.float32)
        if images.dtype == torch.uint8:
            pixels = pixels / 255
        if not any(self.mean) and all(value == 1 for value in self.std):
            return pixels
        if len(self.mean) == len(self.std) == 1:
            return (pixels - self.mean[0]) / self.std[0]
        shape = (-1,) + (1,) * (images.ndim - 2)
        mean = torch.tensor(self.mean, device=images.device).view(shape)
        return (pixels - mean) / torch.tensor(self.std, device=images.device).view(shape)


PIXELS = Normalise()
"""Leaves pixels in [0, 1] as they are."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
"""Of CIFAR-10's training images, per colour."""

CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Likewise."""
