"""What random search without repetition is expected to reach."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.runs import scorer_of
from benchmarks.statistics import best_of_random
from releq_gym.env import QuantizeNetEnv
from releq_gym.tasks.score import TableScorer

RUNS = 2_000
"""Of the Monte Carlo, where repeats differ."""


def random_search(task: str, draws: int) -> float:
    """Its expected search regret.

    Exact where an assignment has one accuracy. Where repeats differ it is played: of ``draws``
    assignments one repeat each is seen, and what looks best is asked again until it is known, as
    `releq_gym.searchers.confirm` does.

    Args:
        task: By name.
        draws: Different assignments.
    """
    scorer = scorer_of(task)
    worths = scorer.search_worth
    if isinstance(scorer, TableScorer) and scorer.table.repeats > 1:
        expected = float(worths[_played(task, draws)].mean())
    else:
        expected = best_of_random(worths, worths, draws)
    return (scorer.best_search_worth - expected) / (scorer.best_search_worth - float(worths.mean()))


def _played(task: str, draws: int) -> list[int]:
    """The answers of `RUNS` runs, by their row."""
    noisy, rng = _noisy(task), np.random.default_rng(draws)
    count, repeats = noisy.accuracies.shape
    found = []
    for _ in range(RUNS):
        chosen = rng.choice(count, min(draws, count), replace=False)
        first = rng.integers(repeats, size=len(chosen))
        looks = noisy.looks[chosen, first]
        told: dict[int, list[int]] = {}
        while True:
            place = int(looks.argmax())
            known = told.setdefault(place, [int(first[place])])
            if len(known) == repeats:
                break
            known.append(int(rng.choice([one for one in range(repeats) if one not in known])))
            looks[place] = noisy.look(int(chosen[place]), frozenset(known))
        found.append(int(chosen[place]))
    return found


class _Noisy:
    """A table whose repeats differ.

    Args:
        task: By name.

    Attributes:
        accuracies: ``[assignments, repeats]``.
        looks: The cautious objective of each.
    """

    def __init__(self, task: str):
        scorer = scorer_of(task)
        assert isinstance(scorer, TableScorer)
        self._problem = QuantizeNetEnv(task=task).problem
        self._assignments, self.accuracies = scorer.assignments, scorer.table.accuracies
        self._known: dict[tuple[int, frozenset[int]], float] = {}
        self.looks: NDArray[np.float64] = np.array(
            [
                [self._look(row, accuracy) for accuracy in repeats]
                for row, repeats in enumerate(self.accuracies.tolist())
            ]
        )

    def look(self, row: int, repeats: frozenset[int]) -> float:
        """The cautious objective at the mean of some repeats."""
        key = row, repeats
        if key not in self._known:
            mean = self.accuracies[row, sorted(repeats)].mean()
            self._known[key] = self._look(row, float(mean))
        return self._known[key]

    def _look(self, row: int, accuracy: float) -> float:
        problem = self._problem
        return problem.objective(self._assignments[row], problem.cautious(accuracy))


@cache
def _noisy(task: str) -> _Noisy:
    return _Noisy(task)
