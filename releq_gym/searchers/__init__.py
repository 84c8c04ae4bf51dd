"""Searchers that are not reinforcement learning. One per file, all on the same environment.

A searcher plays whole episodes, so that what it reveals is charged, limited and logged as for any
agent, until the ledger's evaluation budget is spent or it has nothing left to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Answer
from releq_gym.registry import Registry
from releq_gym.rewards import reward_many

Searcher = Callable[[gym.Env, np.random.Generator], None]

SEARCHERS: Registry[Searcher] = Registry("searcher", "releq_gym.searchers")

Choice = tuple[int, ...]
"""Bitwidths to choose, one per step."""

IDLE = 10_000
"""Questions in a row that may reveal nothing new: a cost budget can execute all of them as one."""


MOST_WITHOUT_BUDGET = 10_000
"""Assignments of a problem that may all be asked for: an environment of more needs a budget."""


class Played(NamedTuple):
    """What one episode revealed.

    Attributes:
        choice: What was executed: the cost budget may have lowered what was asked for.
        objective: The reward; minus infinity where the evaluation budget refused the episode.
        loss_points: Full precision minus revealed accuracy, in percentage points.
    """

    choice: Choice
    objective: float
    loss_points: float


class Player:
    """Plays chosen assignments on an environment.

    Args:
        env: Any `QuantizeNetEnv` that measures only complete assignments; wrapped or not, if its
            actions are still the bitwidths.
        until_spent: Whether it asks until the evaluation budget is spent. Then there has to be
            one, unless a wrapper that has the attribute ``ends_search`` sees to that.

    Attributes:
        steps: How many bitwidths a choice has.
        repeats: Different accuracies that an assignment may reveal.
        spent: Whether the evaluation budget has refused an assignment.
        known: What `ask` was told, by what it was asked.

    Raises:
        ValueError: Where the environment measures at every step, which would charge a searcher
            for answers that it did not ask for, walks over several networks, or takes other
            actions; or where a search would not end, for want of a budget.
    """

    def __init__(self, env: gym.Env, *, until_spent: bool = False):
        base: Any = env.unwrapped
        if not isinstance(base, QuantizeNetEnv):
            raise ValueError(
                f"A searcher plays on one network, not on {type(base).__name__}; make an "
                "environment for each, with a single net=."
            )
        if base.evaluate != "final":
            raise ValueError(
                "A searcher needs an environment with evaluate='final' and reward_timing='final'."
            )
        if env.action_space != base.action_space or env.has_wrapper_attr("walks"):
            raise ValueError(
                "A searcher's actions are bitwidths, one per step, but a wrapper such as "
                "ContinuousBitwidth, OneShot or Incumbent takes others; give it the environment "
                "below, env.unwrapped."
            )
        self.env, self.problem, self.ledger = env, base.problem, base.ledger
        self.steps = len(self.problem.steps)
        self.repeats = base.problem.evaluator.repeats if base.noise == "sample" else 1
        endless = (
            until_spent and self.ledger.left is None and not env.has_wrapper_attr("ends_search")
        )
        if endless and self._size > MOST_WITHOUT_BUDGET:
            raise ValueError(
                f"This searcher asks until the evaluation budget is spent, and there is none for "
                f"the {self._size:,} assignments of {self.problem.evaluator.name}; make the "
                "environment with one, such as evaluation_budget=600."
            )
        self.spent = False
        self.known: dict[Choice, Played] = {}
        self._best: Any = None
        self._ranked = 0
        self._executed: dict[Choice, Played] = {}
        self._idle = 0

    @property
    def most_bits(self) -> Choice:
        """Every step at its most bits, where an episode starts."""
        return (self.problem.bitwidths[-1],) * self.steps

    @property
    def least_bits(self) -> Choice:
        """Every step at its fewest bits."""
        return (self.problem.bitwidths[0],) * self.steps

    @property
    def best(self) -> Played:
        """What `ask` was told that has the best cautious objective, ties to the lower cost."""
        if len(self.known) == self._ranked:
            return self._best
        asked = list(self.known.values())
        choices = [one.choice for one in asked]
        worths = self.worths(choices, np.array([one.loss_points for one in asked]))
        costs = self.totals[np.arange(self.steps), self.digits(choices), 0].sum(axis=1)
        self._best, self._ranked = asked[np.lexsort((costs, -worths))[0]], len(asked)
        return self._best

    @property
    def start(self) -> Choice:
        """The most bits, the same in every step, that the cost budget admits.

        Where it admits none of those, every step at the bitwidth that costs least, by the figure
        that makes for an admitted one, the headline first.
        """
        bitwidths = self.problem.bitwidths
        choices = [(bitwidth,) * self.steps for bitwidth in reversed(bitwidths)]
        for cheapest in self.totals.argmin(axis=1).T.tolist():
            choices.append(tuple(bitwidths[digit] for digit in cheapest))
        return next(filter(self.admits, choices), choices[len(bitwidths)])

    @cached_property
    def totals(self) -> NDArray[np.float64]:
        """What each choice adds to `Problem.totals` over that of the most bits.

        float64 ``[steps, bitwidths, totals]``, the headline cost figure first.
        """
        most = self.problem.totals(self.complete(self.most_bits))
        table = [
            [
                self.problem.totals(self.complete(changed(self.most_bits, step, bitwidth))) - most
                for bitwidth in self.problem.bitwidths
            ]
            for step in range(self.steps)
        ]
        return np.array(table)

    @property
    def done(self) -> bool:
        """Whether to stop: the budget is spent, everything is known, or nothing new in sight."""
        if self.spent or self._idle >= IDLE or len(self.known) >= self.problem.size:
            return True
        return self.problem.measured is not None and self._revealed >= self._size

    @property
    def left(self) -> int:
        """Different assignments that may still be revealed, as budget and space have it."""
        unknown = max(self._size - self._revealed, 0)
        return unknown if self.ledger.left is None else min(unknown, self.ledger.left)

    @property
    def _revealed(self) -> int:
        """Different assignments of this problem: a ledger may hold those of others, too."""
        return self.ledger.count(self.problem)

    @property
    def _size(self) -> int:
        measured = self.problem.measured
        return self.problem.size if measured is None else len(measured)

    def ask(self, choice: Choice) -> Played:
        """As `play`, but nothing is asked twice, nor played twice under another name."""
        if choice not in self.known:
            played, revealed = self._executed.get(self.executed(choice)), self.ledger.distinct
            if played is None:
                played = self.play(choice)
                if self.spent:
                    return played
            self.known[choice] = self._executed[played.choice] = played
            self._idle = 0 if self.ledger.distinct > revealed else self._idle + 1
        return self.known[choice]

    def executed(self, choice: Choice) -> Choice:
        """What the environment makes of a choice: masks may change it."""
        base: Any = self.env.unwrapped
        masked = self.problem.has_masks and not self.admits(choice)
        return base.executed(choice) if masked else choice

    def play(self, choice: Sequence[int]) -> Played:
        """One episode; of what masks do not leave the nearest is asked for.

        Args:
            choice: One bitwidth per step.
        """
        self.env.reset()
        executed: list[int] = []
        for bitwidth in self.executed(tuple(choice)):
            action = self.problem.bitwidths.index(bitwidth)
            _, reward, _, truncated, info = self.env.step(action)
            executed.append(info["executed_bitwidth"])
            self.spent = self.spent or truncated
        if self.spent:
            return Played(tuple(executed), -np.inf, np.inf)
        return Played(tuple(executed), float(reward), info["loss_points"])

    def draw(self, rng: np.random.Generator) -> Choice:
        """A choice, all equally likely."""
        return tuple(int(rng.choice(self.problem.bitwidths)) for _ in range(self.steps))

    def mutated(self, choice: Choice, rng: np.random.Generator) -> Choice:
        """One of `neighbours`, all equally likely; there have to be two bitwidths at least."""
        step = int(rng.integers(self.steps))
        others = [bitwidth for bitwidth in self.problem.bitwidths if bitwidth != choice[step]]
        return changed(choice, step, int(rng.choice(others)))

    def neighbours(self, choice: Choice) -> list[Choice]:
        """All choices that differ in one step."""
        return [
            changed(choice, step, bitwidth)
            for step in range(self.steps)
            for bitwidth in self.problem.bitwidths
            if bitwidth != choice[step]
        ]

    def unknown_near(self, choice: Choice, rng: np.random.Generator) -> Choice:
        """A choice that is unknown: this one, or the first on a random walk away from it.

        There has to be one, as there is before the player is `done`.
        """
        while choice in self.known:
            choice = self.mutated(choice, rng)
        return choice

    def complete(self, choice: Sequence[int]) -> tuple[int, ...]:
        """The assignment, one bitwidth per layer, that a choice stands for."""
        return self.problem.assignment(choice)

    def admits(self, choice: Choice) -> bool:
        """Whether the cost budget leaves a choice as it is."""
        return self.problem.admits(self.complete(choice))

    def worths(
        self, choices: Sequence[Choice], loss_points: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The cautious objectives by which `Ledger.best` ranks, at given losses.

        Args:
            choices: Any number of them.
            loss_points: Percentage points, ``[choices]``, or several for each ``[choices, n]``.

        Returns:
            As many objectives, of the same shape.
        """
        problem = self.problem
        full = problem.evaluator.full_precision_accuracy
        accuracies = np.clip(full - np.asarray(loss_points) / 100.0, 0.0, 1.0).ravel()
        cautious = np.array([problem.cautious(one) for one in accuracies.tolist()])
        each = np.arange(len(choices)).repeat(len(accuracies) // len(choices))
        assignments = np.array([self.complete(choice) for choice in choices])[each]
        added = self.totals[np.arange(self.steps), self.digits(choices)].sum(axis=1)
        totals = problem.totals(self.complete(self.most_bits)) + added[each]
        economics = problem.economics(len(problem.steps), totals)
        transition = problem.transition(assignments, cautious, economics=economics)
        return reward_many(problem.reward, transition).reshape(np.shape(loss_points))

    def worth(self, played: Played) -> float:
        """The cautious objective of what was executed, see `worths`."""
        return float(self.worths([played.choice], np.array([played.loss_points]))[0])

    def digits(self, choices: Sequence[Choice]) -> NDArray[np.intp]:
        """Positions of the bitwidths among those to choose from, ``[choices, steps]``."""
        return np.searchsorted(self.problem.bitwidths, np.array(choices))


def changed(choice: Choice, step: int, bitwidth: int) -> Choice:
    """A choice with another bitwidth in one step."""
    return (*choice[:step], bitwidth, *choice[step + 1 :])


def confirm(env: gym.Env) -> Answer | None:
    """The answer of a search, asked again until as many repeats of it are known as there are.

    The best of many noisy accuracies is a lucky one. Asking again is free under a budget of
    different assignments, so every search is entitled to it.

    Args:
        env: Environment with ``evaluate="final"``, on the ledger of the search.

    Returns:
        `Ledger.best` then; None where nothing has been asked.
    """
    player = Player(env)
    ledger, problem = player.ledger, player.problem
    answer = ledger.best(problem)
    for _ in range(player.repeats * max(ledger.distinct, 1)):
        if answer is None or answer.repeats >= player.repeats or player.spent:
            break
        player.play([answer.bitwidths[layer] for layer in problem.steps])
        answer = ledger.best(problem)
    return answer
