"""PPO on the whole assignment at once: a bandit."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch

from agents.base import AGENTS, Preset, Watch
from agents.ppo import PPOAgent, PPOSettings
from releq_gym.wrappers import OneShot

DEFAULT = Preset(PPOSettings())
"""PPO's; not tuned."""


@AGENTS.register("ppo_one_shot")
class PPOOneShotAgent(PPOAgent):
    """stable-baselines3's ``PPO`` on `OneShot`: independent probabilities for every layer.

    The observation is that of the first layer; on one network it never changes, so that nothing
    but the bitwidths' probabilities is learned. ``reward_timing="final"`` is the only one.
    """

    presets = {"default": DEFAULT}  # noqa: RUF012

    @staticmethod
    def wrap(env: gym.Env) -> gym.Env:
        """See `Agent.wrap`."""
        return OneShot(env)

    @property
    def episode(self) -> int:
        """One step."""
        return 1

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Of the environments below, one per layer, as other agents count them."""
        return self.model.num_timesteps * len(self.problem.steps)

    def learn(self, steps: int, watch: Watch) -> None:
        """See `Agent.learn`."""
        super().learn(-(-steps // len(self.problem.steps)), watch)

    def choices(self, observations: Any, buffer: Any) -> torch.Tensor:
        """See `OnPolicyAgent.choices`; ``[steps * envs, layers, bitwidths]``."""
        distribution = self.model.policy.get_distribution(observations).distribution
        return torch.stack([layer.probs for layer in distribution], dim=1)
