"""Curves over evaluations, and how many runs come how close."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import color_sequences
from matplotlib.figure import Figure

from benchmarks.leaderboard.analysis import at, standings
from benchmarks.leaderboard.sweep import ENTRANTS, Track
from benchmarks.statistics import FEWEST_RUNS, interval, performance_profile

STYLE = {"agent": "-", "searcher": "--", "known": ":"}

COLOURS, MARKERS = color_sequences["tab10"], ".xv"


def _looks() -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, style in STYLE.items():
        of_kind = [entrant for entrant, one in ENTRANTS.items() if one.kind == kind]
        for place, entrant in enumerate(of_kind):
            again, colour = divmod(place, len(COLOURS))
            marker = MARKERS[again % len(MARKERS)]
            yield entrant, {"color": COLOURS[colour], "linestyle": style, "marker": marker}


LOOKS = dict(_looks())
"""Of every entrant, the same in all pictures; no two are alike."""


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
                axes.plot(medians.index, medians, **LOOKS[entrant], label=one.label, lw=1.2, ms=5)
        expected = random_curves[random_curves["task"] == task]
        axes.plot(
            expected["budget"], expected["search_regret"], color="0.6", lw=3, zorder=0,
            label="random search, expected",
        )  # fmt: skip
        axes.set(xscale="log", xlabel="different assignments revealed", title=task)
        axes.set_xticks(track.budgets, [f"{budget:,}" for budget in track.budgets])
        axes.minorticks_off()
        # Where most end near 0, a square root tells them apart.
        axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("search regret (square-root scale)")
    shown = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    order = [one.label for one in ENTRANTS.values()]
    labels = sorted(shown, key=lambda label: (*order, label).index(label))
    figure.legend([shown[label] for label in labels], labels, loc="outside lower center", ncols=5)
    return figure


def standing_bars(rows: pd.DataFrame, track: Track) -> Figure:
    """Interquartile means where the track is ranked, the best on top; intervals of enough runs."""
    found = [one for one in standings(rows, track) if ENTRANTS[one.entrant].kind != "known"]
    budget = track.ranked_at
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
    """Share of runs that come within a regret, where the track is ranked."""
    found = [one for one in standings(rows, track) if ENTRANTS[one.entrant].kind != "known"]
    budget = track.ranked_at
    thresholds = np.linspace(0.0, 0.5, 201)
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    axes = figure.subplots()
    for one in found:
        share = performance_profile(at(one.scores, budget), thresholds)
        axes.plot(
            thresholds, share, **LOOKS[one.entrant], markevery=20, ms=4, label=one.label, lw=1.2
        )
    axes.set(xlabel=f"search regret at {budget:,}", ylabel="share of runs within it", ylim=(0, 1))
    figure.legend(loc="outside right upper", fontsize="x-small")
    return figure


def png(figure: Figure) -> str:
    """A figure as a ``data:`` address, for a page in one file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
