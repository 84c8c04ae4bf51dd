"""From rows to tables; nothing here runs a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.leaderboard.sweep import ENTRANTS, Track
from benchmarks.statistics import FEWEST_RUNS, interquartile_mean, summary, verdict
from benchmarks.tables import Table

REFERENCE = "recurrent_ppo"
"""Whose differences from everybody else are shown."""


class Standing(NamedTuple):
    """One entrant on a track.

    Attributes:
        entrant: By name.
        scores: Search regret by budget, each ``[runs, tasks]``.
        report: Report regret by budget, likewise.
        walk: Search regret of the policy's greedy walk in the end, median; NaN where there is none.
        excess: Bits per weight above the optimum's at the last budget, median.
        seconds: Of the search itself, median.
    """

    entrant: str
    scores: dict[int, NDArray[np.float64]]
    report: dict[int, NDArray[np.float64]]
    walk: float
    excess: float
    seconds: float

    @property
    def label(self) -> str:
        """In tables."""
        return ENTRANTS[self.entrant].label

    def iqm(self, budget: int) -> float:
        """Interquartile mean of the search regret at a budget, or at its last one before."""
        return float(interquartile_mean(at(self.scores, budget)))


def at(scores: dict[int, NDArray[np.float64]], budget: int) -> NDArray[np.float64]:
    """What was reached at a budget: where a run has ended before it, its end."""
    return scores[max((one for one in scores if one <= budget), default=min(scores))]


def standings(rows: pd.DataFrame, track: Track) -> list[Standing]:
    """Everybody who has finished a seed on all tasks of a track, the best where it is ranked first.

    Args:
        rows: As `benchmarks.runs.run` returns them.
        track: Which.
    """
    of_track = rows[rows["task"].isin(track.tasks)]
    found = []
    for entrant, group in of_track.groupby("searcher"):
        scores = _matrices(group, "search_regret", track)
        if scores is None:
            continue
        report = _matrices(group, "regret", track)
        assert report is not None
        last = group[group["budget"] == group.groupby("task")["budget"].transform("max")]
        found.append(
            Standing(
                str(entrant),
                scores,
                report,
                float(last["walk_search_regret"].median()),
                float(last["excess_bits"].median()),
                float(last["seconds"].median()),
            )
        )
    return sorted(found, key=lambda one: one.iqm(track.ranked_at))


def planned(rows: pd.DataFrame, tracks: Iterable[Track]) -> pd.DataFrame:
    """The rows that count: of these tracks' tasks and seeds, and of entrants.

    Raises:
        ValueError: Where one is there twice.
    """
    key = ["task", "searcher", "seed", "budget"]
    if len(twice := rows[rows.duplicated(key)]):
        named = " ".join(map(str, twice[key].iloc[0]))
        raise ValueError(f"The row of {named} is there twice; remove one.")
    seeds = {(task, seed) for track in tracks for task in track.tasks for seed in track.seeds}
    tasks = {task for task, _ in seeds}
    count = [
        one.searcher in ENTRANTS
        and (
            one.task in tasks
            if ENTRANTS[one.searcher].kind == "known"
            else (one.task, one.seed) in seeds
        )
        for one in rows[key].itertuples()
    ]
    return rows[count]


def has_report(found: Iterable[Standing]) -> bool:
    """Whether there are data that no search sees, on which answers are worth something else."""
    return any(
        not np.array_equal(one.scores[b], one.report[b]) for one in found for b in one.scores
    )


def _matrices(
    group: pd.DataFrame, column: str, track: Track
) -> dict[int, NDArray[np.float64]] | None:
    """``[runs, tasks]`` by budget, of the seeds with runs on all tasks; None where none has."""
    matrices = {}
    if ENTRANTS[str(group["searcher"].iloc[0])].kind == "known":
        # They know everything: their budget is the size of the space, another one on each task.
        group = group.assign(budget=track.budgets[-1])
    for budget, of_budget in group.groupby("budget"):
        by_seed = of_budget.pivot_table(column, "seed", "task").reindex(columns=list(track.tasks))
        matrices[int(budget)] = by_seed.dropna().to_numpy(float)
    return matrices if matrices and all(map(len, matrices.values())) else None


def tables(rows: pd.DataFrame, track: Track) -> Iterator[Table]:
    """The board of a track and the differences, of who has run all of it; each task alone."""
    found = standings(rows, track)
    if found:
        yield _board(found, track)
    if any(one.entrant == REFERENCE for one in found):
        yield _differences(found, track)
    for task in track.tasks:
        if len(of_task := rows[rows["task"] == task]):
            yield _task(of_task, task, track)


def _board(found: Sequence[Standing], track: Track) -> Table:
    ranked, report = track.ranked_at, has_report(found)
    lines = []
    for one in found:
        cells = []
        for budget in track.budgets:
            if budget > max(one.scores) and ENTRANTS[one.entrant].most is not None:
                cells.append("")
                continue
            cells.append(summary(at(one.scores, budget)))
        lines.append(
            (
                one.label,
                *cells,
                *([summary(at(one.report, ranked))] if report else []),
                "" if np.isnan(one.walk) else f"{one.walk:.3f}",
                f"{one.excess:+.2f}",
                "" if np.isnan(one.seconds) else f"{one.seconds:.0f}",
            )
        )
    return Table(
        track.title,
        "Search regret after so many different assignments, 0 the best that search data can tell, "
        "1 a random assignment: interquartile mean over the seeds that all tasks have, mean over "
        f"tasks, and its stratified bootstrap 95 % interval from {FEWEST_RUNS} seeds on. Ranked at "
        f"{ranked:,}. {f'Report regret at {ranked:,}. ' if report else ''}Search regret of a "
        "policy's greedy walk, bits per weight above the optimum's and seconds of computing: "
        "medians at the end.",
        (
            *("", *(f"{budget:,}" for budget in track.budgets)),
            *([f"report at {ranked:,}"] if report else []),
            *("walk", "bits", "seconds"),
        ),
        lines,
    )


def _differences(found: Sequence[Standing], track: Track) -> Table:
    ours = next(one for one in found if one.entrant == REFERENCE)
    ranked, report = track.ranked_at, has_report(found)
    lines = []
    for other in found:
        if other is ours or ENTRANTS[other.entrant].kind == "known":
            continue
        cells = []
        for budget in track.budgets:
            if budget > max(other.scores):
                cells.append("")
                continue
            cells.append(_verdict(at(ours.scores, budget), at(other.scores, budget)))
        if report:
            cells.append(_verdict(at(ours.report, ranked), at(other.report, ranked)))
        lines.append((other.label, *cells))
    return Table(
        f"{ENTRANTS[REFERENCE].label} against the others",
        "Its search regret minus theirs, 95 % interval of the difference; ahead or behind where "
        f"that excludes 0. With fewer than {FEWEST_RUNS} seeds of either, the difference alone."
        + (" In the end likewise, of report regret." if report else ""),
        (
            *("against", *(f"{budget:,}" for budget in track.budgets)),
            *([f"report at {ranked:,}"] if report else []),
        ),
        lines,
    )


def _verdict(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    return verdict(ours, theirs, enough=min(len(ours), len(theirs)) >= FEWEST_RUNS)


def _task(rows: pd.DataFrame, task: str, track: Track) -> Table:
    lines = []
    for entrant, one in ENTRANTS.items():
        group = rows[rows["searcher"] == entrant]
        if not len(group):
            continue
        medians = group.groupby("budget")[["search_regret", "regret"]].median()
        cells = []
        for budget in track.budgets:
            before = medians[medians.index <= budget]
            known = before.iloc[-1] if len(before) else medians.iloc[0]
            ended = one.most is not None and budget > one.most
            cells.append("" if ended else f"{known['search_regret']:.3f} / {known['regret']:.3f}")
        last = group[group["budget"] == group["budget"].max()]
        lines.append(
            (
                one.label,
                *cells,
                f"{last['weighted_bitwidth'].median():.2f}",
                f"{last['report_loss_points'].median():+.2f}",
                f"{last['releq'].median():.3f}",
                *(_counted(last[name]) for name in ("fresh", "simulated_seconds", "seconds")),
            )
        )
    return Table(
        task,
        "Medians over seeds: search regret / report regret after so many different assignments; "
        "then of the last answers: bits per weight, points lost on report data, the paper's reward "
        "there, accuracies revealed, seconds that measuring them takes, seconds of computing.",
        (
            "",
            *(f"{budget:,}" for budget in track.budgets),
            *("bits", "lost", "releq", "fresh", "measuring", "seconds"),
        ),
        lines,
    )


def _counted(values: pd.Series) -> str:
    """A median, or nothing of what nobody ran."""
    return f"{values.median():,.0f}" if values.notna().any() else ""
