"""Twin delayed DDPG on continuous bitwidths."""

from __future__ import annotations

from stable_baselines3 import TD3

from agents.base import AGENTS
from agents.ddpg import DDPGAgent


@AGENTS.register("td3")
class TD3Agent(DDPGAgent):
    """stable-baselines3's ``TD3``: DDPG with two critics, a slower actor and smoothed targets."""

    algorithm = TD3
