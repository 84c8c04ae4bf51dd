"""The paper's asymmetric reward, and the variant in the authors' released code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from releq_gym.plain_numbers import is_real
from releq_gym.rewards import REWARDS
from releq_gym.transition import Transition


def _check(reward: Releq | ReleqCode) -> None:
    for name in ("a", "b", "th"):
        value = getattr(reward, name)
        if not is_real(value) or not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r} has to be a number, 0 or more.")
    if not reward.th:
        raise ValueError("th=0 must be above 0: accuracy ** (b / accuracy) has no value at 0.")


@REWARDS.register("releq")
@dataclass(frozen=True)
class Releq:
    """``(1 - cost**a) * acc**(b / acc)``, ``acc = max(relative accuracy, th)``; -1 below ``th``.

    Source: ReLeQ, arXiv 1811.01704, with its constants. They ask for few bits rather than for
    accuracy: one bit less is worth a fall to about 62 % relative accuracy. `AccuracyFloor`
    states "a loss of at most 0.3 %" directly.

    Attributes:
        a: Exponent of the cost.
        b: Exponent of the relative accuracy.
        th: Relative accuracy under which the reward is -1.
    """

    a: float = 0.2
    b: float = 0.4
    th: float = 0.4

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, transition: Transition) -> float:
        """The reward, in [-1, 1]."""
        if transition.relative_accuracy < self.th:
            return -1.0
        accuracy = max(transition.relative_accuracy, self.th)
        return (1.0 - transition.cost**self.a) * accuracy ** (self.b / accuracy)

    def batch(self, transition: Transition) -> NDArray[np.float64]:
        """The rewards of many transitions, held as arrays in one."""
        accuracy = np.maximum(transition.relative_accuracy, self.th)
        shaped = (1.0 - transition.cost**self.a) * accuracy ** (self.b / accuracy)
        return np.where(transition.relative_accuracy < self.th, -1.0, shaped)


@REWARDS.register("releq_code")
@dataclass(frozen=True)
class ReleqCode:
    """``2 * ((1 - x**a) * acc**(b / acc) - 0.5)``, ``x = max(cost - 0.25, 0)``; -1 below ``th``.

    Source: the authors' released code, where (th, a, b) is (0.7, 0.8, 1), (0.8, 0.6, 3) or
    (0.1, 0.8, 1). Below two bits out of eight the cost no longer counts.

    Attributes:
        a: Exponent of the shifted cost.
        b: Exponent of the relative accuracy.
        th: Relative accuracy under which the reward is -1.
    """

    a: float = 0.8
    b: float = 1.0
    th: float = 0.7

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, transition: Transition) -> float:
        """The reward, at least -1."""
        accuracy = transition.relative_accuracy
        if accuracy < self.th:
            return -1.0
        shifted = max(transition.cost - 0.25, 0.0)
        return 2.0 * ((1.0 - shifted**self.a) * accuracy ** (self.b / accuracy) - 0.5)

    def batch(self, transition: Transition) -> NDArray[np.float64]:
        """The rewards of many transitions, held as arrays in one."""
        accuracy = np.maximum(transition.relative_accuracy, self.th)
        shifted = np.maximum(transition.cost - 0.25, 0.0)
        shaped = 2.0 * ((1.0 - shifted**self.a) * accuracy ** (self.b / accuracy) - 0.5)
        return np.where(transition.relative_accuracy < self.th, -1.0, shaped)
