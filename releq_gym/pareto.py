"""The measured assignments that no other one beats in both loss and cost."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from releq_gym.ledger import Ledger
from releq_gym.problem import Problem
from releq_gym.result import Result, write_result
from releq_gym.whole_files import written_whole

PARETO_FILE, PICTURE_FILE = "pareto.csv", "pareto.png"
"""In the folder of a search."""


@dataclass(frozen=True)
class ParetoPoint:
    """One measured assignment.

    Attributes:
        bitwidths: One per layer, first to last.
        accuracy: On the search split, in [0, 1]; the mean of the repeats that were measured.
        loss_points: Full precision minus that, in percentage points.
        cost: Under the active cost model, all layers at 8 bits = 1.
        average_bitwidth: Bits per layer.
        weighted_bitwidth: Bits per weight.
        figures: Of the cost model, by name.
    """

    bitwidths: tuple[int, ...]
    accuracy: float
    loss_points: float
    cost: float
    average_bitwidth: float
    weighted_bitwidth: float
    figures: Mapping[str, float]


def measured_point(problem: Problem, bitwidths: tuple[int, ...], accuracy: float) -> ParetoPoint:
    """An assignment with all its figures.

    Args:
        problem: Says what it costs.
        bitwidths: One per layer.
        accuracy: Measured, in [0, 1].
    """
    known = problem.transition(bitwidths, accuracy)
    return ParetoPoint(
        bitwidths=bitwidths,
        accuracy=accuracy,
        loss_points=known.loss_points,
        cost=known.cost,
        average_bitwidth=known.average_bitwidth,
        weighted_bitwidth=known.weighted_bitwidth,
        figures=problem.figures_of(bitwidths),
    )


def pareto_set(ledger: Ledger, problem: Problem) -> tuple[ParetoPoint, ...]:
    """What was revealed and may be the answer, without what another one beats; cheapest first.

    Of several with the same loss and cost the one with the fewest bits stays, the first that was
    measured. An answer by `Ledger.best` is among them if it keeps the tolerated loss. Where
    accuracies are noisy, points that were measured once are partly there by luck.

    Args:
        ledger: What was revealed.
        problem: About which problem.
    """
    points = [
        measured_point(problem, bitwidths, cell.accuracy)
        for bitwidths, cell in ledger.cells(problem).items()
        if problem.admits(bitwidths)
    ]
    front: list[ParetoPoint] = []
    for point in sorted(points, key=attrgetter("cost", "loss_points", "weighted_bitwidth")):
        if not front or point.loss_points < front[-1].loss_points:
            front.append(point)
    return tuple(front)


COLUMNS = ("cost", "loss_points", "accuracy", "weighted_bitwidth", "average_bitwidth", "bitwidths")


def write_pareto(path: str | os.PathLike, points: Sequence[ParetoPoint]) -> None:
    """Writes the points as CSV, bitwidths separated by spaces; whole or not at all.

    The figures of the cost model stand in columns of their own behind the others.
    """
    path = Path(path)
    names = list(points[0].figures) if points else []
    with (
        written_whole(path) as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow([*COLUMNS, *names])
        for point in points:
            figures = [getattr(point, column) for column in COLUMNS[:-1]]
            listed = " ".join(map(str, point.bitwidths))
            writer.writerow([*figures, listed, *(point.figures[name] for name in names)])


def write_search(
    folder: str | os.PathLike, record: Result, points: Sequence[ParetoPoint], chosen: ParetoPoint
) -> None:
    """Writes ``pareto.csv``, ``pareto.png`` and ``result.json``, each whole or not at all.

    Args:
        folder: Where.
        record: What the search found.
        points: Its Pareto set, cheapest first.
        chosen: Is marked in the picture.
    """
    folder = Path(folder)
    write_pareto(folder / PARETO_FILE, points)
    draw_pareto(folder / PICTURE_FILE, points, chosen, record.max_loss_points, record.task)
    write_result(folder, record)


def draw_pareto(
    path: str | os.PathLike,
    points: Sequence[ParetoPoint],
    chosen: ParetoPoint,
    max_loss_points: float,
    title: str,
) -> None:
    """Draws loss against cost as a PNG; whole or not at all.

    Args:
        path: The file.
        points: A Pareto set, cheapest first.
        chosen: Is marked.
        max_loss_points: Is drawn as a line.
        title: Of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    costs, losses = ([getattr(p, name) for p in points] for name in ("cost", "loss_points"))
    axes.step(costs, losses, where="post", color="0.6", zorder=1)
    axes.scatter(costs, losses, s=18, label="best measured", zorder=2)
    axes.scatter(
        [chosen.cost],
        [chosen.loss_points],
        s=80,
        marker="*",
        color="C3",
        label=f"chosen: {chosen.loss_points:.2f}",
        zorder=3,
    )
    axes.axhline(max_loss_points, color="C3", ls=":", label=f"may be lost: {max_loss_points:g}")
    # Networks at the far end lose everything; the interesting part would be a flat line.
    linear = max(max_loss_points, 0.1)
    axes.set_yscale("symlog", linthresh=linear, subs=(2, 5))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set(
        xlabel="cost (all layers at 8 bits = 1)",
        ylabel=f"loss in percentage points, logarithmic from {linear:g}",
    )
    axes.set_title(title, fontsize="small")
    axes.legend()
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
