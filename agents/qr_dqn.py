"""Q-learning of distributions: quantiles of what each bitwidth returns."""

from __future__ import annotations

from sb3_contrib import QRDQN

from agents.base import AGENTS
from agents.dqn import DQNAgent


@AGENTS.register("qr_dqn")
class QRDQNAgent(DQNAgent):
    """sb3-contrib's ``QRDQN``, with DQN's settings."""

    algorithm = QRDQN
