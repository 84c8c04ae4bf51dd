"""Clouds of assignments, and curves over evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.paper_figures.clouds import Cloud, Point, front
from benchmarks.paper_figures.sweep import VARIANTS
from benchmarks.statistics import interquartile_mean

NEAR_POINTS = 3.0
"""Loss down to which the right half of a cloud looks closer."""


def draw_cloud(cloud: Cloud) -> Figure:
    """Accuracy against cost, all of it and near full precision; hollow where it is predicted."""
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    figure.suptitle(f"{cloud.net}: {len(cloud.costs):,} assignments of {cloud.task}")
    best = front(cloud.costs, cloud.accuracies)
    named: dict[str, tuple[str, str, Sequence[Point]]] = {
        "uniform bitwidths": ("s", "C1", cloud.uniform),
        "the paper's assignment": ("D", "C2", [cloud.published] if cloud.published else []),
        f"RecurrentPPO's answers, seeds: {len(cloud.answers)}": ("*", "C3", cloud.answers),
    }
    whole, near = figure.subplots(1, 2)
    for axes in (whole, near):
        axes.scatter(
            cloud.costs, 100 * cloud.accuracies, s=3, color="0.8", label="measured", rasterized=True
        )
        axes.step(
            cloud.costs[best], 100 * cloud.accuracies[best],
            where="post", color="C0", lw=1.2, label="best trade-offs measured",
        )  # fmt: skip
        axes.axhline(100 * cloud.floor, color="0.4", ls=":", label="tolerated loss")
        for label, (marker, colour, points) in named.items():
            for measured in (True, False):
                chosen = [one for one in points if one.measured == measured]
                axes.scatter(
                    [one.cost for one in chosen], [100 * one.accuracy for one in chosen],
                    s=90 if marker == "*" else 34, marker=marker, edgecolors=colour, zorder=3,
                    facecolors=colour if measured else "none",
                    label=label if chosen and measured == points[0].measured else None,
                )  # fmt: skip
        axes.set_xlabel("cost (all layers at 8 bits = 1)")
    whole.set_ylabel("accuracy on search images in %")
    full = 100 * cloud.full_precision_accuracy
    near.set(ylim=(full - NEAR_POINTS, full + 0.15 * NEAR_POINTS))
    whole.legend(fontsize="small", loc="lower right")
    return figure


def draw_curves(rows: pd.DataFrame, variants: Sequence[str], columns: Mapping[str, str]) -> Figure:
    """Interquartile means over seeds at each checkpoint, and the seeds' range.

    Args:
        rows: With the same tasks and seeds of every variant.
        variants: A line each.
        columns: A row of panels each; what it is called by what is drawn. A panel per task.
    """
    tasks = sorted(rows["task"].unique())
    figure = Figure(figsize=(4.2 * len(tasks), 2.9 * len(columns) + 0.7), layout="constrained")
    grid = figure.subplots(len(columns), len(tasks), squeeze=False)
    for panels, (column, label) in zip(grid, columns.items(), strict=True):
        for axes, task in zip(panels, tasks, strict=True):
            for variant in variants:
                chosen = rows[(rows["task"] == task) & (rows["searcher"] == variant)]
                values = chosen.pivot(index="budget", columns="seed", values=column)
                middle = interquartile_mean(values.to_numpy(float)[:, :, None])
                (line,) = axes.plot(values.index, middle, label=VARIANTS[variant].label, lw=1.4)
                axes.fill_between(
                    values.index, np.min(values, axis=1), np.max(values, axis=1),
                    color=line.get_color(), alpha=0.12, lw=0,
                )  # fmt: skip
        panels[0].set_ylabel(label)
    for axes, task in zip(grid[0], tasks, strict=True):
        axes.set_title(task, fontsize="small")
    figure.supxlabel("different assignments revealed", fontsize="small")
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
        fontsize="small",
    )  # fmt: skip
    return figure
