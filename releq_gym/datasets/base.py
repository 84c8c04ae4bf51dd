"""What a data set is here: three splits with one purpose each, kept compact in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from releq_gym.cache import cache_folder
from releq_gym.registry import Registry

SEARCH_IMAGES = 5_000
"""Images cut from an official training split for the search, where there are enough of them."""

SPLIT_SEED = 20_180_711
"""Fixes which images those are; changing it changes every task, so it never changes."""

DUPLICATES = 0.01
"""Share of a split's images that may be in another by chance."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images and labels of one split, in a fixed order.

    Attributes:
        images: ``[n, channels, height, width]`` (or whatever one input is), uint8 in 0 to 255 or
            float32 in 0 to 1.
        labels: int64 ``[n]``, classes from 0; or, for a metric of one's own, any target per image,
            ``[n, ...]``.
        index_sha256: Hash of the positions these images have in the official split; see
            `hash_index`. Empty for all of it.

    Arrays of numpy are taken as well, and become tensors.
    """

    images: Tensor
    labels: Tensor
    index_sha256: str = ""

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            object.__setattr__(self, name, _as_tensor(name, getattr(self, name)))
        if self.images.dtype not in (torch.uint8, torch.float32):
            raise ValueError(
                f"Images are {self.images.dtype}; give uint8 in 0 to 255 or float32 in 0 to 1."
            )
        if self.labels.shape[:1] != self.images.shape[:1]:
            raise ValueError(
                f"Labels of shape {tuple(self.labels.shape)} for {len(self.images)} images; give "
                "one per image: an int64 class, or whatever your metric compares outputs with."
            )
        if not len(self.labels):
            raise ValueError("A split holds no images; give at least one.")
        if self.images.is_floating_point() and not self.images.isfinite().all():
            raise ValueError("The images of a Split hold NaN or infinity; leave those out.")

    def __len__(self) -> int:
        return len(self.labels)

    def __deepcopy__(self, memo: dict) -> Split:
        """Itself: a split is never written to, and may be large."""
        return self

    @cached_property
    def sha256(self) -> str:
        """Hash of the images and labels themselves, in order."""
        digest = hashlib.sha256(f"{self.images.dtype}{tuple(self.images.shape)}".encode())
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:  # no classes
            digest.update(f"{self.labels.dtype}{tuple(self.labels.shape)}".encode())
        digest.update(self.images.cpu().contiguous().numpy().data)
        digest.update(self.labels.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def _as_tensor(name: str, given: object) -> Tensor:
    if isinstance(given, np.ndarray):
        if given.dtype.kind not in "biuf":
            raise ValueError(
                f"The {name} of a Split are {given.dtype}; give numbers, of labels the classes "
                "from 0."
            )
        # A copy where numpy forbids writing, which PyTorch would warn of.
        return torch.from_numpy(given if given.flags.writeable else given.copy())
    if not isinstance(given, Tensor):
        raise ValueError(
            f"The {name} of a Split are a {type(given).__name__}; give a tensor, or an array of "
            "numpy."
        )
    return given


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set, split by purpose.

    Attributes:
        name: What it is registered under, or any name for one's own.
        train: What networks are trained and retrained on; None where there is no such split, and
            then only recipes without training work.
        search: What a search may see.
        read_report: Reads the split that only the scorer and the final report open; None where
            there is none.
        search_from_train: Whether ``search`` was cut from the official training split, so that
            a checkpoint trained elsewhere has seen it.
        official: Whether it was read by the loader that is registered under ``name``, so that two
            data sets of one name are cut alike. `load_splits` says so.
        files: Files and folders whose change would change ``train`` or ``search``, also those
            that do not exist; of a folder only what it lists counts, not what its files hold. None
            where that is not known: nothing is then remembered without reading the data again.
        origin: Which images ``search`` and ``report`` are, and how many, where that is known before
            the latter is read.
    """

    name: str
    train: Split | None
    search: Split
    read_report: Callable[[], Split] | None = None
    search_from_train: bool = False
    official: bool = False
    files: tuple[Path, ...] | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        for part in ("search", "train"):
            split = getattr(self, part)
            if not isinstance(split, Split) and (part == "search" or split is not None):
                raise ValueError(
                    f"{part}= of Splits is a {type(split).__name__}; give Split(images, labels)"
                    + (", or None." if part == "train" else ".")
                )
        if self.read_report is not None and not callable(self.read_report):
            raise ValueError(
                f"read_report= is a {type(self.read_report).__name__}; give a function that "
                "returns the split, such as lambda: test, so that nothing reads it before the end."
            )

    @cached_property
    def report(self) -> Split:
        """The report split, read on first access.

        Raises:
            ValueError: Where there is none, or it is no `Split`.
        """
        if self.read_report is None:
            raise ValueError(
                f"The data set {self.name!r} has no report split; pass read_report= to Splits(...)."
            )
        report = self.read_report()
        if not isinstance(report, Split):
            raise ValueError(
                f"read_report of {self.name!r} returned a {type(report).__name__}; it has to "
                "return Split(images, labels)."
            )
        return report

    def first(self, images: int) -> Splits:
        """The same data with only the first images of the search split; see `first_positions`.

        Args:
            images: How many; all where the split has fewer.
        """
        search = self.search
        if images >= len(search):
            return self
        index = search.index_sha256 and f"{search.index_sha256}[:{images}]"
        chosen = first_positions(search.labels, images)
        return replace(self, search=Split(search.images[chosen], search.labels[chosen], index))

    def __str__(self) -> str:
        """Which images are which, in a line."""
        held = "there is no report" if self.read_report is None else "report is opened in the end"
        return f"{self.name}: " + (self.origin or f"search is {len(self.search):,} images, {held}")


Loader = Callable[[str | os.PathLike | None], Splits]
"""Takes the folder or file that the user named (None: look in `data_root`), returns the splits."""

DATASETS: Registry[Loader] = Registry("data set", "releq_gym.datasets")


def data_root(data: str | os.PathLike | None) -> tuple[Path, bool]:
    """Where image data lies, and whether this package may download into that folder.

    Args:
        data: The folder a user named; None means ``$RELEQ_GYM_DATA``, and where that is unset the
            user's cache, the only folder that anything is downloaded into.
    """
    named = data if data is not None else os.environ.get("RELEQ_GYM_DATA")
    if named:
        return Path(named).expanduser(), False
    return cache_folder() / "data", True


def first_positions(labels: Tensor, count: int) -> Tensor:
    """Positions of so many images, ascending: the first, if classes are mixed.

    Where most images are followed by one of their own class, as they are in folders of classes,
    the first would be of a few classes alone: positions are then evenly spaced.

    Args:
        labels: Of all images.
        count: How many, or all where there are fewer.
    """
    total = len(labels)
    if count >= total:
        return torch.arange(total)
    classes = labels.ndim == 1 and not labels.is_floating_point()
    if classes and int((labels[1:] == labels[:-1]).sum()) > total / 2:
        return torch.arange(count) * total // count
    return torch.arange(count)


def below(folder: Path) -> tuple[Path, ...]:
    """A folder, which need not exist, and everything in it."""
    return (folder, *sorted(folder.rglob("*")))


def unreadable(title: str, root: Path, files: str, error: Exception) -> ValueError:
    """The error of a data set whose official files cannot be read.

    Args:
        title: Of the data set.
        root: Where they were looked for.
        files: Their names in that folder.
        error: What the reader raised: whatever urllib, a file reader or an assert does.
    """
    # An option of torchvision, which nobody has here.
    said = str(error).replace(" You can use download=True to download it", "")
    reason = "" if root.exists() else ", which does not exist"
    reason += f' ("{said}")' if said else ""
    return ValueError(
        f"{title} cannot be read from {root}{reason}. Pass data=FOLDER or set RELEQ_GYM_DATA to a "
        f"folder that holds {files}; with both unset and a network, it is downloaded into the "
        "user's cache."
    )


def refuse_seen(splits: Splits) -> None:
    """Refuses search images that were cut from the official training split.

    Raises:
        ValueError: If they were.
    """
    if splits.search_from_train:
        raise ValueError(
            f"The data set {splits.name!r} has no search split of its own: it is cut from the "
            "training images, which a network trained elsewhere has seen. Pass data=Splits(...) "
            "with held-out search images, or search_from_train=True to accept optimistic "
            "accuracies."
        )


def shared_images(split: Split, other: Split) -> int:
    """How many images of a split are in another, too; 0 where it may be by chance, `DUPLICATES`."""
    own, others = (
        [hash(image.numpy().tobytes()) for image in each.images.cpu()] for each in (split, other)
    )
    known = set(others)
    shared = sum(image in known for image in own)
    return shared if shared > DUPLICATES * len(own) else 0


def hold_out(split: Split) -> tuple[Split, Split]:
    """Cuts an official training split into ``(train, search)``.

    The search part has 5,000 images, or a fifth of the split where that is fewer; which ones is
    a fixed function of the number of images.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(split), generator=generator)
    size = min(SEARCH_IMAGES, len(split) // 5)
    return take(split, order[size:]), take(split, order[:size])


def hold_out_by_content(split: Split) -> tuple[Split, Split]:
    """`hold_out`, with what is held out, and the order of both parts, decided by the images.

    So the parts are the same whatever form and order a data set comes in, equal images never
    stand on both sides, and an image that differs moves no other.
    """
    digests = _digests(split)
    order = _ascending(digests)
    size = min(SEARCH_IMAGES, len(split) // 5)
    while 0 < size < len(split) and digests[order[size]] == digests[order[size - 1]]:
        size += 1
    train, search = (
        Split(split.images[index], split.labels[index], hash_index(index))
        for index in (order[size:], order[:size])
    )
    return train, search


def order_by_content(split: Split) -> Tensor:
    """The positions of the images, in the order of the sha256 of each."""
    return _ascending(_digests(split))


def _digests(split: Split) -> list[bytes]:
    return [hashlib.sha256(image.numpy().tobytes()).digest() for image in split.images]


def _ascending(digests: list[bytes]) -> Tensor:
    return torch.tensor(sorted(range(len(digests)), key=digests.__getitem__))


def take(split: Split, index: Tensor) -> Split:
    """The images at ``index``, in ascending order, with the hash of that list."""
    index = index.sort().values
    return Split(split.images[index], split.labels[index], hash_index(index))


def hash_index(index: Tensor) -> str:
    """The sha256 of a list of positions, as little-endian 64-bit integers."""
    return hashlib.sha256(index.to(torch.int64).numpy().astype("<i8").tobytes()).hexdigest()
