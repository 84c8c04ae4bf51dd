"""Episodes of one environment from their actions, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.base import Evaluator, evaluate_many
from releq_gym.prefixes import ComputedPrefixes
from releq_gym.rewards import reward_many

NOT_ASKED = -2
"""In the place of a repeat (-1 is their mean)."""


class Walk:
    """What a `QuantizeNetEnv` does with these actions.

    Args:
        env: The environment; it is not stepped.
        actions: Per episode, as many as were taken, none longer than an episode.

    Attributes:
        bitwidths: Where each episode ended, ``[episodes, layers]``.
        repeats: To be filled in before `accuracies` and `rewards` are asked for: which repeat an
            episode saw after a step, ``[episodes, steps]``; `NOT_ASKED` where it saw none.
    """

    def __init__(self, env: QuantizeNetEnv, actions: Sequence[Sequence[int]]):
        self._env = env
        lengths = np.array([len(taken) for taken in actions])
        self._order = np.argsort(-lengths, kind="stable")  # the longest first
        self.repeats = np.full((len(actions), len(env.problem.steps)), NOT_ASKED, dtype=np.intp)
        self._prefixes = ComputedPrefixes(env.problem, env.observe)
        positions = self._prefixes.start(len(actions))
        self.bitwidths = self._prefixes.bitwidths(positions).copy()
        self._levels = []
        for step in range(lengths.max(initial=0)):
            rows = self._order[: int((lengths > step).sum())]
            positions = self._prefixes.part(positions, np.arange(len(rows)))
            choices = np.array([actions[row][step] for row in rows.tolist()], dtype=np.intp)
            if env.problem.has_masks:
                choices = self._prefixes.executed(positions, choices)
            positions = self._prefixes.after(positions, choices)
            self.bitwidths[rows] = self._prefixes.bitwidths(positions)
            self._levels.append(positions)

    @cached_property
    def indices(self) -> NDArray[np.uint64]:
        """`Problem.index` after every step, ``[episodes, steps]``."""
        found = np.zeros(self.repeats.shape, dtype=np.uint64)
        for step, positions in enumerate(self._levels):
            rows = self._order[: len(positions.step)]
            found[rows, step] = self._prefixes.index(positions)
        return found

    def after(self, row: int, step: int) -> tuple[int, ...]:
        """The bitwidths of an episode after some steps."""
        problem, bitwidths = self._env.problem, self.bitwidths[row].tolist()
        return problem.assignment([bitwidths[layer] for layer in problem.steps[:step]])

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """What was revealed after every step, ``[episodes, steps]``; NaN where nothing was."""
        return self._answers[0]

    @property
    def rewards(self) -> NDArray[np.float64]:
        """By the timing of the environment, ``[episodes, steps]``."""
        worths, timing = self._answers[1], self._env.reward_timing
        if timing == "every_step":
            return worths
        if timing == "final":
            last = worths.shape[1] - 1
            return np.where(np.arange(worths.shape[1]) == last, worths, 0.0)
        before = np.pad(worths, ((0, 0), (1, 0)))[:, :-1]
        return np.where(self.repeats == NOT_ASKED, 0.0, self._env.gamma * worths - before)

    @cached_property
    def _answers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        problem = self._env.problem
        accuracies, worths = np.full(self.repeats.shape, np.nan), np.zeros(self.repeats.shape)
        for step, positions in enumerate(self._levels):
            rows = self._order[: len(positions.step)]
            asked = np.flatnonzero(self.repeats[rows, step] != NOT_ASKED)
            if not len(asked):
                continue
            part, rows = self._prefixes.part(positions, asked), rows[asked]
            bitwidths = self._prefixes.bitwidths(part)
            revealed = _evaluated(problem.evaluator, bitwidths, self.repeats[rows, step])
            accuracies[rows, step] = revealed
            terminated, economics = step + 1 == len(problem.steps), self._prefixes.economics(part)
            transition = problem.transition(bitwidths, revealed, terminated, economics)
            worths[rows, step] = reward_many(problem.reward, transition)
        return accuracies, worths


def _evaluated(
    evaluator: Evaluator, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Accuracies; NaN of what the evaluator refuses."""
    try:
        return evaluate_many(evaluator, bitwidths, repeats).accuracy
    except ValueError:
        return np.array([_one(evaluator, *each) for each in zip(bitwidths, repeats, strict=True)])


def _one(evaluator: Evaluator, bitwidths: Any, repeat: Any) -> float:
    try:
        return evaluator.evaluate(tuple(bitwidths.tolist()), int(repeat)).accuracy
    except ValueError:
        return np.nan
