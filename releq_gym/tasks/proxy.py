"""Whether a task's accuracy says what a network is worth after the long retraining."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.networks import NetworkLike
from releq_gym.tasks.format import Task
from releq_gym.tasks.plan import make_live
from releq_gym.tasks.surrogate import NEAR_POINTS, rank_correlation
from releq_gym.tasks.twin import live_twin

ASSIGNMENTS = 30

NEAR_SHARE = 2 / 3
"""Of them that lose less than `NEAR_POINTS` in the task: those that a search chooses from."""

SEED = 3_000_000
"""Of the long retrainings; used by no task."""


def proxy_quality(
    task: Task,
    data: str | os.PathLike | None = None,
    *,
    count: int = ASSIGNMENTS,
    quantizer: str | None = None,
    recipe_kwargs: Mapping[str, Any] | None = None,
    net: NetworkLike | None = None,
    weights: str | os.PathLike | None = None,
    advance: Callable[[int], object] = lambda done: None,
) -> dict[str, Any]:
    """Rank correlation between what a task has measured and what the ``long`` recipe gives.

    The latter on all search images, few of which many a task has been measured on. Retrainings are
    kept in the user's cache, so that a call that was stopped goes on where it was.

    Args:
        task: Whose network has a ``long`` recipe.
        data: Where its images lie.
        count: How many assignments are retrained.
        quantizer: What quantizes in the long retraining, for instance ``"lsq"``, which learns its
            steps; None means what the task was measured with.
        recipe_kwargs: Fields of that ``long`` recipe which are set otherwise, such as ``images``.
        net: As of `live_twin`, likewise the following.
        weights: Checkpoint of a network whose weights are not shipped.
        advance: Told how many have been.

    Returns:
        ``quantizer`` and ``recipe_fields`` of the long retraining, ``search_images`` that it was
        measured on, ``assignments``, ``spearman`` over all of them, ``near_assignments`` and
        ``near_spearman`` over those that lose less than `NEAR_POINTS` in the task (None where these
        are fewer than 3, or equal), and the pairs of accuracies as ``pairs``,
        ``[[bitwidths, task, long], ...]``.

    Raises:
        TaskError: Where the task was measured with something else than is at hand.
        ValueError: Where there is no ``long`` recipe, or fewer than 3 assignments are asked for.
    """
    from scipy.stats import spearmanr

    if count < 3:
        raise ValueError(f"count={count}; at least 3 assignments have to be retrained.")
    live_twin(task, data, net=net, weights=weights)  # refuses what the task was not measured with
    card = task.card
    own = quantizer in (None, card["quantizer"])
    evaluator = make_live(
        card["net"] if net is None else net,
        data=data,
        search_images=None,
        weights=weights,
        quantizer=card["quantizer"] if own else quantizer,
        quantizer_kwargs=card.get("quantizer_kwargs") if own else None,
        recipe="long",
        recipe_kwargs=recipe_kwargs,
        bitwidths=card["bitwidths"],
        activation_bitwidth=card["activation_bitwidth"],
    )
    measured = task.measurements("search")
    accuracies = measured.correct.mean(axis=1) / task.images("search")
    rows = _chosen(accuracies, task.full_precision_accuracy("search"), count)
    pairs = []
    for done, row in enumerate(rows.tolist(), start=1):
        assignment = task.assignment(measured, row)
        after = evaluator.measure(assignment, SEED).accuracy
        pairs.append([list(assignment), float(accuracies[row]), after])
        advance(done)
    before, after = np.array([pair[1:] for pair in pairs]).T
    near = before > task.full_precision_accuracy("search") - NEAR_POINTS / 100
    return {
        "quantizer": evaluator.quantizer.name,
        "recipe_fields": asdict(evaluator.recipe),
        "search_images": evaluator.images,
        "assignments": len(pairs),
        "spearman": rank_correlation(spearmanr, before, after),
        "near_assignments": int(near.sum()),
        "near_spearman": rank_correlation(spearmanr, before[near], after[near]),
        "pairs": pairs,
    }


def _chosen(accuracies: NDArray[np.float64], full: float, count: int) -> NDArray[np.intp]:
    """Rows, most of them of little loss."""
    rng = np.random.default_rng(0)
    near = np.flatnonzero(accuracies > full - NEAR_POINTS / 100)
    first = rng.permutation(near)[: round(NEAR_SHARE * count)]
    others = rng.permutation(np.setdiff1d(np.arange(len(accuracies)), first))
    return np.concatenate([first, others[: count - len(first)]])
