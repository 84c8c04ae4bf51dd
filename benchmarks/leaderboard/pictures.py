"""Curves over evaluations, and how many runs come how close."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.leaderboard.analysis import at, shared_budget, standings
from benchmarks.leaderboard.sweep import ENTRANTS, Track
from benchmarks.statistics import FEWEST_RUNS, interval, performance_profile

STYLE = {"agent": "-", "searcher": "--", "known": ":"}


def anytime(rows: pd.DataFrame, track: Track, random_curves: pd.DataFrame) -> Figure:
    """Search regret against assignments revealed, one panel per task, medians over seeds.

    Args:
        rows: As `benchmarks.runs.run` returns them.
        track: Whose tasks.
        random_curves: Columns ``task, budget, search_regret``: what random search is expected to
            reach.
    """
    figure = Figure(figsize=(5.4 * len(track.tasks), 4.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(track.tasks)))
    for axes, task in zip(panels, track.tasks, strict=True):
        of_task = rows[rows["task"] == task]
        for entrant, one in ENTRANTS.items():
            line = of_task[of_task["searcher"] == entrant].groupby("budget")["search_regret"]
            if line.ngroups and one.kind != "known":
                medians = line.median()
                axes.plot(
                    medians.index, medians, STYLE[one.kind], marker=".", label=one.label, lw=1.2
                )
        expected = random_curves[random_curves["task"] == task]
        axes.plot(
            expected["budget"], expected["search_regret"], color="0.6", lw=3, zorder=0,
            label="random search, expected",
        )  # fmt: skip
        axes.set(xscale="log", xlabel="different assignments revealed", title=task)
        axes.set_xticks(track.budgets, [f"{budget:,}" for budget in track.budgets])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("search regret")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def standing_bars(rows: pd.DataFrame, track: Track) -> Figure:
    """Interquartile means at the shared budget, the best on top; intervals of enough runs."""
    found = [one for one in standings(rows, track) if ENTRANTS[one.entrant].kind != "known"]
    budget = shared_budget(found, track)
    figure = Figure(figsize=(7.0, 0.6 + 0.28 * len(found)), layout="constrained")
    axes = figure.subplots()
    for height, one in enumerate(reversed(found)):
        scores = at(one.scores, budget)
        middle = one.iqm(budget)
        low, high = interval(scores) if len(scores) >= FEWEST_RUNS else (middle, middle)
        colour = "tab:blue" if ENTRANTS[one.entrant].kind == "agent" else "tab:orange"
        axes.plot([low, high], [height, height], color=colour, lw=7, alpha=0.4)
        axes.plot(middle, height, "|", color=colour, ms=12, mew=2)
    axes.set_yticks(range(len(found)), [one.label for one in reversed(found)])
    axes.set(xlabel=f"search regret at {budget:,} (agents blue, other searchers orange)")
    axes.set_xlim(left=0)
    return figure


def profiles(rows: pd.DataFrame, track: Track) -> Figure:
    """Share of runs that come within a regret, at the shared budget."""
    found = [one for one in standings(rows, track) if ENTRANTS[one.entrant].kind != "known"]
    budget = shared_budget(found, track)
    thresholds = np.linspace(0.0, 0.5, 201)
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for one in found:
        share = performance_profile(at(one.scores, budget), thresholds)
        axes.plot(thresholds, share, STYLE[ENTRANTS[one.entrant].kind], label=one.label, lw=1.2)
    axes.set(xlabel=f"search regret at {budget:,}", ylabel="share of runs within it", ylim=(0, 1))
    axes.legend(fontsize="x-small", ncols=2)
    return figure


def png(figure: Figure) -> str:
    """A figure as a ``data:`` address, for a page in one file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
