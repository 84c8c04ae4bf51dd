"""Deep deterministic policy gradient on continuous bitwidths: the agent of HAQ."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import NormalActionNoise

from agents.base import AGENTS, Preset
from agents.continuous import ContinuousAgent
from agents.off_policy import OffPolicySettings

DEFAULT = Preset(OffPolicySettings(learning_rate=1e-3, exploration=0.5, least_exploration=0.1))
"""HAQ (Wang et al., CVPR 2019, arXiv 1811.08886) starts with 20 random episodes, then adds
truncated normal noise of standard deviation 0.5 in 0 to 1, which is 1.0 in stable-baselines3's -1
to 1, and multiplies it by 0.99 per episode, which is 0.9 per 10. Here the noise is normal and cut
off, which at 1.0 plays the fewest or the most bits every third time at least: on synthetic-4-0 DDPG
settled on what was safe and learned nothing more, at 0.5 it learned (one run each). It rises again
when episodes bring nothing new. Every step is credited with what the episode ends with, there too.
"""


@AGENTS.register("ddpg")
class DDPGAgent(ContinuousAgent):
    """stable-baselines3's ``DDPG``; exploration is the standard deviation of its noise.

    In units of half the range of bitwidths.
    """

    presets = {"default": DEFAULT}  # noqa: RUF012
    algorithm: ClassVar[Any] = DDPG

    @property
    def exploration(self) -> float:
        """The standard deviation."""
        return float(self.model.action_noise._sigma[0])

    @exploration.setter
    def exploration(self, strength: float) -> None:
        self.model.action_noise = _noise(strength)

    def options(self) -> dict[str, Any]:
        """See `SB3Agent.options`."""
        return {**super().options(), "action_noise": _noise(self.settings.exploration)}


def _noise(deviation: float) -> NormalActionNoise:
    return NormalActionNoise(np.zeros(1), np.full(1, deviation))
