"""Relative accuracy minus cost: the second reward that the paper compares with its own."""

from __future__ import annotations

from dataclasses import dataclass

from releq_gym.rewards import REWARDS
from releq_gym.transition import Transition


@REWARDS.register("difference")
@dataclass(frozen=True)
class Difference:
    """``relative_accuracy - cost``. Source: ReLeQ, arXiv 1811.01704."""

    def __call__(self, transition: Transition) -> float:
        """The reward, at least -1."""
        return transition.relative_accuracy - transition.cost

    batch = __call__
