"""A picture of every table: bits per weight against loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from benchmarks.paper_table.analysis import FURTHER, FURTHER_PROGRAM
from releq_gym.whole_files import written_whole

MOST_POINTS = 1.0
"""Losses beyond are drawn at the edge, and told in numbers."""

FLOOR_POINTS = 0.3

STYLES = {
    "ours (RecurrentPPO)": ("C3", "*", 13),
    FURTHER: ("C6", "*", 9),
    "integer program, then RecurrentPPO": ("C4", "*", 11),
    "integer program": ("C0", "s", 6),
    FURTHER_PROGRAM: ("C0", "s", 4),
    "random search": ("C9", "o", 6),
    "best uniform": ("C2", "D", 6),
    "best 8-b-...-b-8": ("C8", "P", 7),
    "ReLeQ, published": ("C1", "X", 8),
    "ADMM, published": ("C5", "X", 8),
    "other uniform": ("0.6", "D", 5),
}
"""Colour, marker and size by what a row is called."""


def draw(
    tables: Mapping[str, tuple[pd.DataFrame, Mapping[str, tuple[str, ...]]]], path: Path
) -> None:
    """One panel per network and quantizer, with one legend.

    Args:
        tables: By title; rows of `benchmarks.paper_table.analysis.losses`, and their labels.
        path: PNG to write.
    """
    if not tables:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(len(tables), 3)
    rows = -(-len(tables) // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(4.4 * columns, 3.4 * rows + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for panel in panels.flat[len(tables) :]:
        panel.set_axis_off()
    shown = {}
    for panel, (title, (losses, named)) in zip(panels.flat, tables.items(), strict=False):
        depth = -13
        for row in losses.itertuples():
            if row.bitwidths == "full" or row.bitwidths not in named:
                continue
            name = _style(named[row.bitwidths])
            colour, marker, size = STYLES[name]
            beyond = row.loss_points > MOST_POINTS
            shown[name] = panel.errorbar(
                row.weighted_bitwidth,
                MOST_POINTS if beyond else row.loss_points,
                None if beyond else row.margin_points,
                fmt=marker,
                markersize=size,
                color=colour,
                capsize=2,
                clip_on=not beyond,  # which lies on the edge
                zorder=3 if name == "ours (RecurrentPPO)" else 2,
            )
            if beyond:
                place = row.weighted_bitwidth, MOST_POINTS
                panel.annotate(
                    f"+{row.loss_points:.1f}", place, xytext=(0, depth), textcoords="offset points",
                    fontsize=7, ha="center",
                )  # fmt: skip
                depth -= 9  # lest one number is written over another
        panel.axhline(FLOOR_POINTS, color="grey", linestyle=":")
        panel.set(title=title, xlabel="bits per weight", ylabel="points lost on test")
        panel.set(xlim=(0.8, 8.3), ylim=(-0.15, MOST_POINTS))
    handles = {name: shown[name] for name in STYLES if name in shown}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
    )
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=110)
    plt.close(figure)


def _style(names: tuple[str, ...]) -> str:
    """The first name of a row that has a style; of the others there are uniform bitwidths alone."""
    plain = [name.replace("*", "") for name in names]
    return next((name for name in plain if name in STYLES), "other uniform")
