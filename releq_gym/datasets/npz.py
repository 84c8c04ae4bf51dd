"""Any data set in one ``.npz`` file with the keys of MedMNIST."""

from __future__ import annotations

import dataclasses
import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from releq_gym.archives import DAMAGED
from releq_gym.datasets.base import Split, Splits, take
from releq_gym.datasets.parts import Part, arrange, named

PARTS = ("train", "val", "test")


def npz(path: str | os.PathLike) -> Splits:
    """Reads ``<part>_images`` and ``<part>_labels``, the parts being train, val and test.

    Images are uint8 ``[n, height, width]`` or ``[n, height, width, channels]``. Floating-point
    inputs keep the shape they have: it is that of the network's input. Labels are integers
    ``[n]`` or ``[n, 1]``. Which parts become which split is said in `arrange`.

    Args:
        path: The file; the splits are named after it.

    Raises:
        ValueError: If there is no such file, it is damaged, or lacks these arrays.
    """
    path = Path(path).expanduser()
    with _open(path) as arrays:
        parts: dict[str, Part] = {
            part: NpzPart(path, part) for part in PARTS if f"{part}_images" in arrays
        }
        if not parts:
            raise ValueError(
                f"{path} holds {', '.join(arrays) or 'nothing'}; it needs train_images and "
                "train_labels, or val_... or test_..., or several of these pairs."
            )
        named_alike = [name for name in arrays if name.endswith(("_images", "_labels"))]
        unread = [name for name in named_alike if name.rpartition("_")[0] not in PARTS]
    splits = arrange(path.stem, parts)
    if unread:
        warnings.warn(
            f"{path} holds {', '.join(unread)}, too, which nothing reads; the parts are called "
            "train, val and test.",
            stacklevel=2,
        )
    return dataclasses.replace(splits, files=(path,))


@dataclass(frozen=True)
class NpzPart:
    """One part of a file.

    Attributes:
        path: The file.
        part: ``"train"``, ``"val"`` or ``"test"``.
    """

    path: Path
    part: str

    @property
    def where(self) -> str:
        """The file and the part."""
        return f"{self.path}, {self.part}"

    def __len__(self) -> int:
        with _open(self.path) as arrays:
            return len(self._labels(arrays))

    def read(self, index: Tensor | None = None) -> Split:
        """The images at ``index``, ascending; None means all of them."""
        with _open(self.path) as arrays:
            images, labels = self._array(arrays, "images"), self._labels(arrays)
        if images.dtype.kind not in "fiu":
            raise ValueError(
                f"{self.path}: {self.part}_images is {images.dtype}; images are uint8, other "
                "inputs floats."
            )
        if images.dtype == np.uint8 and images.ndim == 4 and _looks_channels_first(images.shape):
            raise ValueError(
                f"{self.path}: {self.part}_images has the shape {images.shape}, which looks like "
                "[n, channels, height, width]; uint8 images are [n, height, width, channels]: "
                "write images.transpose(0, 2, 3, 1)."
            )
        with named(self.where):
            split = Split(_channels_first(images), torch.from_numpy(labels))
        return split if index is None else take(split, index)

    def _labels(self, arrays: np.lib.npyio.NpzFile) -> np.ndarray:
        """The classes, int64 ``[images]``."""
        labels = self._array(arrays, "labels")
        if labels.dtype.kind not in "iu" or not labels.ndim or labels.size != len(labels):
            raise ValueError(
                f"{self.path}: {self.part}_labels is {labels.dtype} of shape {labels.shape}; one "
                "integer per image is needed, the class, counted from 0."
            )
        return labels.reshape(-1).astype("i8")

    def _array(self, arrays: np.lib.npyio.NpzFile, kind: str) -> np.ndarray:
        try:
            return arrays[f"{self.part}_{kind}"]
        except DAMAGED as error:
            if "allow_pickle" in str(error):
                error = ValueError("it holds Python objects instead of numbers")
            raise ValueError(
                f"{self.path} has no {self.part}_{kind} that can be read ({error}); write the file "
                "anew with numpy.savez."
            ) from error


def _open(path: Path) -> np.lib.npyio.NpzFile:
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(
            f"The data set {path} cannot be read: it is no .npz file; write one with numpy.savez."
        )
    try:
        with zipfile.ZipFile(path):  # closes it where it is damaged, which numpy does not
            pass
        return np.load(path, allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(f"The data set {path} cannot be read: {error}") from error


def _looks_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether ``[n, ?, ?, ?]`` are square images behind one or three channels."""
    return shape[1] in (1, 3) and shape[2] == shape[3] > 4


def _channels_first(images: np.ndarray) -> Tensor:
    if images.dtype.kind == "f":
        return torch.from_numpy(images.astype("f4", copy=False))
    tensor = torch.from_numpy(images)
    if tensor.ndim == 3:
        return tensor.unsqueeze(1)
    return tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == 4 else tensor
