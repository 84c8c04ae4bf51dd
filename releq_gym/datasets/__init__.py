"""Data sets, each split once and for all into ``train``, ``search`` and ``report``.

The official training split gives ``train`` and ``search``, the official test split is ``report``;
a validation split, where there is one, is ``search``. One file per family; a new one registers a
loader under a name and is done.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from releq_gym.datasets.base import DATASETS, Split, Splits, refuse_seen
from releq_gym.datasets.image_folder import image_folder, is_image_folder
from releq_gym.datasets.npz import npz
from releq_gym.registry import UnknownNameError

__all__ = ["DATASETS", "Split", "Splits", "load_splits"]


def load_splits(
    dataset: str | Splits,
    data: str | os.PathLike | Splits | None = None,
    search_from_train: bool = True,
) -> Splits:
    """The splits of a data set.

    A network states the *name* of its data set; ``data`` says where that lies, or what to take
    instead. In this order, ``data`` is

    1. the name of another data set, looked for in ``$RELEQ_GYM_DATA``, else in the user's cache;
    2. a data set by itself: an ``.npz`` file (`npz`) or a folder with one folder of images per
       class (`image_folder`; read by `imagenet` for networks of that data set);
    3. any other folder: it holds the named data set in its official form.

    Args:
        dataset: A registered name or, without ``data``, a path as in 2; empty where ``data`` says
            all.
        data: As above; None looks in ``$RELEQ_GYM_DATA``, else in the user's cache folder, where
            what is missing is downloaded. A `Splits` object, here or there, is taken at its word
            and returned.
        search_from_train: Whether the search images may be cut from the official training
            split. False is for networks that were trained elsewhere and have seen all of it.

    Raises:
        ValueError: For an unknown name, missing or damaged data, or a search split that is cut
            from the training split although it may not be.
    """
    if isinstance(data, Splits):
        return data
    if isinstance(dataset, Splits):
        return dataset
    splits = _read(dataset, data)
    if not search_from_train:
        refuse_seen(splits)
    return splits


def _read(dataset: str, data: str | os.PathLike | None) -> Splits:
    if not dataset and data is None:
        raise ValueError(
            "Nothing says which data to take: name a data set, an .npz file or a folder of images."
        )
    if data is not None and str(data) in DATASETS:
        dataset, data = str(data), None
    path = dataset if data is None else data
    if str(path).endswith(".npz"):
        return npz(path)
    if path not in DATASETS and dataset != "imagenet" and is_image_folder(path):
        if dataset in DATASETS and dataset != "digits":
            # A folder of data sets, in which some pictures lie, too.
            with contextlib.suppress(ValueError):
                return replace(DATASETS[dataset](data), official=True)
        return image_folder(path)
    if dataset not in DATASETS:
        if Path(path).expanduser().exists():
            raise ValueError(
                f"{path} is no data set: an .npz file is one, or a folder of images, "
                "[train/ | val/ | test/]<class>/<image>."
            )
        raise UnknownNameError(
            "data set", str(path), DATASETS.names(), "Or give an .npz file or a folder of images."
        )
    return replace(DATASETS[dataset](data), official=True)
