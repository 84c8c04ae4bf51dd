"""Data sets, each split once and for all into ``train``, ``search`` and ``report``.

The official training split gives ``train`` and ``search``, the official test split is ``report``.
One file per family; a new one registers a loader under a name and is done.
"""

from __future__ import annotations

import os

from releq_gym.datasets.base import DATASETS, Split, Splits

__all__ = ["DATASETS", "Split", "Splits", "load_splits"]


def load_splits(
    dataset: str | Splits,
    data: str | os.PathLike | None = None,
    search_from_train: bool = True,
) -> Splits:
    """The splits of a data set.

    Args:
        dataset: A registered name; a `Splits` object is taken at its word and returned.
        data: Folder or file that holds it; None looks in ``$RELEQ_GYM_DATA``, else in the user's
            cache folder, where it is downloaded.
        search_from_train: Whether the search images may be cut from the official training
            split. False is for networks that were trained elsewhere and have seen all of it.

    Raises:
        ValueError: For an unknown name, missing or damaged data, or a search split that is cut
            from the training split although it may not be.
    """
    if isinstance(dataset, Splits):
        return dataset
    splits = DATASETS[dataset](data)
    if splits.search_from_train and not search_from_train:
        raise ValueError(
            f"The data set {dataset!r} has no search split of its own: it is cut from the training "
            "images, which a network trained elsewhere has seen. Pass data=Splits(...) with "
            "held-out search images, or search_from_train=True to accept optimistic accuracies."
        )
    return splits
