"""Trust region policy optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sb3_contrib import TRPO

from agents.base import AGENTS, Preset
from agents.on_policy import OnPolicyAgent, OnPolicySettings


@dataclass(frozen=True)
class TRPOSettings(OnPolicySettings):
    """How TRPO learns; the learning rate is the critic's."""

    target_kl: float = 0.03
    """How far an update moves the policy: its mean Kullback-Leibler divergence."""
    n_critic_updates: int = 10
    """Gradient steps of the critic per update."""


DEFAULT = Preset(TRPOSettings())
"""Not tuned; the first that was tried (regret 0.060 at 300 on synthetic-8-0, seed 0)."""


@AGENTS.register("trpo")
class TRPOAgent(OnPolicyAgent):
    """sb3-contrib's ``TRPO``; see `SB3Agent`."""

    presets = {"default": DEFAULT}  # noqa: RUF012
    algorithm = TRPO

    def options(self) -> dict[str, Any]:
        """See `SB3Agent.options`."""
        return {
            **super().options(),
            "batch_size": self.rollout * self.n_envs,
            "target_kl": self.settings.target_kl,
            "n_critic_updates": self.settings.n_critic_updates,
        }

    def explore(self, factor: float) -> None:
        """Divides the logits, since there is no entropy in the loss; never sharpens them."""
        with torch.no_grad():
            for parameter in self.model.policy.action_net.parameters():
                parameter /= max(factor, 1.0)
