"""Accuracy with a price on cost."""

from __future__ import annotations

from dataclasses import dataclass

from releq_gym.rewards import REWARDS
from releq_gym.transition import Transition


@REWARDS.register("lagrangian")
@dataclass(frozen=True)
class Lagrangian:
    """``relative_accuracy - weight * cost``.

    Attributes:
        weight: Price of the whole network at 8 bits, in relative accuracy.
    """

    weight: float = 0.1

    def __call__(self, transition: Transition) -> float:
        """The reward."""
        return transition.relative_accuracy - self.weight * transition.cost

    batch = __call__
