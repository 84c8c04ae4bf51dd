"""Checks a task folder: hashes, completeness, and a sample of cells measured again."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from releq_gym.networks import NetworkLike
from releq_gym.tasks.format import SPLITS, Measurements, Task, TaskError
from releq_gym.tasks.twin import live_twin

FRESH_SEED = 2_000_000
"""Seeds of the retrainings that a verification adds; used by no task."""

PTQ_SHARE = 0.001
"""Without retraining, cells may differ by this share of the images, or one: floating point."""

NEIGHBOURS = 51
"""Cells of about the same accuracy over which noise is pooled."""

SIGMAS = 3
"""Standard errors beyond which a difference is no chance."""


class Agreement(NamedTuple):
    """How measurements made now agree with a task's.

    Attributes:
        cells: How many were measured again, on both splits together.
        within: How many lie within the tolerance.
        noisy: Whether the recipe retrains.
        bias_points: Mean difference, now minus task, in percentage points.
        bias: Mean difference in standard errors of each cell, which counts as `SIGMAS` of them
            where it is further away: some cells may lie outside, and a dead one, whose repeats all
            agree, can be a hundred of its standard errors away.
        good_bias: The same over the better half of the cells, whose noise is small.
    """

    cells: int
    within: int
    noisy: bool
    bias_points: float
    bias: float
    good_bias: float

    @property
    def holds(self) -> bool:
        """Whether 95 % of the cells agree, without bias; all of them where nothing is random."""
        if not self.noisy:
            return self.within == self.cells
        good = (self.cells + 1) // 2
        return (
            self.within >= 0.95 * self.cells
            and abs(self.bias) <= SIGMAS / math.sqrt(self.cells)
            and abs(self.good_bias) <= SIGMAS / math.sqrt(good)
        )

    def __str__(self) -> str:
        verdict = "agrees" if self.holds else "DISAGREES"
        return (
            f"{self.within} of {self.cells} cells measured again lie within their tolerance; "
            f"mean difference {self.bias_points:+.2f} points, {self.bias:+.2f} standard errors, "
            f"{self.good_bias:+.2f} in the better half: {verdict}"
        )


def check_files(task: Task) -> None:
    """Reads every file: presence, shapes, hashes, completeness.

    Raises:
        TaskError: Naming the file that is wrong.
    """
    for split in task.splits:
        task.measurements(split)
    if "surrogate" in task.card["sha256"]:
        task.surrogate()


def verify_cells(
    task: Task,
    cells: int = 20,
    *,
    data: str | os.PathLike | None = None,
    net: NetworkLike | None = None,
    weights: str | os.PathLike | None = None,
    seed: int = 0,
) -> Agreement:
    """Measures a random sample of cells again, half of them on each split, with fresh seeds.

    A noisy cell agrees when it lies within ``3 * sd * sqrt(1 + 1 / repeats)`` of the mean of its
    repeats, its sd being `cell_sd_points`; without retraining it must agree to 0.1 % of the images.

    Args:
        task: The task.
        cells: How many, at least 2.
        data: Where the network's data set lies.
        net: As of `live_twin`.
        weights: Checkpoint of a network whose weights are not shipped.
        seed: Of the sample.

    Raises:
        ValueError: For fewer than 2 cells.
        TaskError: Where the task was imported, where weights, recipe or images at hand are not
            those that were measured, or it has no repeats to tell its noise from.
    """
    if task.imported:
        raise TaskError(
            f"{task.name} was imported: how its accuracies were measured is not known here, so "
            "none can be measured again; check its files alone, with 0 cells."
        )
    if cells < 2:
        raise ValueError(f"cells={cells}; at least 2 have to be measured again, one on each split.")
    evaluator = live_twin(task, data, net=net, weights=weights, memo=False)
    noisy = evaluator.recipe.images > 0
    rng = np.random.default_rng(seed)
    accuracies: list[float] = []
    differences: list[float] = []
    errors: list[float] = []
    for split, share in zip(SPLITS, ((cells + 1) // 2, cells // 2), strict=True):
        measured, images = task.measurements(split), task.images(split)
        rows = len(measured.correct)
        chosen = rng.choice(rows, size=min(share, rows), replace=False)
        accuracy = 100 * measured.correct[chosen].mean(axis=1) / images
        for index, before in zip(chosen.tolist(), accuracy.tolist(), strict=True):
            bitwidths = task.assignment(measured, index)
            now = evaluator.measure(bitwidths, FRESH_SEED + len(differences), split)
            differences.append(100 * now.correct / images - before)
        accuracies.extend(accuracy.tolist())
        errors.extend(_standard_errors(task, measured, images, noisy)[chosen].tolist())
    scores = np.array(differences) / np.array(errors)
    counted = scores.clip(-SIGMAS, SIGMAS)
    better = np.argsort(accuracies, kind="stable")[len(scores) // 2 :]
    return Agreement(
        cells=len(scores),
        within=int((np.abs(scores) <= SIGMAS + 1e-9).sum()),
        noisy=noisy,
        bias_points=float(np.mean(differences)),
        bias=float(counted.mean()),
        good_bias=float(counted[better].mean()),
    )


def cell_sd_points(correct: NDArray, images: int) -> NDArray[np.float64]:
    """Standard deviation between the repeats of every cell, in percentage points.

    At least that of the cells of about the same accuracy, pooled, and one image: a few repeats
    can agree by chance, and noise hardly depends on anything but accuracy.

    Args:
        correct: ``[configurations, repeats]``.
        images: Size of the split.
    """
    variance = correct.var(axis=1, ddof=1)
    order = correct.mean(axis=1).argsort(kind="stable")
    window = np.ones(min(NEIGHBOURS, len(order)))
    pooled = np.empty_like(variance)
    sums = np.convolve(variance[order], window, "same")
    pooled[order] = sums / np.convolve(np.ones(len(order)), window, "same")
    return 100 / images * np.sqrt(np.maximum(np.maximum(variance, pooled), 1.0))


def _standard_errors(
    task: Task, measured: Measurements, images: int, noisy: bool
) -> NDArray[np.float64]:
    """Of the difference between one measurement and the mean of a cell, in percentage points."""
    count, repeats = measured.correct.shape
    if not noisy:
        return np.full(count, 100 * max(PTQ_SHARE, 1 / images) / SIGMAS)
    if repeats < 2:
        raise TaskError(
            f"{task.name} has one repeat per cell, so nothing tells its noise; check its files "
            "alone, with 0 cells."
        )
    return cell_sd_points(measured.correct, images) * math.sqrt(1 + 1 / repeats)
