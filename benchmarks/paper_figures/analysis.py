"""From rows to tables; nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from benchmarks.paper_figures.sweep import CLIPS, MEMORY, PAPER_SPEED_UP, REWARDS, VARIANTS
from benchmarks.statistics import (
    FEWEST_RUNS,
    difference_interval,
    interquartile_mean,
)
from benchmarks.statistics import summary as described
from benchmarks.tables import Table

SHARE = 0.9
"""Of the way from the first reward to the last: there a run has converged."""

LAST = 3
"""Checkpoints whose mean is the last reward of a run."""

SPEED = "share of the budget until converged"


class Measure(NamedTuple):
    """Something that runs are compared by.

    Attributes:
        column: Of `summary`.
        label: In tables.
        sign: 1 where less is better, -1 where more is.
    """

    column: str
    label: str
    sign: int


REGRET = Measure("search_regret", "regret of the answer", 1)

MEASURES = (
    REGRET,
    Measure("walk_regret", "regret of the walk", 1),
    Measure("walk_releq", "the paper's reward of the walk", -1),
    Measure("converged", SPEED, 1),
)


def until(places: ArrayLike, rewards: ArrayLike, level: float) -> float:
    """Where a curve first reaches a level, interpolated; its end where it never does.

    Args:
        places: Of its points, ascending.
        rewards: There.
        level: To be reached.
    """
    places, rewards = np.asarray(places, dtype=float), np.asarray(rewards, dtype=float)
    reached = np.flatnonzero(rewards >= level)
    if not len(reached):
        return float(places[-1])
    first = reached[0]
    if first == 0:
        return float(places[0])
    step = (level - rewards[first - 1]) / (rewards[first] - rewards[first - 1])
    return float(places[first - 1] + step * (places[first] - places[first - 1]))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One record per run: its last row, and how soon it has converged.

    Columns besides those of the rows: ``start`` and ``end``, the first and last reward;
    ``converged``, the share of the budget until the reward is `SHARE` of the way between them,
    and ``converged_episodes``, the episodes until then. A run whose reward has not risen has not
    converged before its end.

    Args:
        rows: As `benchmarks.paper_figures.run.run` returns them.
    """
    records = []
    for _, group in rows.sort_values("budget").groupby(["task", "searcher", "seed"], sort=False):
        rewards = group["reward"].to_numpy(float)
        start, end = rewards[0], rewards[-LAST:].mean()
        level = start + SHARE * (end - start) if end > start else np.inf
        records.append(
            {
                **group.iloc[-1],
                "start": start,
                "end": end,
                "converged": until(group["budget"], rewards, level) / group["budget"].iloc[-1],
                "converged_episodes": until(group["episodes"], rewards, level),
            }
        )
    return pd.DataFrame(records)


def common_level(rows: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """How soon each run reaches a reward that is the same for all variants on a task.

    It is `SHARE` of the way from the median first reward to the lowest of the variants' median
    last ones. Columns: ``task, searcher, seed, common``, the last a share of the budget.

    Args:
        rows: As of `summary`, of variants that learn from one reward.
        variants: That are compared.
    """
    runs = summary(rows)
    records = []
    for task, of_task in runs.groupby("task"):
        start = of_task["start"].median()
        end = min(of_task.loc[of_task["searcher"] == one, "end"].median() for one in variants)
        level = start + SHARE * (end - start)
        for (searcher, seed), group in (
            rows[rows["task"] == task].sort_values("budget").groupby(["searcher", "seed"])
        ):
            reached = until(group["budget"], group["reward"], level) / group["budget"].max()
            records.append({"task": task, "searcher": searcher, "seed": seed, "common": reached})
    return pd.DataFrame(records)


def shared(rows: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """The rows of those tasks and seeds that all variants have finished, equally many per task.

    Tasks with fewer than `FEWEST_RUNS` such seeds are left out where others have as many.
    """
    of_variants = rows[rows["searcher"].isin(variants)]
    counts = of_variants.groupby(["task", "seed"])["searcher"].nunique()
    complete = counts[counts == len(variants)].reset_index().sort_values("seed")
    seeds = complete.groupby("task")["seed"].transform("size")
    if (seeds >= FEWEST_RUNS).any():
        complete = complete[seeds >= FEWEST_RUNS]
    fewest = complete.groupby("task").size().min() if len(complete) else 0
    kept = complete.groupby("task").head(fewest)[["task", "seed"]]
    return of_variants.merge(kept, on=["task", "seed"])


def _seeds(runs: pd.DataFrame) -> int:
    """Of each task, at the least."""
    return int(runs.groupby("task")["seed"].nunique().min()) if len(runs) else 0


def matrix(runs: pd.DataFrame, variant: str, column: str) -> NDArray[np.float64]:
    """``[runs, tasks]`` of one variant."""
    of_variant = runs[runs["searcher"] == variant].sort_values(["task", "seed"])
    return np.stack([group[column].to_numpy(float) for _, group in of_variant.groupby("task")], 1)


def speed_up(slow: NDArray[np.float64], fast: NDArray[np.float64]) -> tuple[float, float, float]:
    """How many times faster, with its 95 % interval, by the interquartile mean of logarithms."""
    logarithms = np.log(slow), np.log(fast)
    middle = interquartile_mean(logarithms[0]) - interquartile_mean(logarithms[1])
    low, high = difference_interval(*logarithms)
    return float(np.exp(middle)), float(np.exp(low)), float(np.exp(high))


def claim(low: float, high: float, value: float = PAPER_SPEED_UP) -> str:
    """What an interval of a speed-up says of no speed-up at all, and of the published one."""
    faster = "faster" if low > 1 else "slower" if high < 1 else "no difference shown"
    within = "within" if low <= value <= high else "outside"
    return f"{faster}; {value:g} is {within} the interval"


def verdict(low: float, high: float) -> str:
    """Of an interval of a difference in which less is better."""
    return "better" if high < 0 else "worse" if low > 0 else "undecided"


def reward_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """Rewards and clip ranges, each against `releq` as the paper has it."""
    for title, variants, reference in (
        ("Rewards", REWARDS, "releq"),
        ("Clip ranges, reward `releq`", CLIPS, "releq, clip 0.1"),
    ):
        found = shared(rows, variants)
        if found.empty:
            continue
        runs = summary(found)
        yield _board(title, runs, variants)
        if _seeds(runs) >= FEWEST_RUNS:
            yield _against(title, runs, variants, reference)
        yield _by_task(title, runs, variants)


def memory_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """LSTM or none, under both observations."""
    every = tuple(dict.fromkeys(variant for pair in MEMORY.values() for variant in pair))
    found = shared(rows, every)
    if not found.empty:
        yield _board("Memory", summary(found), every)
    lines = []
    for label, pair in MEMORY.items():
        found = shared(rows, pair)
        if _seeds(found) >= FEWEST_RUNS:
            lines.append((label, *_memory_cells(found, *pair)))
    if lines:
        yield Table(
            "With an LSTM against without",
            "How many times sooner the LSTM converges, in evaluations and in episodes by each "
            "run's own last reward, and in evaluations until a reward that both reach "
            "(interquartile mean of the ratio, 95 % interval); its regret minus that of the MLP. "
            f"The paper says {PAPER_SPEED_UP:g} times.",
            (
                *("", "runs each", "sooner, evaluations", "verdict", "sooner, episodes"),
                *("sooner, common reward", "regret of the answer"),
            ),
            lines,
        )


def _memory_cells(rows: pd.DataFrame, lstm: str, mlp: str) -> list[str]:
    runs = summary(rows).merge(common_level(rows, (lstm, mlp)), on=["task", "searcher", "seed"])
    ratios = {
        column: speed_up(matrix(runs, mlp, column), matrix(runs, lstm, column))
        for column in ("converged", "converged_episodes", "common")
    }
    shown = {name: f"{x:.2f} ({low:.2f} to {high:.2f})" for name, (x, low, high) in ratios.items()}
    regrets = [matrix(runs, one, REGRET.column) for one in (lstm, mlp)]
    low, high = difference_interval(regrets[0], regrets[1])
    return [
        str(regrets[0].size),
        shown["converged"],
        claim(*ratios["converged"][1:]),
        shown["converged_episodes"],
        shown["common"],
        f"{verdict(low, high)} ({low:+.3f} to {high:+.3f})",
    ]


def _board(title: str, runs: pd.DataFrame, variants: Sequence[str]) -> Table:
    lines = []
    for variant in variants:
        of_variant = runs[runs["searcher"] == variant]
        lines.append(
            (
                VARIANTS[variant].label,
                *(described(matrix(runs, variant, one.column)) for one in MEASURES),
                f"{100 * of_variant['walk_keeps'].mean():.0f} %",
                f"{of_variant['walk_loss_points'].median():.2f}",
                f"{of_variant['walk_bits'].median():.2f}",
            )
        )
    tasks = runs["task"].nunique()
    return Table(
        title,
        f"Tasks: {tasks}; seeds of each: {_seeds(runs)}. Interquartile mean over seeds, mean over "
        f"tasks and, from {FEWEST_RUNS} seeds on, its 95 % interval; then of the walks the share "
        "within the tolerated loss, and medians of points lost and bits per weight.",
        ("", *(one.label for one in MEASURES), "within", "lost", "bits"),
        lines,
    )


def _against(title: str, runs: pd.DataFrame, variants: Sequence[str], reference: str) -> Table:
    lines = []
    for other in variants:
        if other == reference:
            continue
        cells = []
        for one in MEASURES:
            ours, theirs = (matrix(runs, name, one.column) for name in (reference, other))
            low, high = difference_interval(ours, theirs)
            better = verdict(*sorted((one.sign * low, one.sign * high)))
            cells.append(f"{better} ({low:+.3f} to {high:+.3f})")
        lines.append((VARIANTS[other].label, *cells))
    return Table(
        f"{title}: {VARIANTS[reference].label} against the others",
        "Its figure minus theirs, 95 % interval; better or worse where that excludes 0.",
        ("against", *(one.label for one in MEASURES)),
        lines,
    )


def _by_task(title: str, runs: pd.DataFrame, variants: Sequence[str]) -> Table:
    tasks = sorted(runs["task"].unique())
    medians = runs.groupby(["searcher", "task"]).median(numeric_only=True)
    lines = []
    for variant in variants:
        cells = []
        for task in tasks:
            one = medians.loc[(variant, task)]
            cells.append(
                f"{one['search_regret']:.3f} / {one['walk_regret']:.3f} / {one['walk_releq']:.3f} "
                f"/ {one['walk_loss_points']:.2f}"
            )
        lines.append((VARIANTS[variant].label, *cells))
    return Table(
        f"{title}: by task",
        "Medians over seeds: regret of the answer / regret of the walk / the paper's reward of the "
        "walk / points that it loses.",
        ("", *tasks),
        lines,
    )
