"""What each entrant reaches with how many evaluations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.generalisation.analysis import counted_tasks, scores
from benchmarks.generalisation.sweep import BUDGETS, ENTRANTS
from benchmarks.statistics import interquartile_mean, interval

STYLE = {"policy": "o-", "heuristic": "s--", "searcher": "^:"}
MOST = 1.5
"""Regret beyond which a panel ends."""


def regrets(rows: pd.DataFrame, tasks: dict[str, str]) -> Figure:
    """Search regret at each budget: all counted networks together, then each alone.

    Args:
        rows: As `benchmarks.generalisation.run.run` returns them.
        tasks: By network.
    """
    panels = {"all but those for development": counted_tasks(tasks)}
    panels |= {net: [task] for net, task in tasks.items()}
    figure = Figure(figsize=(3.6 * len(panels), 4.6), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (title, of_panel) in zip(every, panels.items(), strict=True):
        for place, (name, entrant) in enumerate(ENTRANTS.items()):
            found = scores(rows, name, of_panel)
            if not found or entrant.kind == "known":
                continue
            at = np.array([BUDGETS.index(budget) for budget in found])
            middle = np.array([float(interquartile_mean(one)) for one in found.values()])
            spans = np.array([interval(one) for one in found.values()])
            reach = np.abs(spans.T - middle)
            axes.errorbar(
                at + 0.03 * (place - len(ENTRANTS) / 2), middle, reach, fmt=STYLE[entrant.kind],
                color=f"C{place % 10}", label=entrant.label.replace("`", ""), lw=1.2, ms=4,
            )  # fmt: skip
        axes.set_xticks(range(len(BUDGETS)), [f"{budget}" for budget in BUDGETS])
        axes.set(title=title, xlabel="evaluations", ylim=(-0.02, MOST))
    every[0].set_ylabel("search regret")
    handles: dict[str, Any] = {}
    for axes in every:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return figure
