"""Accuracies that were measured beforehand, for every assignment there is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from releq_gym.assignment_index import AssignmentIndex
from releq_gym.evaluators.base import Evaluation, ManyEvaluations
from releq_gym.tasks.format import DIVERGED, Task


class TableEvaluator:
    """Looks assignments up in an exhaustive task; fulfils `Evaluator`.

    Args:
        task: The task; the split's measurements are read at once.
        split: ``"search"``; only scorers and final reports ask for ``"report"``.

    Attributes:
        index: Row of an assignment in the task.
    """

    def __init__(self, task: Task, split: str = "search"):
        self.task = task
        self.name = f"table:{task.name}" + ("" if split == "search" else f":{split}")
        self.net: str = task.card["net"]
        self.layers = task.layers
        self.bitwidths = task.bitwidths
        self.images = task.images(split)
        self.full_precision_accuracy = task.full_precision_accuracy(split)
        self.max_loss_points = float(task.card.get("max_loss_points", 0.3))
        self.provenance = task.provenance
        measured = task.measurements(split)
        self.repeats = len(measured.seed)
        self._accuracy = measured.correct / self.images
        self._mean = self.mean_accuracies()
        self._milliseconds = measured.milliseconds
        self._diverged = measured.status == DIVERGED
        self.index = AssignmentIndex(self.bitwidths, len(self.layers))

    def __deepcopy__(self, memo: dict) -> TableEvaluator:
        """Shared between copies: nothing in it changes."""
        return self

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """One measured repeat, or with repeat -1 the mean over all of them."""
        row = self.index(bitwidths)
        if repeat < 0:
            return Evaluation(
                float(self._mean[row]),
                float(self._milliseconds[row].sum()),
                bool(self._diverged[row].any()),
            )
        return Evaluation(
            self._accuracy.item(row, repeat),
            float(self._milliseconds.item(row, repeat)),
            self._diverged.item(row, repeat),
        )

    def evaluate_many(
        self, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """Many answers at once.

        Args:
            bitwidths: ``[assignments, layers]``.
            repeats: One per assignment; -1 asks for the mean.
        """
        return self.evaluate_indices(self.index(bitwidths), repeats)

    def evaluate_indices(
        self, indices: NDArray[np.uint64], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """`evaluate_many` of assignments by ``self.index``."""
        rows = indices.astype(np.intp)
        if repeats.size and repeats[0] < 0:
            return ManyEvaluations(
                self._mean[rows],
                self._milliseconds[rows].sum(axis=1),
                self._diverged[rows].any(axis=1),
            )
        cells = rows * self.repeats + repeats
        return ManyEvaluations(
            self._accuracy.take(cells), self._milliseconds.take(cells), self._diverged.take(cells)
        )

    def mean_accuracies(self) -> NDArray[np.float64]:
        """Mean accuracy of every assignment over the repeats, float64 [configurations]."""
        return self._accuracy.mean(axis=1)

    def standard_errors(self) -> NDArray[np.float64]:
        """Of `mean_accuracies`, from the spread of the repeats; 0 where there is one."""
        if self.repeats < 2:
            return np.zeros(len(self._accuracy))
        return self._accuracy.std(axis=1, ddof=1) / np.sqrt(self.repeats)
