"""Relative accuracy over cost: the first of two rewards that the paper compares with its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from releq_gym.rewards import REWARDS
from releq_gym.transition import Transition


@REWARDS.register("ratio")
@dataclass(frozen=True)
class Ratio:
    """``relative_accuracy / cost``. Source: ReLeQ, arXiv 1811.01704."""

    def __call__(self, transition: Transition) -> float:
        """The reward, at least 0.

        Raises:
            ValueError: Where something costs nothing.
        """
        if not np.all(transition.cost):
            raise ValueError(
                "The reward 'ratio' divides by the cost, and some assignment costs nothing; take "
                "another reward, or a cost that is above 0."
            )
        return transition.relative_accuracy / transition.cost

    batch = __call__
