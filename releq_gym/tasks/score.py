"""Scores answers on report data: how far from the optimum. Only scorers and reports open it."""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from releq_gym.evaluators.surrogate import SurrogateEvaluator
from releq_gym.evaluators.synthetic import SyntheticEvaluator
from releq_gym.evaluators.table import PartialTableEvaluator, TableEvaluator
from releq_gym.problem import Problem
from releq_gym.rewards.accuracy_floor import AccuracyFloor
from releq_gym.transition import Transition

BENEFIT = 2.0
"""Standard errors of the report images by which an accuracy may be better than it looks."""

RANDOM_DRAWS = 20_000
"""Assignments behind the random mean of a space that is too large to enumerate."""


class TableScorer:
    """Regret on an exhaustive task, or on what fixed bitwidths, groups and budgets leave of it.

    The worth ``mu`` of an assignment is its objective at the *mean report* accuracy and
    `BENEFIT` standard errors of the report images (`Problem.caution`): no search can see these
    images, so that an answer counts as too inaccurate only where they show it. The optimum is the
    best by the same measure, in hindsight: the luckiest of all on these images, too, which no
    search can know. `search_regret` tells how well somebody has searched; an imported task, which
    has no report split, has that and the search oracle alone, all else raises ValueError there.

    Args:
        problem: The search problem, on a `TableEvaluator`. Where it is restricted, the optimum is
            the best of what it admits, and a random assignment one of these.

    Attributes:
        has_report: Whether there are report data.
        table: What is known on search data.

    Raises:
        ValueError: For another evaluator.
    """

    def __init__(self, problem: Problem):
        if isinstance(problem.evaluator, PartialTableEvaluator):
            raise ValueError(
                f"{problem.evaluator.name} lacks assignments, so that nobody knows its optimum."
            )
        if not isinstance(problem.evaluator, TableEvaluator):
            raise ValueError(f"{problem.evaluator.name} is no table; it has no known optimum.")
        self._search, self.table = problem, problem.evaluator
        self.has_report = "report" in self.table.task.splits

    @cached_property
    def assignments(self) -> list[tuple[int, ...]]:
        """Every assignment, in the order of the task's rows."""
        return list(product(self.table.bitwidths, repeat=len(self.table.layers)))

    @cached_property
    def admitted(self) -> NDArray[np.bool_]:
        """Which of `assignments` may be an answer."""
        if not _restrictions(self._search):
            return np.ones(len(self.assignments), dtype=np.bool_)
        return np.array(list(map(self._search.admits, self.assignments)))

    @cached_property
    def _report_table(self) -> TableEvaluator:
        if not self.has_report:
            raise ValueError(
                f"{self.table.task.name} has no report split, so that search_regret alone can be "
                "told of it."
            )
        return TableEvaluator(self.table.task, "report")

    @cached_property
    def _report(self) -> Problem:
        return self._search.with_evaluator(self._report_table)

    @cached_property
    def worth(self) -> NDArray[np.float64]:
        """``mu`` of every assignment; -inf of what is not admitted."""
        accuracies = self._report_table.mean_accuracies()
        doubt = np.array([self._report.caution(accuracy) for accuracy in accuracies.tolist()])
        return self._worth(self._report, np.minimum(accuracies + BENEFIT * doubt, 1.0))

    @cached_property
    def optimum(self) -> tuple[int, ...]:
        """The assignment that is worth most, in hindsight."""
        return self.assignments[self._best(self.worth)]

    @cached_property
    def best_worth(self) -> float:
        """``mu`` of the optimum."""
        return float(self.worth[self._best(self.worth)])

    @cached_property
    def random_worth(self) -> float:
        """Mean ``mu`` over all assignments that are admitted."""
        return float(self.worth[self.admitted].mean())

    @cached_property
    def oracle(self) -> tuple[int, ...]:
        """The search oracle: the answer of somebody who has seen all *search* repeats."""
        return self.assignments[self._best(self.search_worth)]

    @cached_property
    def search_worth(self) -> NDArray[np.float64]:
        """The cautious objective of every assignment at the mean of all its *search* repeats."""
        cautious = map(self._search.cautious, self.table.mean_accuracies().tolist())
        return self._worth(self._search, np.array(list(cautious)))

    @cached_property
    def best_search_worth(self) -> float:
        """Of the search oracle."""
        return float(self.search_worth[self._best(self.search_worth)])

    @cached_property
    def _random_search_worth(self) -> float:
        return float(self.search_worth[self.admitted].mean())

    def regret(self, bitwidths: tuple[int, ...]) -> float:
        """``(mu* - mu) / (mu* - mu_random)``: 0 is the optimum, 1 a random assignment.

        Raises:
            ValueError: For an assignment that the problem does not admit.
        """
        return self._regret(bitwidths, self.worth, self.best_worth, self.random_worth)

    def report_transition(self, bitwidths: tuple[int, ...]) -> Transition:
        """What the report data say of an assignment, without any benefit."""
        accuracy = self._report_table.mean_accuracies()[self._report_table.index(bitwidths)]
        return self._report.transition(bitwidths, float(accuracy))

    def search_regret(self, bitwidths: tuple[int, ...]) -> float:
        """The same on search data, against the search oracle: how well somebody has searched.

        Worth there is what answers are ranked by, the objective one standard error of the search
        images below the mean accuracy (`Problem.cautious`). So an assignment that barely keeps a
        tolerated loss is worth little, though no other may have a higher plain reward.

        `regret` measures beside that how well the search images stand for others, which no search
        can help: under a floor, an answer that clearly breaks it on others is worth nothing.
        """
        best, random = self.best_search_worth, self._random_search_worth
        return self._regret(bitwidths, self.search_worth, best, random)

    def _best(self, worth: NDArray[np.float64]) -> int:
        return int(np.where(self.admitted, worth, -np.inf).argmax())

    def _regret(
        self, bitwidths: tuple[int, ...], worth: NDArray[np.float64], best: float, random: float
    ) -> float:
        row = self.table.index(bitwidths)
        if not self.admitted[row]:
            raise ValueError(
                f"{' '.join(map(str, bitwidths))} is not among the assignments that the problem "
                f"admits, which is restricted by {', '.join(_restrictions(self._search))}."
            )
        return float((best - worth[row]) / (best - random)) if best > random else 0.0

    def _worth(self, problem: Problem, accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
        worth = np.full(len(self.assignments), -np.inf)
        for row in np.flatnonzero(self.admitted):  # a cost may be known of these alone
            worth[row] = problem.objective(self.assignments[row], float(accuracies[row]))
        return worth


class ExactScorer:
    """Regret where accuracies are exact and the optimum under ``accuracy_floor`` can be computed.

    On a surrogate this is regret against what the surrogate predicts, not against the network.

    Args:
        problem: The search problem, on a synthetic landscape or a surrogate, without restrictions.

    Attributes:
        has_report: False: there is one kind of data, and `regret` is `search_regret`.

    Raises:
        ValueError: For another evaluator or reward, or a restricted problem.
    """

    has_report = False

    def __init__(self, problem: Problem):
        if not isinstance(problem.evaluator, SyntheticEvaluator | SurrogateEvaluator):
            raise ValueError(f"{problem.evaluator.name} is no landscape whose optimum is known.")
        if not isinstance(problem.reward, AccuracyFloor):
            raise ValueError(
                f"The optimum of {problem.evaluator.name} is known under reward='accuracy_floor' "
                f"alone, not under {problem.reward!r}."
            )
        if restrictions := _restrictions(problem):
            raise ValueError(
                f"The optimum of {problem.evaluator.name} is known on the whole task alone (that "
                f"of a table under restrictions, too); leave out {', '.join(restrictions)}."
            )
        self._problem, self._evaluator = problem, problem.evaluator
        self._max_loss_points = problem.reward.max_loss_points

    @cached_property
    def optimum(self) -> tuple[int, ...]:
        """The cheapest assignment within the tolerated loss."""
        bitwidths = self._evaluator.bitwidths
        costs = np.stack([self._problem.layer_costs(bitwidth) for bitwidth in bitwidths], axis=1)
        return self._evaluator.optimum(costs, self._max_loss_points)

    @property
    def oracle(self) -> tuple[int, ...]:
        """The search oracle, which is the optimum: there is one kind of data."""
        return self.optimum

    @cached_property
    def best_worth(self) -> float:
        """Objective of the optimum."""
        return self._worth(self.optimum)

    @cached_property
    def search_worth(self) -> NDArray[np.float64]:
        """Objectives of `RANDOM_DRAWS` random assignments: the space is too large for all."""
        rng = np.random.default_rng(0)
        shape = (RANDOM_DRAWS, len(self._problem.layers))
        draws = rng.choice(self._evaluator.bitwidths, size=shape).tolist()
        return np.array([self._worth(tuple(draw)) for draw in draws])

    @cached_property
    def random_worth(self) -> float:
        """Mean objective of random assignments."""
        return float(self.search_worth.mean())

    @property
    def best_search_worth(self) -> float:
        """Of the optimum: there is one kind of data."""
        return self.best_worth

    def regret(self, bitwidths: tuple[int, ...]) -> float:
        """``(mu* - mu) / (mu* - mu_random)``: 0 is the optimum, 1 a random assignment."""
        gap = self.best_worth - self.random_worth
        return (self.best_worth - self._worth(bitwidths)) / gap

    search_regret = regret

    def report_transition(self, bitwidths: tuple[int, ...]) -> Transition:
        """What is known of an assignment; there are no report data."""
        accuracy = self._evaluator.evaluate(bitwidths, 0).accuracy
        return self._problem.transition(bitwidths, accuracy)

    def _worth(self, bitwidths: tuple[int, ...]) -> float:
        return self._problem.objective(bitwidths, self._evaluator.evaluate(bitwidths, 0).accuracy)


def _restrictions(problem: Problem) -> list[str]:
    """The arguments that leave a part of the task."""
    restrictions = {
        "fixed_bitwidths": sum(map(len, problem.groups)) < len(problem.layers),
        "groups": any(len(group) > 1 for group in problem.groups),
        "bitwidths": problem.bitwidths != tuple(problem.evaluator.bitwidths),
        "cost_budget": problem.has_budget,
    }
    return [name for name, is_given in restrictions.items() if is_given]


def make_scorer(problem: Problem) -> TableScorer | ExactScorer:
    """The scorer for a problem whose optimum is known.

    Args:
        problem: That of an environment, ``env.unwrapped.problem``.

    Raises:
        TypeError: For an environment.
        ValueError: Where no optimum is known.
    """
    if not isinstance(problem, Problem):
        raise TypeError(
            f"make_scorer takes a problem, not {type(problem).__name__}; that of an environment is "
            "env.unwrapped.problem."
        )
    if isinstance(problem.evaluator, SyntheticEvaluator | SurrogateEvaluator):
        return ExactScorer(problem)
    return TableScorer(problem)
