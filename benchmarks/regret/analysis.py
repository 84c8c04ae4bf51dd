"""From rows to tables and pictures; nothing here runs a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.regret.sweep import AGENT, ENUMERATION, SINGLE, VARIANTS
from benchmarks.statistics import (
    FEWEST_RUNS,
    difference_interval,
    interquartile_mean,
    interval,
)
from benchmarks.tables import grid

LABELS = {
    **{name: name.replace(AGENT, "RecurrentPPO") for name in VARIANTS},
    "random": "random search",
    "local_search": "one-flip local search",
    "uniform": "best uniform bitwidth, found by search",
    ENUMERATION: "all assignments measured",
    "uniform_hindsight": "best uniform bitwidth, in hindsight on report data",
    "search_oracle": "search oracle",
    "optimum": "optimum, in hindsight",
}

SEEDLESS = (*SINGLE, "uniform_hindsight", "search_oracle", "optimum")


def score(rows: pd.DataFrame) -> pd.DataFrame:
    """Median, interquartile mean and its interval over seeds, per task, searcher and budget.

    Args:
        rows: As `benchmarks.runs.run` returns them.
    """
    records = []
    for (task, searcher, budget), group in rows.groupby(["task", "searcher", "budget"]):
        regrets = group["regret"].to_numpy(dtype=float)
        low, high = interval(regrets)
        records.append(
            {
                "task": task,
                "searcher": searcher,
                "budget": int(budget),
                "seeds": len(regrets),
                "median": float(np.median(regrets)),
                "iqm": float(interquartile_mean(regrets[:, None])),
                "low": low,
                "high": high,
                "weighted_bitwidth": float(group["weighted_bitwidth"].median()),
                "seconds": float(group["seconds"].median()),
                "measuring": float(group["simulated_seconds"].median()),
            }
        )
    return pd.DataFrame(records)


def markdown(rows: pd.DataFrame) -> str:
    """One table per task: regret at each budget, random search's gap to RecurrentPPO beneath."""
    scores = score(rows)
    parts = []
    for task, of_task in scores.groupby("task"):
        budgets = sorted(of_task.loc[of_task["searcher"] == "random", "budget"])
        lines = [
            f"**{task}**: regret after so many different assignments, median over seeds "
            "(interquartile mean, its 95 % interval); seconds of the search, and those that "
            "measuring takes where nothing is looked up",
            "",
            grid(
                ("searcher", *(f"{budget:,}" for budget in budgets), "seconds", "measuring"),
                (
                    (label, *_cells(of_searcher, budgets))
                    for searcher, label in LABELS.items()
                    if len(of_searcher := of_task[of_task["searcher"] == searcher])
                ),
            ),
        ]
        last = rows[(rows["task"] == task) & (rows["budget"] == budgets[-1])]
        last = last.sort_values("seed")
        ours = last.loc[last["searcher"] == AGENT, "regret"].to_numpy(dtype=float)
        lines.append("")
        for other in (name for name in LABELS if name not in (AGENT, *SEEDLESS)):
            theirs = last.loc[last["searcher"] == other, "regret"].to_numpy(dtype=float)
            if np.array_equal(ours, theirs):
                lines.append(f"{LABELS[other]} has given the same answers as RecurrentPPO.")
            elif min(len(ours), len(theirs)) >= FEWEST_RUNS:
                low, high = difference_interval(ours, theirs)
                lines.append(
                    f"RecurrentPPO minus {LABELS[other]} at {budgets[-1]:,}: "
                    f"{low:+.3f} to {high:+.3f} (95 %)."
                )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cells(scores: pd.DataFrame, budgets: list[int]) -> list[str]:
    """Of one searcher."""
    cells = []
    for budget in budgets:
        at = scores[scores["budget"] == budget]
        if len(at) == 0:
            # The oracle knows everything, and uniform search asks no more: one value for all.
            at = scores
        row = at.iloc[-1]
        spread = (
            ""
            if row["seeds"] < FEWEST_RUNS
            else f" ({row['iqm']:.3f}, {row['low']:.3f} to {row['high']:.3f})"
        )
        cells.append(f"{row['median']:.3f}{spread}")
    taken = [scores[column].max() for column in ("seconds", "measuring")]
    return cells + ["" if np.isnan(seconds) else f"{seconds:,.0f}" for seconds in taken]


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Regret against assignments revealed, one panel per task."""
    from matplotlib.figure import Figure

    scores = score(rows)
    tasks = sorted(scores["task"].unique())
    figure = Figure(figsize=(5.2 * len(tasks), 3.8), layout="constrained")
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks, strict=True):
        of_task = scores[scores["task"] == task]
        for searcher, label in LABELS.items():
            line = of_task[of_task["searcher"] == searcher].sort_values("budget")
            if searcher in (ENUMERATION, "uniform_hindsight", "optimum"):
                continue
            if searcher in SEEDLESS:
                if len(line):
                    style = ":" if searcher == "search_oracle" else "--"
                    axes.axhline(line["median"].iloc[-1], color="0.4", ls=style, label=label)
            elif len(line):
                axes.plot(line["budget"], line["iqm"], marker="o", label=label)
                axes.fill_between(line["budget"], line["low"], line["high"], alpha=0.2)
        axes.set(xscale="log", xlabel="different assignments revealed", ylabel="regret", title=task)
        budgets = sorted(of_task.loc[of_task["searcher"] == "random", "budget"])
        axes.set_xticks(budgets, [str(budget) for budget in budgets])
        axes.minorticks_off()
        axes.legend()
    figure.savefig(path, dpi=120)
