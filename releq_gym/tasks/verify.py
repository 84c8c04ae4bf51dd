"""Checks a task folder: hashes, completeness, and a sample of cells measured again."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np

from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.tasks.build import pooled_sd_points
from releq_gym.tasks.format import SPLITS, Task, TaskError, configuration

FRESH_SEED = 2_000_000
"""Seeds of the retrainings that a verification adds; used by no task."""

PTQ_SHARE = 0.001
"""Without retraining, cells may differ by this share of the images: floating point."""


class Agreement(NamedTuple):
    """How measurements made now agree with a task's.

    Attributes:
        cells: How many were measured again.
        within: How many lie within the tolerance.
        bias_points: Mean difference, now minus task, in percentage points.
        bias_error_points: Standard error of that mean.
        tolerance_points: Largest difference that counts as agreement.
    """

    cells: int
    within: int
    bias_points: float
    bias_error_points: float
    tolerance_points: float

    @property
    def holds(self) -> bool:
        """Whether 95 % of the cells agree (all, without noise), and there is no bias."""
        needed = 1.0 if self.bias_error_points == 0 else 0.95
        unbiased = abs(self.bias_points) <= 3 * self.bias_error_points + 1e-9
        return self.within >= needed * self.cells and (unbiased or self.bias_error_points == 0)


def check_files(task: Task) -> None:
    """Reads both splits: presence, shapes, hashes, completeness.

    Raises:
        TaskError: Naming the file that is wrong.
    """
    for split in SPLITS:
        task.measurements(split)


def verify_cells(
    task: Task, cells: int = 20, *, data: str | os.PathLike | None = None, seed: int = 0
) -> Agreement:
    """Measures a random sample of search cells again, with seeds that the task has not used.

    A noisy cell agrees when it lies within ``3 * pooled sd * sqrt(1 + 1 / repeats)`` of the mean
    of its repeats; without retraining it must agree to 0.1 % of the images.

    Args:
        task: The task.
        cells: How many.
        data: Where the network's data set lies.
        seed: Of the sample.

    Raises:
        TaskError: Where the network at hand is not the one that was measured.
    """
    card = task.card
    evaluator = LiveEvaluator(
        card["net"],
        data=data,
        quantizer=card["quantizer"],
        quantizer_kwargs=card["quantizer_kwargs"],
        recipe=card["recipe"],
        bitwidths=card["bitwidths"],
        memo=False,
    )
    if evaluator.weights_sha256 != card["full_precision"]["weights_sha256"]:
        raise TaskError(
            f"{task.name} was measured on other weights of {card['net']!r} than those at hand."
        )
    measured = task.measurements("search")
    images, repeats = task.images("search"), len(measured.seed)
    sd = pooled_sd_points(measured.correct, images)
    tolerance = 3 * sd * math.sqrt(1 + 1 / repeats) if repeats > 1 else 100 * PTQ_SHARE
    chosen = np.random.default_rng(seed).choice(
        task.configurations, size=min(cells, task.configurations), replace=False
    )
    differences = []
    for offset, index in enumerate(chosen.tolist()):
        digits = configuration(index, len(task.bitwidths), len(task.layers))
        bitwidths = [task.bitwidths[digit] for digit in digits]
        now = evaluator.measure(bitwidths, FRESH_SEED + offset)
        differences.append(100 * (now.correct - measured.correct[index].mean()) / images)
    spread = np.array(differences)
    error = float(spread.std(ddof=1) / math.sqrt(len(spread))) if repeats > 1 else 0.0
    return Agreement(
        cells=len(spread),
        within=int((np.abs(spread) <= tolerance + 1e-9).sum()),
        bias_points=float(spread.mean()),
        bias_error_points=error,
        tolerance_points=tolerance,
    )
