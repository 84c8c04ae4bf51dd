"""Pictures of a run: what was measured, what was chosen, how the policy moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from agents.folder import POLICY_FILE
from releq_gym.ledger import Cell
from releq_gym.problem import Problem
from releq_gym.replay import Revealed, read_revealed
from releq_gym.result import LOG_FILE

COLOURS = colormaps["viridis"]
"""Dark for few bits, bright for many."""


def draw_pictures(folder: Path, problem: Problem, bitwidths: Sequence[int], shown: str) -> None:
    """Draws everything that the folder has the numbers for.

    Args:
        folder: Of the run.
        problem: Likewise.
        bitwidths: The answer.
        shown: What the policy's history holds, as in `Agent.shown`.
    """
    draw_learning_curve(read_revealed(folder / LOG_FILE, problem), problem).savefig(
        folder / "learning_curve.png"
    )
    draw_bitwidths(problem, bitwidths).savefig(folder / "bitwidths.png")
    if (folder / POLICY_FILE).is_file():
        draw_policy(folder / POLICY_FILE, problem, shown).savefig(folder / "policy.png")


def draw_learning_curve(revealed: Sequence[Revealed], problem: Problem) -> Figure:
    """The objective of every answer, and of what the search would have chosen by then."""
    cells: dict[tuple[int, ...], Cell] = defaultdict(Cell)
    ranks: dict[tuple[int, ...], tuple[float, ...]] = {}
    distinct, objectives, chosen = [], [], []
    for bitwidths, accuracy, repeat, *_ in revealed:
        cells[bitwidths].accuracies[repeat] = accuracy
        distinct.append(len(cells))
        objectives.append(problem.objective(bitwidths, accuracy))
        if problem.admits(bitwidths):  # on the way, a budget may be exceeded; see `Ledger.best`
            ranks[bitwidths] = problem.rank(bitwidths, cells[bitwidths].accuracy)
        answer = max(ranks, key=ranks.__getitem__, default=None)
        known = np.nan if answer is None else problem.objective(answer, cells[answer].accuracy)
        chosen.append(known)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(distinct, objectives, ".", markersize=3, alpha=0.4, label="measured")
    axes.step(distinct, chosen, where="post", label="the answer so far")
    axes.set(xlabel="different assignments measured", ylabel="objective")
    axes.set_title(problem.evaluator.name)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_bitwidths(problem: Problem, bitwidths: Sequence[int]) -> Figure:
    """A bar per layer."""
    figure = Figure(figsize=(max(4.0, 0.5 * len(bitwidths) + 2.0), 3.5), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.bar(range(len(bitwidths)), bitwidths, color=COLOURS(np.array(bitwidths) / 8.0))
    axes.bar_label(bars)
    axes.set(ylabel="bits per weight", ylim=(0, 8.8), title=problem.evaluator.name)
    names = [layer.name for layer in problem.layers]
    axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 6 else 0, ha="center")
    return figure


def draw_policy(path: Path, problem: Problem, shown: str) -> Figure:
    """Every bitwidth in each layer over the search, as the paper draws it."""
    with np.load(path, allow_pickle=False) as archive:
        evaluations, probabilities = archive["evaluations"], archive["probabilities"]
        bitwidths = archive["bitwidths"].tolist()
    columns = min(4, len(problem.steps))
    rows = -(-len(problem.steps) // columns)
    figure = Figure(figsize=(2.6 * columns + 1.0, 1.9 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(problem.steps) :]:
        axes.set_axis_off()
    for step, (axes, name) in enumerate(zip(grid, problem.step_names, strict=False)):
        axes.stackplot(
            evaluations,
            probabilities[:, step].T,
            colors=[COLOURS(bitwidth / 8.0) for bitwidth in bitwidths],
            labels=[f"{bitwidth} bits" for bitwidth in bitwidths],
        )
        axes.set_title(name, fontsize="small")
        axes.set_ylim(0.0, 1.0)
    figure.supxlabel("different assignments measured", fontsize="small")
    figure.supylabel(shown, fontsize="small")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    return figure
