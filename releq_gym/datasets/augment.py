"""Augmentations of a whole batch at once, driven by an explicit generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

from releq_gym.registry import UnknownNameError

Augmentation = Callable[[Tensor, Generator], Tensor]
"""Takes images ``[n, channels, height, width]`` of any dtype, returns the same shape."""


def shift(images: Tensor, generator: Generator) -> Tensor:
    """Moves each image by up to an eighth of its side, vacated pixels 0 (4 pixels of 32)."""
    count, channels, height, width = images.shape
    reach_y, reach_x = height // 8, width // 8
    padded = functional.pad(images, (reach_x, reach_x, reach_y, reach_y))
    rows = _offsets(count, reach_y, height, generator).to(images.device)
    columns = _offsets(count, reach_x, width, generator).to(images.device)
    image = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def flip_shift(images: Tensor, generator: Generator) -> Tensor:
    """`shift`, and half of the images mirrored left to right."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    chosen = mirrored.to(images.device).view(-1, 1, 1, 1)
    return shift(torch.where(chosen, images.flip(-1), images), generator)


def _offsets(count: int, reach: int, length: int, generator: Generator) -> Tensor:
    """Pixel positions ``[count, length]`` of a random window of a padded axis, per image."""
    start = torch.randint(2 * reach + 1, (count, 1), generator=generator)
    return start + torch.arange(length)


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "shift": shift,
    "flip_shift": flip_shift,
}


def find_augmentation(name: str) -> Augmentation | None:
    """The augmentation called ``name``, None for ``"none"``.

    Raises:
        UnknownNameError: Where there is none of that name.
    """
    try:
        return AUGMENTATIONS[name]
    except KeyError:
        raise UnknownNameError("augmentation", name, AUGMENTATIONS) from None
