"""From rows to tables; nothing here runs anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.generalisation.sweep import BUDGETS, DEVELOPMENT, ENTRANTS, REFERENCE
from benchmarks.statistics import FEWEST_RUNS, summary, verdict
from benchmarks.tables import Table

Scores = dict[int, NDArray[np.float64]]
"""Search regret by budget, each ``[runs, tasks]``."""

BUDGET_HEADS = tuple(f"{budget} evaluations" for budget in BUDGETS)


def scores(rows: pd.DataFrame, entrant: str, tasks: Sequence[str]) -> Scores:
    """Of an entrant; without the budgets at which a run on one of the tasks is missing.

    Args:
        rows: As `benchmarks.generalisation.run.run` returns them.
        entrant: By name.
        tasks: By name. Of as many seeds as all of them have.
    """
    found = {}
    for budget in BUDGETS:
        of_budget = rows[(rows["searcher"] == entrant) & (rows["budget"] == budget)]
        by_task = [
            of_budget[of_budget["task"] == task]
            .sort_values("seed")["search_regret"]
            .to_numpy(float)
            for task in tasks
        ]
        runs = min(map(len, by_task), default=0)
        if runs:
            found[budget] = np.stack([regrets[:runs] for regrets in by_task], axis=1)
    return found


def counted_tasks(tasks: dict[str, str]) -> list[str]:
    """Those that are averaged: not those for development.

    Args:
        tasks: By network.
    """
    return [task for net, task in tasks.items() if net not in DEVELOPMENT]


def tables(rows: pd.DataFrame, tasks: dict[str, str]) -> Iterator[Table]:
    """The board, the differences, and each network alone.

    Args:
        rows: As `benchmarks.generalisation.run.run` returns them.
        tasks: By network.
    """
    counted = counted_tasks(tasks)
    found = {entrant: scores(rows, entrant, counted) for entrant in ENTRANTS}
    found = {entrant: of_entrant for entrant, of_entrant in found.items() if of_entrant}
    if found:
        yield _board(rows[rows["task"].isin(counted)], found)
    if REFERENCE in found:
        yield _differences(found)
    if (memory := _memory(found)).rows:
        yield memory
    for net, task in tasks.items():
        of_task = rows[rows["task"] == task]
        if len(of_task):
            yield _net(of_task, net, task)


def _board(rows: pd.DataFrame, found: dict[str, Scores]) -> Table:
    lines = []
    for entrant, of_entrant in found.items():
        cells = [summary(of_entrant[one]) if one in of_entrant else "" for one in BUDGETS]
        own = rows[rows["searcher"] == entrant].sort_values("seed")
        held = [
            _share(own[own["budget"] == one].groupby("task").head(len(of_entrant[one])))
            if one in of_entrant
            else ""
            for one in BUDGETS
        ]
        runs = min(map(len, of_entrant.values()))
        lines.append((ENTRANTS[entrant].label, f"{runs}", *cells, *held))
    return Table(
        "On networks that were held out",
        "Search regret of the answer after so many evaluations of the network, 0 the best that "
        "search data can tell, 1 a random assignment: interquartile mean over seeds, mean over "
        "networks, and its stratified bootstrap 95 % interval. Then the share of answers that keep "
        "the tolerated loss on search data.",
        (
            *("", "seeds"),
            *BUDGET_HEADS,
            *(f"kept at {budget}" for budget in BUDGETS),
        ),
        lines,
    )


def _share(rows: pd.DataFrame) -> str:
    """Answers whose objective is not negative, as `accuracy_floor` has it for tolerable losses."""
    return f"{(rows['objective'] >= 0).mean():.0%}" if rows["objective"].notna().any() else ""


def _differences(found: dict[str, Scores]) -> Table:
    ours = found[REFERENCE]
    lines = []
    for entrant, theirs in found.items():
        if entrant != REFERENCE:
            cells = _compared(ours, theirs, entrant)
            if any(cells):
                lines.append((ENTRANTS[entrant].label, *cells))
    return Table(
        f"{ENTRANTS[REFERENCE].label} against the others",
        "Its search regret minus theirs at the same number of evaluations, 95 % interval of the "
        f"difference; ahead or behind where that excludes 0. Fewer than {FEWEST_RUNS} seeds have "
        "no interval, but for those whose seeds are all alike.",
        ("against", *BUDGET_HEADS),
        lines,
    )


def _memory(found: dict[str, Scores]) -> Table:
    """Policies that differ by their LSTM alone."""
    lines = []
    for entrant, one in ENTRANTS.items():
        bare = dataclasses.replace(one, label="", memory=False)
        for other, without in ENTRANTS.items():
            alike = dataclasses.replace(without, label="") == bare
            if one.memory and alike and entrant in found and other in found:
                lines.append((one.label, *_compared(found[entrant], found[other], other)))
    return Table(
        "With memory against without",
        "As above: the search regret of a policy with an LSTM minus that of the same policy "
        "without.",
        ("", *BUDGET_HEADS),
        lines,
    )


def _compared(ours: Scores, theirs: Scores, entrant: str) -> list[str]:
    """A cell per budget; ``entrant`` is the one that ours is compared with."""
    return [
        verdict(ours[one], theirs[one], enough=_enough(ours[one], theirs[one], entrant))
        if one in ours and one in theirs
        else ""
        for one in BUDGETS
    ]


def _enough(ours: NDArray[np.float64], theirs: NDArray[np.float64], entrant: str) -> bool:
    """Whether there are runs enough of both, where runs of the other differ."""
    runs = [len(ours), *([len(theirs)] if ENTRANTS[entrant].seeded else [])]
    return min(runs) >= FEWEST_RUNS


def _net(rows: pd.DataFrame, net: str, task: str) -> Table:
    lines = []
    for entrant, one in ENTRANTS.items():
        own = rows[rows["searcher"] == entrant]
        if len(own):
            parts = [own[own["budget"] == budget] for budget in BUDGETS]
            if one.kind == "known":
                parts = [own] * len(BUDGETS)
            lines.append((one.label, *map(_medians, parts)))
    development = " (development, not counted above)" if net in DEVELOPMENT else ""
    return Table(
        f"{net}{development}",
        f"`{task}`, medians over seeds: search regret / report regret, bits per weight, points "
        "lost on report data.",
        ("", *BUDGET_HEADS),
        lines,
    )


def _medians(rows: pd.DataFrame) -> str:
    if not len(rows):
        return ""
    columns = "search_regret", "regret", "weighted_bitwidth", "report_loss_points"
    search, report, bits, lost = (float(rows[name].median()) for name in columns)
    return f"{search:.3f} / {report:.3f}, {bits:.2f} bits, {lost:+.2f}"
