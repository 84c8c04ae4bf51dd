"""A picture of a task: what its assignments lose and cost, and how well a surrogate predicts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.costs.quantization_state import layer_importance
from releq_gym.evaluators.surrogate import SurrogateEvaluator
from releq_gym.layers import BITWIDTHS
from releq_gym.tasks.format import Measurements, Task, configurations
from releq_gym.whole_files import written_whole

FORMATS = (".png", ".pdf", ".svg")
"""Endings of the files that pictures are drawn to."""

WIDTH = 5.2
"""Of one drawing, in inches."""


def draw_task(task: Task, path: str | os.PathLike) -> None:
    """Draws a task, whole or not at all.

    Loss against cost of everything measured, uniform bitwidths marked, with the best trade-offs;
    for a surrogate beside it what it predicts against what was measured.

    Args:
        task: With a table or a surrogate.
        path: The file; its ending says what it is, one of `FORMATS`.

    Raises:
        ValueError: For another ending.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"{path} has to end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    measured = task.measurements("search")
    accuracies = measured.correct.mean(axis=1) / task.images("search")
    assignments = measured.bitwidths
    if assignments is None:
        assignments = configurations(task.bitwidths, len(task.layers))
    has_surrogate = task.card["completeness"] == "sampled"
    figure = Figure(figsize=(WIDTH * (1 + has_surrogate), 4.2), layout="constrained")
    figure.suptitle(task.name, fontsize="small")
    axes = figure.subplots(1, 1 + has_surrogate, squeeze=False)[0]
    _draw_losses(axes[0], task, assignments, accuracies)
    if has_surrogate:
        _draw_predictions(axes[1], task, measured, accuracies)
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=120)


def _draw_losses(
    axes: Any, task: Task, assignments: NDArray[np.uint8], accuracies: NDArray[np.float64]
) -> None:
    importance = np.array([layer_importance(layer) for layer in task.layers], dtype=np.float64)
    costs = assignments @ importance / (BITWIDTHS[-1] * importance.sum())
    losses = 100.0 * (task.full_precision_accuracy("search") - accuracies)
    alike = (assignments == assignments[:, :1]).all(axis=1)
    order = np.lexsort((losses, costs))
    best = order[losses[order] <= np.minimum.accumulate(losses[order])]
    axes.scatter(costs, losses, s=4, color="0.75", label="measured", rasterized=True)
    axes.step(costs[best], losses[best], where="post", color="C0", label="best trade-offs")
    axes.scatter(
        costs[alike], losses[alike], s=30, marker="s", color="C1", label="uniform", zorder=3
    )
    floor = task.max_loss_points
    axes.axhline(floor, color="C3", ls=":", label="may be lost")
    axes.set_yscale("symlog", linthresh=max(floor, 0.1))
    axes.set(xlabel="cost (all layers at 8 bits = 1)", ylabel="loss in percentage points")
    axes.legend(fontsize="small")


def _draw_predictions(
    axes: Any, task: Task, measured: Measurements, accuracies: NDArray[np.float64]
) -> None:
    assert measured.bitwidths is not None and measured.source is not None
    evaluator = SurrogateEvaluator(task)
    count = len(accuracies)
    predicted = evaluator.evaluate_many(
        measured.bitwidths.astype(np.intp), np.zeros(count, dtype=np.intp)
    ).accuracy
    for number, source in enumerate(task.card["sources"]):
        own = measured.source == number
        if own.any():
            axes.scatter(100 * accuracies[own], 100 * predicted[own], s=8, label=source)
    axes.axline((50, 50), slope=1, color="0.6", lw=0.8, zorder=0)
    axes.set(xlabel="measured accuracy in %", ylabel="predicted accuracy in %")
    axes.legend(fontsize="small", title="sampled as", title_fontsize="small")
