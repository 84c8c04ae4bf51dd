"""Accuracies that a fitted model predicts, for networks too deep for a table."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_gym.cheapest import cheapest
from releq_gym.evaluators.base import Evaluation, ManyEvaluations
from releq_gym.evaluators.measurement import check_assignment
from releq_gym.layers import BITWIDTHS
from releq_gym.tasks.format import Task, TaskError


class NoiseTable:
    """What a surrogate is made of: integers, so that every machine gives the same answers.

    Every layer contributes noise that falls with its bitwidth, contributions add up, and accuracy
    falls with their sum.

    Args:
        noise: Of each layer at each bitwidth, int64 ``[layers, 9]``, the column being the bitwidth.
        limits: As many images are wrong as there are limits below the noise; int64 ``[images]``,
            ascending.
        bitwidths: The choice per layer, ascending.

    Raises:
        ValueError: For arrays of another kind.
    """

    def __init__(
        self, noise: NDArray[np.int64], limits: NDArray[np.int64], bitwidths: Sequence[int]
    ):
        shapes = noise.shape[1:], limits.shape[1:]
        if shapes != ((len(BITWIDTHS) + 1,), ()) or {noise.dtype, limits.dtype} != {
            np.dtype(np.int64)
        }:
            raise ValueError(
                f"noise is {noise.dtype} {noise.shape} and limits {limits.dtype} {limits.shape}; "
                f"int64 [layers, {len(BITWIDTHS) + 1}] and [images] are needed."
            )
        if (noise < 0).any() or (limits[1:] < limits[:-1]).any():
            raise ValueError("noise has to be 0 or more, and limits have to ascend.")
        self.noise, self.limits, self.bitwidths = noise, limits, tuple(bitwidths)
        self._rows = np.arange(len(noise))
        # Plain lists are much faster than arrays where there is one assignment.
        self._noise_list = [{b: row[b] for b in self.bitwidths} for row in noise.tolist()]
        self._limit_list = limits.tolist()

    def wrong_one(self, bitwidths: Sequence[int]) -> int:
        """How many images an assignment gets wrong.

        Raises:
            KeyError: For another bitwidth.
            ValueError: For another number of layers.
        """
        noise = 0
        for layer, bitwidth in zip(self._noise_list, bitwidths, strict=True):
            noise += layer[bitwidth]
        return bisect_left(self._limit_list, noise)

    def wrong(self, bitwidths: NDArray) -> NDArray[np.intp]:
        """Likewise of many, ``[assignments, layers]``."""
        return self.limits.searchsorted(self.noise[self._rows, bitwidths].sum(axis=1))

    @property
    def least_wrong(self) -> int:
        """How many images are wrong at the least."""
        least = self.noise[:, self.bitwidths].min(axis=1).sum()
        return int(self.limits.searchsorted(least))

    def most_wrong(self, full_precision_accuracy: float, points: float) -> int:
        """How many images may be wrong where so many percentage points may be lost."""
        images = len(self.limits)
        right = full_precision_accuracy * images - points * images / 100
        return images - math.ceil(right - 1e-6)

    def cheapest(self, layer_costs: ArrayLike, most_wrong: int) -> tuple[int, ...]:
        """The assignment of least cost with so many images wrong at most, exactly.

        Args:
            layer_costs: Of each layer at each of ``bitwidths``, ``[layers, bitwidths]``.
            most_wrong: Images.

        Raises:
            ValueError: Where there is none.
        """
        if most_wrong < self.least_wrong:
            raise ValueError(
                f"No assignment gets only {most_wrong} images wrong; {self.least_wrong} are the "
                "least."
            )
        noise = self.noise[:, self.bitwidths]
        most = int(noise.max(axis=1).sum())
        limit = min(int(self.limits[most_wrong]), most) if most_wrong < len(self.limits) else most
        choices = np.eye(noise.shape[1])
        excluded: list[NDArray] = []  # what the solver, which keeps limits to 1e-6, took for kept
        while True:
            most_alike = np.full(len(excluded), len(noise) - 1)
            digits = cheapest(layer_costs, noise, float(limit), excluded, most_alike)
            assert digits is not None
            if noise[self._rows, digits].sum() <= limit:
                return tuple(self.bitwidths[digit] for digit in digits)
            excluded.append(choices[digits])


class SurrogateEvaluator:
    """Predicts accuracies by a `NoiseTable`; fulfils `Evaluator`.

    Answers are exact: nothing is random, and the optimum under a tolerated loss is known.

    Args:
        task: A task with a surrogate; `releq_gym.tasks.surrogate` fits one.

    Raises:
        TaskError: For arrays that do not fit the card.
    """

    repeats = 1
    images = 0

    def __init__(self, task: Task):
        self.task = task
        self.name = f"surrogate:{task.name}"
        self.net: str = task.card["net"]
        self.layers = task.layers
        self.bitwidths = task.bitwidths
        self.full_precision_accuracy = task.full_precision_accuracy("search")
        self.max_loss_points = task.max_loss_points
        self.activation_bitwidth, self.per_channel = task.activation_bitwidth, task.per_channel
        self.provenance = task.provenance
        self._size = task.images("search")
        self._table, self._milliseconds = self._read(task.surrogate())

    def __deepcopy__(self, memo: dict) -> SurrogateEvaluator:
        """Shared between copies: nothing in it changes."""
        return self

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """The predicted accuracy, the same at every repeat.

        Raises:
            ValueError: For a wrong number of bitwidths, or one that is not the evaluator's.
        """
        try:
            wrong = self._table.wrong_one(bitwidths)
        except (KeyError, ValueError):
            check_assignment(bitwidths, self)
            raise
        return Evaluation((self._size - wrong) / self._size, self._milliseconds)

    def evaluate_many(
        self, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """Many answers at once.

        Args:
            bitwidths: ``[assignments, layers]``.
            repeats: One per assignment; all the same to a surrogate.
        """
        count = len(bitwidths)
        return ManyEvaluations(
            (self._size - self._table.wrong(bitwidths)) / self._size,
            np.full(count, self._milliseconds),
            np.zeros(count, dtype=np.bool_),
        )

    def optimum(
        self, layer_costs: ArrayLike, max_loss_points: float | None = None
    ) -> tuple[int, ...]:
        """The cheapest assignment within a loss, by an integer program (scipy's ``milp``).

        Where none keeps it, the cheapest of those that lose least.

        Args:
            layer_costs: Cost of each layer at each of ``bitwidths``, [layers, bitwidths].
            max_loss_points: Tolerated loss; None is the task's.
        """
        points = self.max_loss_points if max_loss_points is None else max_loss_points
        most_wrong = self._table.most_wrong(self.full_precision_accuracy, points)
        return self._table.cheapest(layer_costs, max(most_wrong, self._table.least_wrong))

    @property
    def harmful_increase_share(self) -> float:
        """Of all ways to give one layer its next higher bitwidth, those that add noise."""
        return float((np.diff(self._table.noise[:, self.bitwidths], axis=1) > 0).mean())

    def _read(self, arrays: Mapping[str, NDArray]) -> tuple[NoiseTable, float]:
        try:
            table = NoiseTable(arrays["noise"], arrays["limits"], self.bitwidths)
            milliseconds = float(arrays["milliseconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(f"The surrogate of {self.task.name} cannot be used: {error}") from None
        if (len(table.noise), len(table.limits)) != (len(self.layers), self._size):
            raise TaskError(
                f"The surrogate of {self.task.name} has {len(table.noise)} layers and "
                f"{len(table.limits)} images; its card says {len(self.layers)} and {self._size}."
            )
        return table, milliseconds
