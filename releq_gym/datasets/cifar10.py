"""CIFAR-10: 60,000 colour photographs of 32x32 pixels in ten classes."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

from releq_gym.datasets.base import (
    DATASETS,
    Split,
    Splits,
    below,
    data_root,
    hold_out_by_content,
    unreadable,
)
from releq_gym.datasets.npz import NpzPart


@DATASETS.register("cifar10")
def cifar10(data: str | os.PathLike | None = None) -> Splits:
    """Reads ``<data>/cifar10.npz``, see `npz`, else the layout of ``torchvision``'s CIFAR10.

    Args:
        data: The folder; see `releq_gym.datasets.load_splits`.

    Raises:
        ValueError: Where the files are missing and cannot be downloaded, or are damaged.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    root, download = data_root(data)
    train, search = hold_out_by_content(read_cifar10(root, True, download))
    return Splits(
        name="cifar10",
        train=train,
        search=search,
        read_report=functools.partial(read_cifar10, root, False, download),
        search_from_train=True,
        files=cifar10_files(root),
    )


def cifar10_files(root: Path) -> tuple[Path, ...]:
    """What `read_cifar10` looks at."""
    return (root / "cifar10.npz", *below(root / "cifar-10-batches-py"))


def read_cifar10(root: Path, train: bool, download: bool) -> Split:
    """The official training or test split."""
    file = root / "cifar10.npz"
    if file.is_file():
        return NpzPart(file, "train" if train else "test").read()
    from torchvision.datasets import CIFAR10

    try:
        images = CIFAR10(root, train=train, download=download)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise unreadable("CIFAR-10", root, "cifar-10-batches-py/ or cifar10.npz", error) from error
    pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2).contiguous()
    return Split(pixels, torch.tensor(images.targets))
