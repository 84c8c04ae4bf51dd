"""Least cost under a bound on the accuracy that may be lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.plain_numbers import is_real
from releq_gym.rewards import REWARDS
from releq_gym.transition import Transition


@REWARDS.register("accuracy_floor")
@dataclass(frozen=True)
class AccuracyFloor:
    """``1 - cost`` where the loss is tolerable, else minus the points beyond, over 100.

    Any tolerable assignment beats any other one, so the maximum is the cheapest assignment that
    keeps the accuracy: the constraint of the paper ("loss <= 0.3 %") stated as an objective. Where
    an assignment may cost more than all layers at 8 bits, as on a device that unpacks fewer bits in
    software, those that lose too much are worth so much less as the dearest is above 1.

    Attributes:
        max_loss_points: Tolerated loss in percentage points; None takes the task's own
            (0.3 where at least 5,000 images measure it).
    """

    max_loss_points: float | None = None

    def __post_init__(self) -> None:
        points = self.max_loss_points
        if points is None:
            return
        if not is_real(points) or not 0 <= points < math.inf:
            raise ValueError(f"max_loss_points={points!r} has to be a number of points, 0 or more.")

    def __call__(self, transition: Transition) -> float:
        """The reward."""
        kept, within, beyond = self._cases(transition)
        return within if kept else beyond

    def batch(self, transition: Transition) -> NDArray[np.float64]:
        """The rewards of many transitions, held as arrays in one."""
        return np.where(*self._cases(transition))

    def _cases(self, transition: Transition) -> tuple[Any, Any, Any]:
        """Whether the floor is kept, the reward if so, and if not."""
        floor = self.max_loss_points
        excess = transition.loss_points - (transition.max_loss_points if floor is None else floor)
        beyond = -excess / 100.0 - (transition.highest_cost - 1.0)
        return excess <= 1e-9, 1.0 - transition.cost, beyond
