"""A continuous action, for algorithms that need one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


class ContinuousBitwidth(
    gym.ActionWrapper[Any, NDArray[np.float32], int], gym.utils.RecordConstructorArgs
):
    """``Box(0, 1)`` of one number instead of `Discrete`, for SAC, TD3 and DDPG.

    The interval is cut into as many equal parts as there are bitwidths, the lowest meaning the
    fewest bits; with all of 1 to 8 this is ``round(0.5 + 8 a)``, as in HAQ (Wang et al., CVPR 2019,
    arXiv 1811.08886). ``info["executed_bitwidth"]`` says what came of it.

    Args:
        env: With the action space of `releq_gym.env.QuantizeNetEnv`.
    """

    def __init__(self, env: gym.Env[Any, int]):
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ActionWrapper.__init__(self, env)
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ValueError(
                f"ContinuousBitwidth goes over a Discrete action space, not {env.action_space}."
            )
        self._choices = int(env.action_space.n)
        self.action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)

    def action(self, action: NDArray[np.float32]) -> int:
        """The index of the bitwidth; what lies outside of 0 to 1 counts as 0 or 1."""
        share = float(np.asarray(action, dtype=np.float64).reshape(()))
        if np.isnan(share):
            raise ValueError("The action is NaN; it has to be a number from 0 to 1.")
        return int(np.clip(share * self._choices, 0, self._choices - 1))
