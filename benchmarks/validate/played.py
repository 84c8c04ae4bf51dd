"""An episode of a log beside its replay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.validate.records import Episode
from benchmarks.validate.walk import Walk
from releq_gym.env import QuantizeNetEnv
from releq_gym.problem import Problem
from releq_gym.replay import Revealed

ROUNDING = 1e-12
"""Of rewards, which another version of numpy may round otherwise; accuracies are exact."""


class Asked(NamedTuple):
    """A question to the evaluator.

    Attributes:
        line: Where the log tells it.
        problem: Of its environment.
        revealed: The answer; of a refusal the assignment alone counts.
        refused: Whether the evaluation budget left it without one.
    """

    line: int
    problem: Problem
    revealed: Revealed
    refused: bool

    @classmethod
    def in_vain(cls, episode: Episode, problem: Problem, bitwidths: tuple[int, ...]) -> Asked:
        """What the budget refused."""
        assert episode.refused is not None
        return cls(
            episode.line, problem, Revealed(bitwidths, math.nan, 0, False, episode.refused), True
        )


@dataclass(frozen=True)
class ReplayedEpisode:
    """An episode and its replay, once `Walk.repeats` are filled in.

    Attributes:
        episode: As told.
        env: Its environment.
        walk: The replay of many, among them this one.
        row: Which.
    """

    episode: Episode
    env: QuantizeNetEnv
    walk: Walk
    row: int

    @property
    def steps_asked(self) -> range:
        """After which steps accuracy was measured."""
        first = 1 if self.env.evaluate == "every_step" else len(self.env.problem.steps)
        refused = self.episode.refused is not None
        return range(first, len(self.episode.actions) + (0 if refused else 1))

    @property
    def answers(self) -> list[list[Any]]:
        """``[step, repeat, accuracy]``, but for those that the original of a copy tells."""
        repeats, accuracies = self.walk.repeats[self.row], self.walk.accuracies[self.row]
        return [
            [step, int(repeats[step - 1]), float(accuracies[step - 1])]
            for step in self.steps_asked
            if step > self.episode.copied
        ]

    def differences(self) -> Iterator[str]:
        """What the log tells and the replay does not give."""
        told, answers = [one[:3] for one in self.episode.revealed], self.answers
        if len(told) != len(answers):
            yield f"{len(told)} accuracies revealed, {len(answers)} replayed"
        for before, now in zip(told, answers, strict=False):
            if before != now:
                yield f"{_said(*before)}, replayed {_said(*now)}"
                break
        yield from self._rewards()
        bitwidths = self.walk.bitwidths[self.row].tolist()
        if self.episode.bitwidths != bitwidths:
            yield f"bitwidths {_listed(self.episode.bitwidths)}, replayed {_listed(bitwidths)}"
        complete = len(self.episode.actions) == len(self.env.problem.steps)
        if self.episode.cut == (complete or self.episode.refused is not None):
            cut = self.episode.cut
            yield "an episode that was cut, at its end" if cut else "an episode without its end"

    def _rewards(self) -> Iterator[str]:
        told = self.episode.rewards
        rewards = self.walk.rewards[self.row, : len(self.episode.actions)].tolist()
        if len(told) != len(rewards):
            yield f"{len(told)} rewards for {len(rewards)} actions"
        for step, (one, other) in enumerate(zip(told, rewards, strict=False), 1):
            if not math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING):
                yield f"a reward of {one} after step {step}, replayed {other}"
                break

    def asked(self) -> Iterator[Asked]:
        """Its questions as replayed, with the numbers that the log tells."""
        line, problem = self.episode.line, self.env.problem
        numbers = [one[3] for one in self.episode.revealed]
        for place, (step, repeat, accuracy) in enumerate(self.answers):
            number = numbers[place] if place < len(numbers) else max(numbers, default=0)
            bitwidths, complete = self.walk.after(self.row, step), step == len(problem.steps)
            one = Revealed(bitwidths, accuracy, repeat, complete, number)
            yield Asked(line, problem, one, False)
        if self.episode.refused is not None:
            bitwidths = self.walk.after(self.row, len(self.episode.actions))
            yield Asked.in_vain(self.episode, problem, bitwidths)


def as_told(episode: Episode, problem: Any, task: dict[str, Any]) -> Iterator[Asked]:
    """The questions of an episode that cannot be replayed.

    Args:
        episode: As told.
        problem: No more than what a `releq_gym.Ledger` asks for.
        task: Description of its environment.
    """
    groups = task["groups"]
    for step, repeat, accuracy, number in episode.revealed:
        bitwidths = list(task["start"])
        for layer in (layer for group in groups[:step] for layer in group):
            bitwidths[layer] = episode.bitwidths[layer]
        one = Revealed(tuple(bitwidths), accuracy, repeat, step == len(groups), number)
        yield Asked(episode.line, problem, one, False)
    if episode.refused is not None:
        yield Asked.in_vain(episode, problem, tuple(episode.bitwidths))


def _said(step: int, repeat: int, accuracy: float) -> str:
    return f"accuracy {accuracy} (repeat {repeat}) after step {step}"


def _listed(bitwidths: Iterable[int]) -> str:
    return " ".join(map(str, bitwidths))
