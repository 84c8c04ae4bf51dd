"""Statistics over seeds and tasks, after Agarwal et al., 2021 (arXiv 2108.13264, "rliable").

A score matrix is ``[runs, tasks]``. The authors' package does not run beside pandas 3, so that the
four functions of it that are needed stand here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Of score matrices ``[..., runs, tasks]``, one number each ``[...]``."""

RESAMPLES = 2_000

FEWEST_RUNS = 3
"""Before anything is said of an interval over runs."""


def interquartile_mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half of each task's runs, and of that over all tasks.

    rliable pools runs and tasks, which is for dozens of tasks: of four it would leave the hardest
    one out. Here every task counts alike, and what few runs reach or miss counts in none.

    Exactly half: where a quarter of the runs is no whole number, the outermost of the middle count
    in part, so that every run twice over has the same mean.

    Args:
        scores: ``[..., runs, tasks]``.
    """
    ordered = np.sort(scores, axis=-2)
    count = ordered.shape[-2]
    place, cut = np.arange(count), count / 4
    inside = np.minimum(place + 1, count - cut) - np.maximum(place, cut)
    middle = np.swapaxes(ordered, -1, -2) @ (inside.clip(0, 1) / (count / 2))
    return middle.mean(axis=-1)


def interval(
    scores: ArrayLike, statistic: Statistic = interquartile_mean, seed: int = 0
) -> tuple[float, float]:
    """Stratified bootstrap 95 % interval: runs are drawn anew within every task.

    Widened by ``sqrt(n / (n - 1))`` for ``n`` runs, by which draws from so few vary too little.

    Args:
        scores: ``[runs, tasks]``, or ``[runs]`` of one task.
        statistic: What it is an interval of.
        seed: Of the draws.
    """
    return _percentiles(_drawn(scores, statistic, np.random.default_rng(seed)))


def difference_interval(
    first: ArrayLike, second: ArrayLike, statistic: Statistic = interquartile_mean, seed: int = 0
) -> tuple[float, float]:
    """Likewise of the statistic of ``first`` minus that of ``second``, on the same tasks."""
    rng = np.random.default_rng(seed)
    drawn = [_drawn(scores, statistic, rng) for scores in (first, second)]
    return _percentiles(drawn[0] - drawn[1])


def summary(scores: NDArray[np.float64], style: str = ".3f") -> str:
    """Interquartile mean, and its interval where there are runs enough.

    Args:
        scores: ``[runs, tasks]``.
        style: Format of the numbers.
    """
    middle = f"{float(interquartile_mean(scores)):{style}}"
    if len(scores) < FEWEST_RUNS:
        return middle
    low, high = interval(scores)
    return f"{middle} ({low:{style}} to {high:{style}})"


def verdict(ours: NDArray[np.float64], theirs: NDArray[np.float64], enough: bool = True) -> str:
    """Whether a regret is lower than another one, in words, and the interval of the difference.

    Args:
        ours: ``[runs, tasks]``.
        theirs: Likewise, on the same tasks.
        enough: Whether there are runs enough; else only the difference is stated.
    """
    if not enough:
        return f"{float(interquartile_mean(ours) - interquartile_mean(theirs)):+.3f}"
    low, high = difference_interval(ours, theirs)
    word = "ahead" if high < 0 else "behind" if low > 0 else "undecided"
    return f"{word} ({low:+.3f} to {high:+.3f})"


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> NDArray[np.float64]:
    """Share of runs, all tasks pooled, whose score is at most each threshold."""
    pooled = np.asarray(scores, dtype=np.float64).ravel()
    return (pooled[:, None] <= np.asarray(thresholds, dtype=np.float64)).mean(axis=0)


def best_of_random(found: NDArray[np.float64], worth: NDArray[np.float64], draws: int) -> float:
    """Expected worth of that one of ``draws`` different random assignments that looks best.

    Exact, by the hypergeometric distribution of the best rank; ties go to the first.

    Args:
        found: What a search sees of every assignment, higher is better, ``[assignments]``.
        worth: What each is worth, ``[assignments]``.
        draws: At least 1; more than there are assignments means all.
    """
    count = len(found)
    draws = min(draws, count)
    order = np.argsort(-found, kind="stable")
    # Of rank r: C(count - r - 1, draws - 1) / C(count, draws), each a multiple of the one before.
    rank = np.arange(1, count - draws + 1)
    factors = (count - rank - draws + 1) / (count - rank)
    chance = draws / count * np.cumprod(np.append(1.0, factors))
    return float(chance @ worth[order[: len(chance)]])


def _matrix(scores: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(scores, dtype=np.float64)
    return matrix[:, None] if matrix.ndim == 1 else matrix


def _drawn(
    scores: ArrayLike, statistic: Statistic, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The statistic of runs that are drawn anew, ``[RESAMPLES]``."""
    matrix = _matrix(scores)
    runs, tasks = matrix.shape
    drawn = rng.integers(runs, size=(RESAMPLES, runs, tasks))
    middle = statistic(matrix)
    widened = np.sqrt(runs / max(runs - 1, 1))
    return middle + widened * (statistic(matrix[drawn, np.arange(tasks)]) - middle)


def _percentiles(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
