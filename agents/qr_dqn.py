"""Q-learning of distributions: quantiles of what each bitwidth returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sb3_contrib import QRDQN

from agents.base import AGENTS, Preset
from agents.dqn import DQNAgent
from agents.off_policy import OffPolicySettings


@dataclass(frozen=True)
class QRDQNSettings(OffPolicySettings):
    """How QR-DQN learns."""

    n_quantiles: int = 25
    """Quantiles per bitwidth; time grows with their square."""


DEFAULT = Preset(QRDQNSettings())
"""DQN's, and fewer quantiles than the usual 200, which took most of the time; not tuned."""


@AGENTS.register("qr_dqn")
class QRDQNAgent(DQNAgent):
    """sb3-contrib's ``QRDQN``; exploration is the probability of a random bitwidth."""

    presets = {"default": DEFAULT}  # noqa: RUF012
    algorithm = QRDQN

    def options(self) -> dict[str, Any]:
        """See `SB3Agent.options`."""
        quantiles = {"n_quantiles": self.settings.n_quantiles}
        return {**super().options(), "policy_kwargs": quantiles}
