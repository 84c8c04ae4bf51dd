"""PPO on changes of the best bitwidths so far; invented landscapes have taught its policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from agents.base import AGENTS, Preset
from agents.policy_file import load_policy, read_card
from agents.ppo import PPOAgent, PPOSettings
from agents.pretrain_improver import ARCHITECTURE
from agents.sb3 import Novelty
from releq_gym.wrappers import Incumbent
from releq_gym.wrappers.incumbent import CHANGE

SHIPPED = Path(__file__).parent / "policies" / "improver.safetensors"
"""Made by `python -m agents.pretrain_improver`; no real network was in its training."""


@dataclass(frozen=True)
class ImproverSettings(PPOSettings):
    """How the improver goes on learning while it searches."""

    learning_rate: float = 3e-4
    """Of the optimizer; gentler than where nothing is known yet."""
    n_envs: int = 1
    """Environments side by side, each with its own best bitwidths so far."""
    episodes_per_update: int = 10
    """Walks between two updates of the policy."""
    policy: str | None = None
    """File of `python -m agents.pretrain_improver`; by default the shipped one."""


DEFAULT = Preset(ImproverSettings())
"""PPO's, but for what a policy that knows something already needs; not tuned."""


@AGENTS.register("improver")
class ImproverAgent(PPOAgent):
    """A policy that has learned to search, on many invented landscapes: `Incumbent`.

    It sees the best bitwidths so far and how its last walks went, and changes them; so it adapts to
    a network while its weights stay as they are. Beyond that it goes on learning by PPO, which
    pays off with many evaluations only.

    Args:
        make_env: As of `Agent`, likewise the following.
        settings: `ImproverSettings`.
        seed: Fixes everything random.
        checkpoint: What `save` wrote; what the last walks were is not in it.

    Raises:
        ValueError: For a policy that is missing or does not fit the environment.
    """

    presets = {"default": DEFAULT}  # noqa: RUF012

    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        settings: ImproverSettings,
        seed: int,
        checkpoint: Path | None = None,
    ):
        path = SHIPPED if settings.policy is None else Path(settings.policy)
        card = read_card(path, "changes")
        super().__init__(make_env, settings, seed, checkpoint)
        card.check_observation(self._venv.get_attr("observation")[0])
        if checkpoint is None:
            load_policy(path, self.model.policy)

    @staticmethod
    def wrap(env: gym.Env) -> gym.Env:
        """See `Agent.wrap`."""
        return Incumbent(env)

    def architecture(self) -> dict[str, Any]:
        """See `OnPolicyAgent.architecture`."""
        return ARCHITECTURE

    def walk(self, env: gym.Env) -> None:
        """None: its policy is nothing without what it has found."""

    def novelty(self) -> Novelty:
        """See `SB3Agent.novelty`; an episode has no end here, a walk has."""
        return _WalkNovelty(self.ledger, self.settings.novelty, self.explore, self.window)

    def choices(self, observations: Any, buffer: Any) -> torch.Tensor:
        """See `OnPolicyAgent.choices`: of bitwidths, wherever the changes lead."""
        changes = super().choices(observations, buffer)
        shown = self._venv.get_attr("feature_names")[0].index("incumbent_bitwidth")
        bitwidths = torch.tensor(self.problem.bitwidths)
        places = (bitwidths - 8 * observations[:, shown : shown + 1]).abs().argmin(dim=1)
        reached = places[:, None] + torch.arange(-CHANGE, CHANGE + 1)
        reached = reached.clamp(0, len(bitwidths) - 1)
        return torch.zeros(len(changes), len(bitwidths)).scatter_add_(1, reached, changes)


class _WalkNovelty(Novelty):
    """Counts walks, where episodes are many of them."""

    def _on_step(self) -> bool:
        self._episodes += sum(info["evaluated"] for info in self.locals["infos"])
        return True
