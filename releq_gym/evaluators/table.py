"""Accuracies that were measured beforehand, of all assignments or of some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from releq_gym.assignment_index import AssignmentIndex
from releq_gym.evaluators.base import Evaluation, ManyEvaluations
from releq_gym.evaluators.measurement import seeds_of
from releq_gym.tasks.format import DIVERGED, Task


class _MeasuredRows:
    """What one split of a task holds, by row.

    Args:
        task: The task; the split's measurements are read at once.
        split: ``"search"``; only scorers and final reports ask for ``"report"``.
    """

    def __init__(self, task: Task, split: str = "search"):
        self.task = task
        self.name = f"table:{task.name}" + ("" if split == "search" else f":{split}")
        self.net: str = task.card["net"]
        self.layers = task.layers
        self.bitwidths = task.bitwidths
        counted = task.images(split)
        self.images = 0 if task.card.get("exact") else counted
        self.full_precision_accuracy = task.full_precision_accuracy(split)
        self.max_loss_points = task.max_loss_points
        self.activation_bitwidth, self.per_channel = task.activation_bitwidth, task.per_channel
        self.provenance = task.provenance
        self._measured = measured = task.measurements(split)
        self.repeats = len(measured.seed)
        self.accuracies = measured.correct / counted
        self._mean = self.mean_accuracies()
        self._milliseconds = measured.milliseconds
        self._diverged = measured.status == DIVERGED

    def __deepcopy__(self, memo: dict) -> Self:
        """Shared between copies: nothing in it changes."""
        return self

    def mean_accuracies(self) -> NDArray[np.float64]:
        """Mean accuracy of every row over the repeats, float64 [rows]."""
        return self.accuracies.mean(axis=1)

    def _answer(self, row: int, repeat: int) -> Evaluation:
        if not -1 <= repeat < self.repeats:
            seeds_of(repeat, self.repeats)  # which refuses it
        if repeat < 0:
            return Evaluation(
                float(self._mean[row]),
                float(self._milliseconds[row].sum()),
                bool(self._diverged[row].any()),
            )
        return Evaluation(
            self.accuracies.item(row, repeat),
            float(self._milliseconds.item(row, repeat)),
            self._diverged.item(row, repeat),
        )

    def _answers(self, rows: NDArray[np.intp], repeats: NDArray[np.intp]) -> ManyEvaluations:
        least, most = (repeats.min(), repeats.max()) if repeats.size else (0, 0)
        if least < -1 or most >= self.repeats or (least < 0 <= most):
            raise ValueError(
                f"repeats={repeats.tolist()} have to be from 0 to {self.repeats - 1}, or all -1, "
                "which asks for the mean."
            )
        if least < 0:
            return ManyEvaluations(
                self._mean[rows],
                self._milliseconds[rows].sum(axis=1),
                self._diverged[rows].any(axis=1),
            )
        cells = rows * self.repeats + repeats
        return ManyEvaluations(
            self.accuracies.take(cells), self._milliseconds.take(cells), self._diverged.take(cells)
        )


class TableEvaluator(_MeasuredRows):
    """Looks assignments up in an exhaustive task; fulfils `Evaluator`.

    Args:
        task: The task; the split's measurements are read at once.
        split: ``"search"``; only scorers and final reports ask for ``"report"``.

    Attributes:
        index: Row of an assignment in the task.
        accuracies: float64 ``[assignments, repeats]``.
    """

    def __init__(self, task: Task, split: str = "search"):
        super().__init__(task, split)
        self.index = AssignmentIndex(self.bitwidths, len(self.layers))

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """One measured repeat, or with repeat -1 the mean over all of them.

        Raises:
            ValueError: For what is no assignment, or a repeat that does not exist.
        """
        return self._answer(self.index(bitwidths), repeat)

    def evaluate_many(
        self, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """Many answers at once.

        Args:
            bitwidths: ``[assignments, layers]``.
            repeats: One per assignment; all -1 for the mean.

        Raises:
            ValueError: Where some ask for the mean and others do not.
        """
        return self.evaluate_indices(self.index(bitwidths), repeats)

    def evaluate_indices(
        self, indices: NDArray[np.uint64], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """`evaluate_many` of assignments by ``self.index``."""
        return self._answers(indices.astype(np.intp), repeats)


class PartialTableEvaluator(_MeasuredRows):
    """Looks assignments up in a task that lacks some; fulfils `Evaluator`.

    What was not measured is never made up: an environment masks the choices that lead to nothing
    that was, or, where the card's ``unmeasured`` says ``"refuse"``, asking for it is an error.

    Args:
        task: The task; its search split is read at once.

    Attributes:
        measured: The assignments that may be reached, as choices are masked; None where nothing
            is masked.
    """

    def __init__(self, task: Task):
        super().__init__(task)
        assert self._measured.bitwidths is not None
        assignments = list(map(tuple, self._measured.bitwidths.tolist()))
        self._rows = {assignment: row for row, assignment in enumerate(assignments)}
        self.measured = None if task.card.get("unmeasured") == "refuse" else assignments

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """One measured repeat, or with repeat -1 the mean over all of them.

        Raises:
            ValueError: For an assignment that was not measured.
        """
        return self._answer(self._row(tuple(bitwidths)), repeat)

    def evaluate_many(
        self, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """Many answers at once.

        Args:
            bitwidths: ``[assignments, layers]``.
            repeats: One per assignment; all -1 for the mean.

        Raises:
            ValueError: Where some ask for the mean and others do not.
        """
        rows = [self._row(tuple(assignment)) for assignment in bitwidths.tolist()]
        return self._answers(np.array(rows, dtype=np.intp), repeats)

    def _row(self, assignment: tuple[int, ...]) -> int:
        if assignment not in self._rows:
            raise ValueError(
                f"{' '.join(map(str, assignment))} was not measured in {self.task.name}, which "
                f"holds {len(self._rows)} of {self.task.configurations:,} assignments. Import the "
                "task with unmeasured='mask', so that only those can be chosen."
            )
        return self._rows[assignment]
