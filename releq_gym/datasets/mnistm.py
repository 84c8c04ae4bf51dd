"""MNIST digits blended onto photographs: 70,000 colour digits of 32x32 pixels."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from releq_gym.datasets.base import (
    DATASETS,
    SPLIT_SEED,
    Split,
    Splits,
    data_root,
    hold_out,
    order_by_content,
)
from releq_gym.datasets.cifar10 import cifar10_files, read_cifar10
from releq_gym.datasets.mnist import mnist_files, read_mnist


@DATASETS.register("mnistm")
def mnistm(data: str | os.PathLike | None = None) -> Splits:
    """Made from `mnist` and `cifar10`: no files of its own, the same images every time.

    Each digit, with a margin of 2 pixels, lies on one photograph: a pixel is the absolute
    difference of both, channel by channel. Digits keep their official split, and those of the
    training split lie on training photographs, those of the test split on test photographs.
    The idea is that of MNIST-M, whose photographs come from BSDS500; the images are not the same.

    Args:
        data: The folder that holds both data sets; see `releq_gym.datasets.load_splits`.

    Raises:
        ValueError: Where either is missing and cannot be downloaded, or is damaged.

    Source: after Ganin et al., "Domain-adversarial training of neural networks", 2016.
    """
    root, download = data_root(data)
    train, search = hold_out(_blend_part(root, True, download))
    return Splits(
        name="mnistm",
        train=train,
        search=search,
        read_report=functools.partial(_blend_part, root, False, download),
        search_from_train=True,
        files=(*mnist_files(root), *cifar10_files(root)),
    )


def blend(digits: Tensor, photos: Tensor) -> Tensor:
    """``|photo - digit|`` per pixel and channel, uint8 ``[n, 3, 32, 32]``.

    Args:
        digits: uint8 ``[n, 1, 28, 28]``.
        photos: uint8 ``[n, 3, 32, 32]``.
    """
    framed = functional.pad(digits, (2, 2, 2, 2))
    return torch.maximum(photos, framed) - torch.minimum(photos, framed)


def _blend_part(root: Path, train: bool, download: bool) -> Split:
    digits, photos = (read(root, train, download) for read in (read_mnist, read_cifar10))
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    drawn = torch.randint(len(photos), (len(digits),), generator=generator)
    # By content, so that the form CIFAR-10 comes in does not matter.
    return Split(
        blend(digits.images, photos.images[order_by_content(photos)[drawn]]), digits.labels
    )
