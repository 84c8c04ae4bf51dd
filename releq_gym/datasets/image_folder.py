"""Any data set of image files, one folder per class; ImageNet among them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from releq_gym.datasets.base import (
    DATASETS,
    SPLIT_SEED,
    Split,
    Splits,
    data_root,
    hash_index,
)
from releq_gym.datasets.parts import arrange

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""What the folder of each part may be called."""

PHOTO_SIDES = (256, 224)
"""ImageNet: the shorter side is brought to the first, the centre of the second is kept."""

PHOTOS = {"train": 10_000, "val": 15_000, "test": 10_000}
"""ImageNet images of each part that are used, chosen by seed: 10,000 take 1.5 GB of memory."""


def is_image_folder(path: str | os.PathLike) -> bool:
    """Whether a folder holds class folders with images, by itself or below a part's folder."""
    path = Path(path).expanduser()
    return path.is_dir() and any(_class_folders(folder) for folder in _part_folders(path).values())


def image_folder(path: str | os.PathLike) -> Splits:
    """Reads ``[<part>/]<class>/<image>``, the parts being train, val (or valid) and test.

    Classes are numbered in the order of their folders' names. All images have one size and are
    kept as they are: grey if the first one is, else RGB. Which parts become which split is said in
    `arrange`; a folder without parts counts as ``train`` alone, or as what its own name says.

    Args:
        path: The folder; the splits are named after it.

    Raises:
        ValueError: If there are no such images, one is damaged, or their sizes differ.
    """
    path = Path(path).expanduser()
    classes = _all_classes(path)
    parts = _list_parts(path, {c: i for i, c in enumerate(classes)})
    for files in parts.values():  # before the search, not when the report is opened
        files.check(files.paths[0])
    return dataclasses.replace(arrange(path.resolve().name, parts), files=_looked_at(path, parts))


@DATASETS.register("imagenet")
def imagenet(data: str | os.PathLike | None = None) -> Splits:
    """Reads ``val/<wnid>/<image>`` and, for retraining, ``train/<wnid>/<image>``.

    The shorter side is brought to 256, the centre of 224x224 kept. A class has the place of its
    wnid among the 1,000, so that a folder with some of the classes suits the same networks, which
    still choose among all. Half of ``val``, 5,000 images at most, is ``search``; of the rest
    10,000 at most are ``report``, read when it is asked for. Of ``train`` 10,000 at most are used.
    They are chosen by seed. Images are resized bilinearly, as torchvision does for its weights;
    timm's weights of MobileNet were made for bicubic resizing.

    Args:
        data: A folder of this form, or one that holds it under a name that begins with
            ``imagenet``; see `releq_gym.datasets.load_splits`.

    Raises:
        ValueError: If there is no such folder, or one of its classes is not among the 1,000.

    Source: Russakovsky et al., "ImageNet large scale visual recognition challenge", 2015.
    """
    from timm.data import ImageNetInfo

    root, _ = data_root(data)
    found = [
        folder for folder in (root, *sorted(root.glob("imagenet*"))) if is_image_folder(folder)
    ]
    if not found:
        raise ValueError(
            f"There is no ImageNet in {root}. Pass data=FOLDER or set RELEQ_GYM_DATA to a folder "
            "with val/<wnid>/<image>, one folder per class; it is not downloaded."
        )
    places = {wnid: place for place, wnid in enumerate(ImageNetInfo().label_names())}
    unknown = [name for name in _all_classes(found[0]) if name not in places]
    if unknown:
        raise ValueError(
            f"{found[0]} has a class folder {unknown[0]!r}, which is none of ImageNet's 1,000; "
            "name its folders by wnid, such as 'n01440764'."
        )
    parts = {
        part: _some(files, PHOTOS[part])
        for part, files in _list_parts(found[0], places, PHOTO_SIDES).items()
    }
    return dataclasses.replace(
        arrange("imagenet", parts),
        files=(root, *root.glob("imagenet*"), *_looked_at(found[0], parts)),
    )


@dataclass(frozen=True)
class ImageFiles:
    """Image files and their classes.

    Attributes:
        paths: The files, in order.
        labels: Their classes.
        first: The first image of all parts: grey if it is, else RGB, and without ``sides`` of its
            size, are all others.
        sides: Shorter side to bring each image to and side of the centre to keep; None keeps
            images as they are.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    first: Path
    sides: tuple[int, int] | None = None

    @property
    def where(self) -> str:
        """The folder of the class folders."""
        return str(self.paths[0].parents[1])

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: Tensor) -> ImageFiles:
        """The files at ``index``."""
        chosen = index.tolist()
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            labels=tuple(self.labels[i] for i in chosen),
        )

    def check(self, path: Path) -> None:
        """Compares the size of one image with the first of all parts.

        Raises:
            ValueError: If they differ, or one cannot be read.
        """
        size, expected = (
            _decode(each, self._mode, self.sides).shape for each in (path, self.first)
        )
        if size != expected:
            raise ValueError(
                f"{path} is {size[-1]}x{size[-2]} pixels large, {self.first} is "
                f"{expected[-1]}x{expected[-2]}. Bring all images to the size that the network "
                "takes."
            )

    @cached_property
    def _mode(self) -> str:
        if self.sides:
            return "RGB"
        with _opened(self.first) as image:
            return "L" if image.mode in ("1", "L") else "RGB"

    def read(self, index: Tensor | None = None) -> Split:
        """The images at ``index``, ascending; None means all of them."""
        index = torch.arange(len(self)) if index is None else index
        chosen = self.take(index)
        shape = _decode(self.first, self._mode, self.sides).shape
        images = np.empty((len(chosen), *shape), np.uint8)

        def fill(place: int) -> None:
            path = chosen.paths[place]
            image = _decode(path, self._mode, self.sides)
            if image.shape != shape:
                self.check(path)
            images[place] = image

        with ThreadPoolExecutor() as threads:
            list(threads.map(fill, range(len(chosen))))
        return Split(torch.from_numpy(images), torch.tensor(chosen.labels), hash_index(index))


def _some(files: ImageFiles, count: int) -> ImageFiles:
    """So many of the files, or all where there are fewer."""
    if len(files) <= count:
        return files
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return files.take(order[:count].sort().values)


def _part_folders(path: Path) -> dict[str, Path]:
    """The folder of each part; one without parts is the part it is called, else ``train``."""
    parts = {
        part: path / name
        for part, names in PARTS.items()
        for name in reversed(names)
        if (path / name).is_dir()
    }
    own_name = path.resolve().name
    own_part = next((part for part, names in PARTS.items() if own_name in names), "train")
    return parts or {own_part: path}


def _class_folders(path: Path) -> list[Path]:
    return sorted(
        folder
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith(".") and any(_images(folder))
    )


def _images(folder: Path) -> Iterator[Path]:
    """Image files in no order; hidden ones, as macOS makes them, are none."""
    return (
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def _all_classes(path: Path) -> list[str]:
    """Names of the class folders, of which each part may lack some.

    Raises:
        ValueError: For one that holds no image anywhere, which would shift the classes behind it,
            a part whose images lie in no class folder, or one that there is twice.
    """
    for names in PARTS.values():
        held = [name for name in names if (path / name).is_dir()]
        if len(held) > 1:
            raise ValueError(
                f"{path} holds {' and '.join(held)}, which are names of one part; keep one of them."
            )
    folders = {part: _class_folders(part) for part in _part_folders(path).values()}
    found = {folder.name for classes in folders.values() for folder in classes}
    for part, classes in folders.items():
        if not classes and any(_images(part)):
            raise ValueError(
                f"{part} holds images, but no folder per class; sort them as "
                f"{part.name}/<class>/<image>, or move that folder elsewhere."
            )
        for folder in sorted(part.iterdir()):
            hidden = folder.name.startswith(".") or folder in folders
            if folder.is_dir() and not hidden and folder.name not in found:
                raise ValueError(
                    f"{folder} holds no image ({', '.join(SUFFIXES)}). Classes are numbered by "
                    "their folders, so it has to hold some, or to be removed."
                )
    return sorted(found)


def _list_parts(
    path: Path, places: dict[str, int], sides: tuple[int, int] | None = None
) -> dict[str, ImageFiles]:
    parts: dict[str, ImageFiles] = {}
    for part, folder in _part_folders(path).items():
        files = [
            (file, places[of_class.name])
            for of_class in _class_folders(folder)
            for file in sorted(_images(of_class), key=lambda file: file.name)
        ]
        if files:
            paths, labels = zip(*files, strict=True)
            first = next(iter(parts.values())).first if parts else paths[0]
            parts[part] = ImageFiles(paths, labels, first, sides)
    return parts


def _looked_at(path: Path, parts: dict[str, ImageFiles]) -> tuple[Path, ...]:
    """The files of these parts, and the folders that decide which files those are."""
    folders = _part_folders(path).values()
    classes = [folder for part in folders for folder in part.iterdir() if folder.is_dir()]
    return (path, *folders, *classes, *(file for part in parts.values() for file in part.paths))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        with Image.open(path) as file:
            if file.mode[0] in "IF":  # which `convert` would cut off at 255
                raise ValueError(
                    f"its pixels have more than 8 bits (mode {file.mode}); convert the images to 8 "
                    "bits, or give float32 inputs in 0 to 1 in an .npz file"
                )
            yield file
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"The image {path} cannot be read: {error}") from error


def _decode(path: Path, mode: str, sides: Sequence[int] | None) -> np.ndarray:
    """One image, ``[channels, height, width]``."""
    from PIL import Image

    with _opened(path) as file:
        image = file.convert(mode)
    if sides:
        shorter, centre = sides
        scale = shorter / min(image.size)
        if scale != 1:
            size = (round(image.width * scale), round(image.height * scale))
            image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (image.width - centre) // 2, (image.height - centre) // 2
        image = image.crop((left, top, left + centre, top + centre))
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
