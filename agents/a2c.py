"""Advantage actor-critic: one gradient step on each batch of episodes."""

from __future__ import annotations

from stable_baselines3 import A2C

from agents.base import AGENTS, Preset
from agents.on_policy import EntropyAgent, EntropySettings

DEFAULT = Preset(EntropySettings(n_envs=2))
"""Tried, one run each: with 10 environments, 31 updates in 300 episodes, it learned nothing on
synthetic-8-0; on synthetic-4-0 2 environments learned, 4 with a learning rate of 1e-2 less."""


@AGENTS.register("a2c")
class A2CAgent(EntropyAgent):
    """stable-baselines3's ``A2C``; see `SB3Agent`."""

    presets = {"default": DEFAULT}  # noqa: RUF012
    algorithm = A2C
