"""Accuracy with a price on cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from releq_gym.plain_numbers import is_real
from releq_gym.rewards import REWARDS
from releq_gym.transition import Transition


@REWARDS.register("lagrangian")
@dataclass(frozen=True)
class Lagrangian:
    """``relative_accuracy - weight * cost``.

    Attributes:
        weight: Price of the whole network at 8 bits, in relative accuracy, 0 or more.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        if not is_real(self.weight) or not 0 <= self.weight < math.inf:
            raise ValueError(f"weight={self.weight!r} has to be a price, 0 or more.")

    def __call__(self, transition: Transition) -> float:
        """The reward."""
        return transition.relative_accuracy - self.weight * transition.cost

    batch = __call__
