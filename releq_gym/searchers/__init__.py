"""Searchers that are not reinforcement learning. One per file, all on the same environment.

A searcher plays whole episodes, so that what it reveals is charged, limited and logged as for any
agent, until the ledger's evaluation budget is spent or it has nothing left to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from releq_gym.env import QuantizeNetEnv
from releq_gym.registry import Registry

Searcher = Callable[[gym.Env, np.random.Generator], None]

SEARCHERS: Registry[Searcher] = Registry("searcher", "releq_gym.searchers")


class Player:
    """Plays chosen assignments on an environment.

    Args:
        env: Any `QuantizeNetEnv`, wrapped or not, that measures only complete assignments.

    Attributes:
        choices: Per step, the bitwidths to choose from.
        repeats: Different accuracies that an assignment may reveal.
        spent: Whether the evaluation budget has refused an assignment.

    Raises:
        ValueError: Where the environment measures at every step, which would charge a searcher
            for answers that it did not ask for.
    """

    def __init__(self, env: gym.Env):
        base: Any = env.unwrapped
        assert isinstance(base, QuantizeNetEnv)
        if base.evaluate != "final":
            raise ValueError("A searcher needs an environment with evaluate='final'.")
        self.env, self.problem, self.ledger = env, base.problem, base.ledger
        self.choices = [self.problem.bitwidths] * len(self.problem.steps)
        self.repeats = base.problem.evaluator.repeats if base.noise == "sample" else 1
        self.spent = False

    def play(self, bitwidths: Sequence[int]) -> tuple[tuple[int, ...], float]:
        """One episode; returns what was executed, one bitwidth per step, and its objective.

        Args:
            bitwidths: One per step. The cost budget may execute lower ones.
        """
        self.env.reset()
        reward, info = 0.0, {"bitwidths": self.problem.start}
        for bitwidth in bitwidths:
            action = self.problem.bitwidths.index(bitwidth)
            _, reward, _, truncated, info = self.env.step(action)  # type: ignore[assignment]
            self.spent = self.spent or truncated
        executed = tuple(info["bitwidths"][layer] for layer in self.problem.steps)
        return executed, -np.inf if self.spent else float(reward)


def confirm(env: gym.Env) -> None:
    """Asks for the answer again until it has as many repeats as there are, or is not the answer.

    The best of many noisy accuracies is a lucky one. Asking again is free under a budget of
    different assignments, so every search is entitled to it.

    Args:
        env: Environment with ``evaluate="final"``, on the ledger of the search.
    """
    player = Player(env)
    ledger, problem = player.ledger, player.problem
    for _ in range(player.repeats * max(ledger.distinct, 1)):
        answer = ledger.best(problem)
        if answer is None or answer.repeats >= player.repeats or player.spent:
            return
        player.play([answer.bitwidths[layer] for layer in problem.steps])


def assignments(choices: Sequence[Sequence[int]]) -> int:
    """Size of the space, a Python int."""
    size = 1
    for options in choices:
        size *= len(options)
    return size
