"""Soft actor-critic on continuous bitwidths."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import SAC

from agents.base import AGENTS, Preset
from agents.continuous import ContinuousAgent
from agents.off_policy import OffPolicySettings

DEFAULT = Preset(OffPolicySettings(learning_rate=1e-3, exploration=0.1, least_exploration=0.002))
"""Not tuned; the first that was tried."""


@AGENTS.register("sac")
class SACAgent(ContinuousAgent):
    """stable-baselines3's ``SAC``; exploration is the weight of the entropy.

    SAC can learn that weight for an entropy that is asked for; here novelty is asked for.
    """

    presets = {"default": DEFAULT}  # noqa: RUF012
    algorithm = SAC

    @property
    def exploration(self) -> float:
        """The weight."""
        return self.model.ent_coef

    @exploration.setter
    def exploration(self, strength: float) -> None:
        self.model.ent_coef = strength
        self.model.ent_coef_tensor = torch.tensor(strength)

    def options(self) -> dict[str, Any]:
        """See `SB3Agent.options`."""
        return {**super().options(), "ent_coef": self.settings.exploration}
