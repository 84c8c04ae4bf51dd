"""MNIST: 70,000 handwritten 28x28 digits in the official idx files."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from releq_gym.datasets.base import DATASETS, Split, Splits, data_root, hold_out


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
    train, search = hold_out(_read(root, True, download))
    return Splits(
        name="mnist",
        train=train,
        search=search,
        read_report=functools.partial(_read, root, False, download),
        search_from_train=True,
    )


def _read(root: Path, train: bool, download: bool) -> Split:
    from torchvision.datasets import MNIST

    try:
        images = MNIST(root, train=train, download=download)
    except (OSError, RuntimeError, ValueError, AssertionError, IndexError) as error:
        # torchvision answers with whatever urllib, its file reader or an assert raised.
        reason = f" ({error})" if str(error) else ""
        raise ValueError(
            f"MNIST cannot be read from {root / 'MNIST' / 'raw'}{reason}. Pass data=FOLDER or set "
            "RELEQ_GYM_DATA to a folder that holds its four files as MNIST/raw/*-ubyte; with both "
            "unset and a network, they are downloaded into the user's cache."
        ) from error
    return Split(images.data.unsqueeze(1), images.targets)
