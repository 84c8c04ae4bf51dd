"""SVHN: 99,289 house-number digits, 32x32 pixels in colour, in the official ``.mat`` files."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

from releq_gym.archives import DAMAGED
from releq_gym.datasets.base import (
    DATASETS,
    Split,
    Splits,
    data_root,
    hold_out_by_content,
    unreadable,
)


@DATASETS.register("svhn")
def svhn(data: str | os.PathLike | None = None) -> Splits:
    """Reads ``<data>/train_32x32.mat`` and ``test_32x32.mat``, the files of ``torchvision``'s SVHN.

    Args:
        data: The folder; see `releq_gym.datasets.load_splits`.

    Raises:
        ValueError: Where the files are missing and cannot be downloaded, or are damaged.

    Source: Netzer et al., "Reading digits in natural images with unsupervised feature learning",
    2011.
    """
    root, download = data_root(data)
    train, search = hold_out_by_content(_read(root, "train", download))
    return Splits(
        name="svhn",
        train=train,
        search=search,
        read_report=functools.partial(_read, root, "test", download),
        search_from_train=True,
        files=(_file(root, "train"),),
    )


def _file(root: Path, part: str) -> Path:
    return root / f"{part}_32x32.mat"


def _read(root: Path, part: str, download: bool) -> Split:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError
    from torchvision.datasets import SVHN

    file = _file(root, part)
    try:
        if download:
            SVHN(root, split=part, download=True)
        arrays = loadmat(file)
        pixels = torch.from_numpy(arrays["X"]).permute(3, 2, 0, 1).contiguous()
        # The files number the digit 0 as class 10.
        return Split(pixels, torch.from_numpy(arrays["y"].reshape(-1).astype("i8")) % 10)
    except (*DAMAGED, MatReadError, RuntimeError, TypeError) as error:
        raise unreadable("SVHN", root, "train_32x32.mat and test_32x32.mat", error) from error
