"""The 1,797 handwritten 8x8 digits that scikit-learn carries."""

from __future__ import annotations

import functools
import os

import torch

from releq_gym.datasets.base import DATASETS, SPLIT_SEED, Split, Splits, take


@DATASETS.register("digits")
def digits(data: str | os.PathLike | None = None) -> Splits:
    """Half for training, a quarter for the search, a quarter for the report, stratified by class.

    Args:
        data: Not used: the images come with scikit-learn.

    Source: https://archive.ics.uci.edu/dataset/80 (its test part), without an official split.
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    everything = Split(
        images=torch.from_numpy(bundle.images).to(torch.float32).unsqueeze(1) / 16,
        labels=torch.from_numpy(bundle.target).to(torch.int64),
    )
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    shuffled = torch.randperm(len(everything), generator=generator)
    # Dealing the images round, class after class, gives every split its share of each class.
    by_class = shuffled[everything.labels[shuffled].argsort(stable=True)]
    train = torch.cat([by_class[2::4], by_class[3::4]])
    return Splits(
        name="digits",
        train=take(everything, train),
        search=take(everything, by_class[0::4]),
        read_report=functools.partial(take, everything, by_class[1::4]),
        search_from_train=True,
        files=(),
    )
