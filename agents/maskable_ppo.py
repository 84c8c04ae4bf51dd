"""PPO that knows which bitwidths a budget leaves, and chooses among them."""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.base import AGENTS
from agents.on_policy import flatten
from agents.ppo import PPOAgent


@AGENTS.register("maskable_ppo")
class MaskablePPOAgent(PPOAgent):
    """sb3-contrib's ``MaskablePPO``, which asks the environments' ``action_masks``.

    Where nothing is masked it is PPO, and it has PPO's settings.
    """

    algorithm = MaskablePPO

    def choices(self, observations: Any, buffer: Any) -> torch.Tensor:
        """See `OnPolicyAgent.choices`; with the masks of the rollout."""
        masks = flatten(buffer.action_masks)
        return self.model.policy.get_distribution(observations, masks).distribution.probs

    def masks(self, venv: DummyVecEnv) -> dict[str, Any]:
        """See `SB3Agent.masks`."""
        return {"action_masks": get_action_masks(venv)}
