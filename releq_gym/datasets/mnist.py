"""MNIST: 70,000 handwritten 28x28 digits in the official idx files."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from releq_gym.datasets.base import (
    DATASETS,
    Split,
    Splits,
    below,
    data_root,
    hold_out,
    unreadable,
)


@DATASETS.register("mnist")
def mnist(data: str | os.PathLike | None = None) -> Splits:
    """Reads ``<data>/MNIST/raw/*-ubyte``, the layout of ``torchvision.datasets.MNIST``.

    Args:
        data: The folder above ``MNIST``; see `releq_gym.datasets.load_splits`.

    Raises:
        ValueError: Where the files are missing and cannot be downloaded, or are damaged.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """
    root, download = data_root(data)
    train, search = hold_out(read_mnist(root, True, download))
    return Splits(
        name="mnist",
        train=train,
        search=search,
        read_report=functools.partial(read_mnist, root, False, download),
        search_from_train=True,
        files=mnist_files(root),
    )


def mnist_files(root: Path) -> tuple[Path, ...]:
    """What `read_mnist` looks at."""
    return below(root / "MNIST")


def read_mnist(root: Path, train: bool, download: bool) -> Split:
    """The official training or test split."""
    from torchvision.datasets import MNIST

    try:
        images = MNIST(root, train=train, download=download)
    except (OSError, RuntimeError, ValueError, AssertionError, LookupError) as error:
        raise unreadable("MNIST", root, "its four files as MNIST/raw/*-ubyte", error) from error
    return Split(images.data.unsqueeze(1), images.targets)
