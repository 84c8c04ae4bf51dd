"""Scores answers on report data: how far from the optimum. Only scorers and reports open it."""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from releq_gym.evaluators.synthetic import SyntheticEvaluator
from releq_gym.evaluators.table import TableEvaluator
from releq_gym.problem import Problem

RANDOM_DRAWS = 20_000
"""Assignments behind the random mean of a space that is too large to enumerate."""


class TableScorer:
    """Regret on an exhaustive task.

    The worth ``mu`` of an assignment is its objective at the *mean report* accuracy. The optimum
    is cross-fitted: chosen on half of the report repeats, valued on the other half, and the other
    way round, so that luck is not mistaken for worth; a negative regret is therefore possible.

    Args:
        problem: The search problem, on a `TableEvaluator`, without fixed layers.

    Raises:
        ValueError: For another evaluator, or a restricted problem.
    """

    def __init__(self, problem: Problem):
        if not isinstance(problem.evaluator, TableEvaluator):
            raise ValueError(f"{problem.evaluator.name} is no table; it has no known optimum.")
        if len(problem.steps) < len(problem.layers):
            raise ValueError("Regret is defined on the whole task; leave out fixed_bitwidths.")
        self._search = problem
        self._task = problem.evaluator.task
        self._report = problem.with_evaluator(TableEvaluator(self._task, "report"))

    @cached_property
    def assignments(self) -> list[tuple[int, ...]]:
        """Every assignment, in the order of the task's rows."""
        bitwidths = self._report.evaluator.bitwidths
        return list(product(bitwidths, repeat=len(self._report.layers)))

    @cached_property
    def worth(self) -> NDArray[np.float64]:
        """``mu`` of every assignment."""
        return self._worth(self._report, slice(None))

    @cached_property
    def best_worth(self) -> float:
        """``mu`` of the optimum."""
        repeats = self._report.evaluator.repeats
        if repeats < 4:
            return float(self.worth.max())
        halves = (slice(0, repeats // 2), slice(repeats // 2, None))
        first, second = (self._worth(self._report, half) for half in halves)
        return float((second[first.argmax()] + first[second.argmax()]) / 2)

    @cached_property
    def random_worth(self) -> float:
        """Mean ``mu`` over all assignments."""
        return float(self.worth.mean())

    @cached_property
    def optimum(self) -> tuple[int, ...]:
        """The best assignment on all report repeats."""
        return self.assignments[int(self.worth.argmax())]

    @cached_property
    def oracle(self) -> tuple[int, ...]:
        """The search oracle: best on the mean of all *search* repeats, unknown report data."""
        return self.assignments[int(self._worth(self._search, slice(None)).argmax())]

    def regret(self, bitwidths: tuple[int, ...]) -> float:
        """``(mu* - mu) / (mu* - mu_random)``: 0 is the optimum, 1 a random assignment."""
        evaluator = self._report.evaluator
        assert isinstance(evaluator, TableEvaluator)
        worth = self.worth[evaluator.index(bitwidths)]
        return float((self.best_worth - worth) / (self.best_worth - self.random_worth))

    def _worth(self, problem: Problem, repeats: slice) -> NDArray[np.float64]:
        evaluator = problem.evaluator
        assert isinstance(evaluator, TableEvaluator)
        accuracies = evaluator.mean_accuracies(repeats).tolist()
        return np.array(
            [
                problem.objective(bitwidths, accuracy)
                for bitwidths, accuracy in zip(self.assignments, accuracies, strict=True)
            ]
        )


class SyntheticScorer:
    """Regret on a synthetic landscape under ``accuracy_floor``: the optimum is exact.

    Args:
        problem: The search problem, on a `SyntheticEvaluator`.
    """

    def __init__(self, problem: Problem):
        if not isinstance(problem.evaluator, SyntheticEvaluator):
            raise ValueError(f"{problem.evaluator.name} is not synthetic.")
        self._problem, self._evaluator = problem, problem.evaluator

    @cached_property
    def optimum(self) -> tuple[int, ...]:
        """The cheapest assignment within the tolerated loss."""
        bitwidths = self._evaluator.bitwidths
        costs = np.stack([self._problem.layer_costs(bitwidth) for bitwidth in bitwidths], axis=1)
        return self._evaluator.optimum(costs)

    @cached_property
    def best_worth(self) -> float:
        """Objective of the optimum."""
        return self._worth(self.optimum)

    @cached_property
    def random_worth(self) -> float:
        """Mean objective of random assignments."""
        rng = np.random.default_rng(0)
        shape = (RANDOM_DRAWS, len(self._problem.layers))
        draws = rng.choice(self._evaluator.bitwidths, size=shape).tolist()
        return float(np.mean([self._worth(tuple(draw)) for draw in draws]))

    def regret(self, bitwidths: tuple[int, ...]) -> float:
        """``(mu* - mu) / (mu* - mu_random)``: 0 is the optimum, 1 a random assignment."""
        gap = self.best_worth - self.random_worth
        return (self.best_worth - self._worth(bitwidths)) / gap

    def _worth(self, bitwidths: tuple[int, ...]) -> float:
        return self._problem.objective(bitwidths, self._evaluator.evaluate(bitwidths, 0).accuracy)


def make_scorer(problem: Problem) -> TableScorer | SyntheticScorer:
    """The scorer for a problem whose optimum is known.

    Raises:
        ValueError: Where it is not.
    """
    if isinstance(problem.evaluator, SyntheticEvaluator):
        return SyntheticScorer(problem)
    return TableScorer(problem)
