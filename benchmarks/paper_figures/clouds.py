"""What was measured of a network's assignments, and the ones that have a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.live_speed.nets import PUBLISHED
from benchmarks.runs import mean_accuracy
from benchmarks.tables import Table
from releq_gym.env import QuantizeNetEnv
from releq_gym.problem import Problem
from releq_gym.tasks.catalog import DEFAULT_TASKS, find_task, shipped_tasks
from releq_gym.tasks.format import configurations

ANSWERS = "accuracy_floor"
"""The variant whose answers are drawn: the agent as it is by default."""


class Point(NamedTuple):
    """One assignment.

    Attributes:
        bitwidths: First layer to last.
        cost: All layers at 8 bits = 1.
        accuracy: On search data.
        measured: Whether it is, or else predicted.
    """

    bitwidths: tuple[int, ...]
    cost: float
    accuracy: float
    measured: bool


class Cloud(NamedTuple):
    """A task's assignments on search data.

    Attributes:
        net: By name.
        task: Likewise.
        full_precision_accuracy: Of the network as it was.
        floor: Least accuracy that the task tolerates.
        costs: Of everything measured, ``[rows]``.
        accuracies: Likewise.
        uniform: All layers at the same bitwidth, fewest bits first.
        published: The paper's assignment, where it has one of this many layers.
        answers: Of our agent, a seed each.
    """

    net: str
    task: str
    full_precision_accuracy: float
    floor: float
    costs: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    uniform: list[Point]
    published: Point | None
    answers: list[Point]


def cloud_tasks() -> dict[str, str]:
    """The shipped task of every network that has one."""
    return {net: task for net, task in DEFAULT_TASKS.items() if task in shipped_tasks()}


def front(costs: ArrayLike, accuracies: ArrayLike) -> NDArray[np.intp]:
    """Assignments that no cheaper or equally cheap one matches in accuracy, cheapest first."""
    costs, accuracies = np.asarray(costs), np.asarray(accuracies)
    order = np.lexsort((-accuracies, costs))
    best_before = np.append(-np.inf, np.maximum.accumulate(accuracies[order])[:-1])
    return order[accuracies[order] > best_before]


def make_cloud(net: str, rows: Iterable[Mapping[str, str]]) -> Cloud:
    """The cloud of a network.

    Args:
        net: One of `cloud_tasks`.
        rows: Of runs.
    """
    task = find_task(cloud_tasks()[net])
    problem = QuantizeNetEnv(task=task.card["id"]).problem
    measured = task.measurements("search")
    assignments = measured.bitwidths
    if assignments is None:
        assignments = configurations(task.bitwidths, len(task.layers))
    accuracies = measured.correct.mean(axis=1) / task.images("search")
    known = dict(zip(map(tuple, assignments.tolist()), accuracies.tolist(), strict=True))

    def point(bitwidths: Sequence[int]) -> Point:
        one = tuple(bitwidths)
        accuracy = known.get(one)
        if accuracy is None:
            return Point(one, problem.cost(one), mean_accuracy(problem.evaluator, one), False)
        return Point(one, problem.cost(one), accuracy, True)

    depth = len(task.layers)
    published = PUBLISHED.get(net)
    possible = (
        published is not None and len(published) == depth and set(published) <= {*task.bitwidths}
    )
    full = task.full_precision_accuracy("search")
    return Cloud(
        net,
        task.name,
        full,
        full - problem.max_loss_points / 100,
        costs_of(problem, assignments),
        accuracies,
        [point((bitwidth,) * depth) for bitwidth in task.bitwidths],
        point(published) if possible and published is not None else None,
        [point(answer) for answer in _answers(task.card["id"], rows)],
    )


def costs_of(problem: Problem, assignments: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of many assignments ``[rows, layers]``."""
    table = np.stack([problem.layer_costs(bitwidth) for bitwidth in problem.bitwidths], axis=1)
    digits = np.searchsorted(problem.bitwidths, assignments)
    chosen = table[np.arange(len(problem.layers)), digits].sum(axis=1)
    return chosen / problem.layer_costs(8).sum()


def _answers(task: str, rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, ...]]:
    """The last answer of each run, by seed."""
    last: dict[int, tuple[int, tuple[int, ...]]] = {}
    for row in rows:
        if (row["task"], row["searcher"]) == (task, ANSWERS):
            seed, budget = int(row["seed"]), int(row["budget"])
            if seed not in last or budget > last[seed][0]:
                last[seed] = budget, tuple(map(int, row["bitwidths"].split()))
    return [last[seed][1] for seed in sorted(last)]


def cloud_table(clouds: Iterable[Cloud]) -> Table:
    """What each cloud has at the tolerated loss, beside what has a name."""
    lines: list[tuple[str, ...]] = []
    for cloud in clouds:
        within = cloud.costs[cloud.accuracies >= cloud.floor - 1e-9]
        uniform = [one.cost for one in cloud.uniform if one.accuracy >= cloud.floor - 1e-9]
        kept = [one for one in cloud.answers if one.accuracy >= cloud.floor - 1e-9]
        costs = [one.cost for one in cloud.answers]
        lines.append(
            (
                cloud.net,
                f"{len(cloud.costs):,}",
                f"{within.min():.3f}" if len(within) else "none",
                f"{min(uniform):.3f}" if uniform else "none",
                _shown(cloud.published, cloud.full_precision_accuracy) if cloud.published else "",
                f"{np.median(costs):.3f} ({min(costs):.3f} to {max(costs):.3f})" if costs else "",
                f"{len(kept)} of {len(costs)}" if costs else "",
            )
        )
    return Table(
        "Clouds",
        "Cost on search data (all layers at 8 bits = 1) of the cheapest assignment within the "
        "tolerated loss among all that were measured, of the cheapest such uniform one, of the "
        "paper's and the points that it loses, and of our agent's answers: median, least, most, "
        "and how many are within it. The agent sees what a surrogate predicts, where there is one "
        "(marked ~ where that is all that is known of an assignment).",
        ("net", "measured", "cheapest", "uniform", "published", "ours", "within"),
        lines,
    )


def _shown(point: Point, full_precision_accuracy: float) -> str:
    lost = 100 * (full_precision_accuracy - point.accuracy)
    return f"{point.cost:.3f}, {'' if point.measured else '~'}{lost:+.2f}"
