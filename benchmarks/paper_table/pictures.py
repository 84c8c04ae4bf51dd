"""A picture of every table: bits per weight against loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

MOST_POINTS = 3.0
"""Losses beyond are drawn at the edge."""

FLOOR_POINTS = 0.3


def draw(
    tables: Mapping[str, tuple[pd.DataFrame, Mapping[str, tuple[str, ...]]]], path: Path
) -> None:
    """One panel per network and quantizer.

    Args:
        tables: By title; rows of `benchmarks.paper_table.analysis.losses`, and their labels.
        path: PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(len(tables), 3)
    rows = -(-len(tables) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.6 * rows), squeeze=False)
    for panel in panels.flat[len(tables) :]:
        panel.set_axis_off()
    for panel, (title, (losses, named)) in zip(panels.flat, tables.items(), strict=False):
        for row in losses.itertuples():
            if row.bitwidths == "full" or row.bitwidths not in named:
                continue
            name = named[row.bitwidths][0].replace("*", "")
            ours = name.startswith("ours")
            height = min(row.loss_points, MOST_POINTS)
            panel.errorbar(
                row.weighted_bitwidth,
                height,
                row.margin_points if row.loss_points < MOST_POINTS else 0,
                fmt="*" if ours else ("o" if row.loss_points < MOST_POINTS else "^"),
                markersize=11 if ours else 5,
                color="C3" if ours else "C0",
                capsize=2,
            )
            panel.annotate(
                name,
                (row.weighted_bitwidth, height),
                textcoords="offset points",
                xytext=(4, 4),
                fontsize=6,
            )
        panel.axhline(FLOOR_POINTS, color="grey", linestyle=":")
        panel.set(title=title, xlabel="bits per weight", ylabel="points lost on test")
    figure.tight_layout()
    partial = path.with_name(f"partial-{path.name}")
    figure.savefig(partial, dpi=120)
    plt.close(figure)
    partial.replace(path)
