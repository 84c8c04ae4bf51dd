"""From the parts that a data set comes in to the three splits: one rule for every format."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from releq_gym.datasets.base import SEARCH_IMAGES, SPLIT_SEED, Split, Splits, hold_out_by_content


class Part(Protocol):
    """One part as it lies on disk: its size is known before its images are read."""

    @property
    def where(self) -> str:
        """The file or folder, and which part of it."""

    def __len__(self) -> int: ...

    def read(self, index: Tensor | None = None) -> Split:
        """The images at ``index``, ascending; None means all of them."""


def arrange(name: str, parts: Mapping[str, Part]) -> Splits:
    """The splits of a data set that comes as some of ``train``, ``val`` and ``test``.

    | parts            | train      | search          | report      |
    |------------------|------------|-----------------|-------------|
    | train, val, test | train      | val             | test        |
    | val, test        | none       | val             | test        |
    | train, test      | the others | 5,000 of train  | test        |
    | train, val       | train      | half of val     | other half  |
    | val (or test)    | none       | half of it      | other half  |
    | train            | half       | a quarter       | a quarter   |

    A half for the search has 5,000 images at most. What is cut is cut by a fixed seed, or, where
    the official test split is kept, by `hold_out_by_content`.

    Args:
        name: What the splits are called.
        parts: One or more of the three.

    Raises:
        ValueError: For a part that is no `Split`, or of too few images to be cut; says which.
    """
    train, val, test = (parts.get(part) for part in ("train", "val", "test"))
    held_out = test if val is None else val
    if held_out is None:
        assert train is not None
        order = _order(train, pieces=4)
        quarter = len(order) // 4
        return Splits(
            name=name,
            train=train.read(order[2 * quarter :].sort().values),
            search=train.read(order[:quarter].sort().values),
            read_report=functools.partial(train.read, order[quarter : 2 * quarter].sort().values),
            search_from_train=True,
            origin=_origin("a quarter of train", quarter, "another quarter", quarter),
        )
    if val is not None and test is not None:
        origin = _origin("val", len(val), "test", len(test))
        return Splits(name, _read(train), val.read(), test.read, origin=origin)
    if train is not None and test is not None:
        whole = train.read()
        _check_size(train, pieces=5)
        with named(train.where):
            ours, search = hold_out_by_content(whole)
        origin = _origin("cut from train", len(search), "test", len(test))
        return Splits(name, ours, search, test.read, search_from_train=True, origin=origin)
    order = _order(held_out, pieces=2)
    half = min(SEARCH_IMAGES, len(order) // 2)
    return Splits(
        name=name,
        train=_read(train),
        search=held_out.read(order[:half].sort().values),
        read_report=functools.partial(held_out.read, order[half:].sort().values),
        origin=_origin(
            f"half of {'val' if test is None else 'test'}", half, "the rest", len(order) - half
        ),
    )


def _origin(search: str, searched: int, report: str, reported: int) -> str:
    """`Splits.origin`."""
    return f"search is {search} ({searched:,} images), report is {report} ({reported:,})"


def _read(part: Part | None) -> Split | None:
    return None if part is None else part.read()


def _order(part: Part, pieces: int) -> Tensor:
    """Its positions, mixed by a fixed seed, to be cut into so many pieces."""
    _check_size(part, pieces)
    return torch.randperm(len(part), generator=torch.Generator().manual_seed(SPLIT_SEED))


def _check_size(part: Part, pieces: int) -> None:
    if len(part) < pieces:
        raise ValueError(
            f"{part.where}: to be cut into search images and others it has to hold {pieces} images "
            f"or more, not {len(part)}; give more, or parts of their own (train, val, test)."
        )


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Within it an error says where the images are from."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
