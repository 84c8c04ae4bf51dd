"""Off-policy agents whose action is a number, rounded to a bitwidth: the setting of HAQ."""

from __future__ import annotations

import gymnasium as gym

from agents.off_policy import OffPolicyAgent
from releq_gym.wrappers import ContinuousBitwidth


class ContinuousAgent(OffPolicyAgent):
    """Walks over `ContinuousBitwidth`."""

    @staticmethod
    def wrap(env: gym.Env) -> gym.Env:
        """See `Agent.wrap`."""
        return ContinuousBitwidth(OffPolicyAgent.wrap(env))
