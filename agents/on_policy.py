"""Agents of stable-baselines3 that learn from what the policy at hand has just played."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import obs_as_tensor

from agents.attention import extractor
from agents.base import Watch
from agents.sb3 import SB3Agent, SB3Settings, Watching

ENTROPY_MOST = 0.5
"""The most that the weight of the entropy may reach where novelty is asked for."""


@dataclass(frozen=True)
class OnPolicySettings(SB3Settings):
    """How an on-policy agent learns."""

    n_envs: int = 10
    """Environments side by side."""
    episodes_per_update: int = 1
    """Episodes that each of them plays between two updates of the policy."""
    gae_lambda: float = 0.95
    """Bias against variance of the advantages."""


@dataclass(frozen=True)
class EntropySettings(OnPolicySettings):
    """How one learns that has policy, value and entropy in its loss."""

    ent_coef: float = 0.01
    """Weight of the policy's entropy in the loss; the least weight where novelty is asked for."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Longest gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.novelty and not self.ent_coef:
            raise ValueError(
                f"novelty={self.novelty} is sought by more weight on the entropy, and ent_coef=0 "
                "leaves nothing to multiply; give it some, or set novelty=0."
            )


class OnPolicyAgent(SB3Agent):
    """Plays whole episodes, updates the policy, and forgets them.

    Where all layers are seen (``observation="full"``), its policy attends to them.
    """

    @property
    def n_envs(self) -> int:
        """Environments side by side."""
        return self.settings.n_envs

    @property
    def rollout(self) -> int:
        """Steps of each environment between two updates."""
        return self.episode * self.settings.episodes_per_update

    def options(self) -> dict[str, Any]:
        """See `SB3Agent.options`.

        Raises:
            ValueError: Where an update would see a single step.
        """
        if self.rollout * self.n_envs == 1:
            raise ValueError(
                "With n_envs=1 and episodes_per_update=1 an update would see a single step here, "
                "from which nothing can be learned; set one of them to 2 or more."
            )
        return {
            "n_steps": self.rollout,
            "gae_lambda": self.settings.gae_lambda,
            "policy_kwargs": self.architecture(),
        }

    def architecture(self) -> dict[str, Any]:
        """What the policy is made with."""
        return extractor(self._venv.observation_space)

    def watching(self, watch: Watch) -> Watching:
        """See `SB3Agent.watching`."""
        return _Rollouts(watch, self)

    def probabilities(self) -> NDArray[np.float32]:
        """What `Watch.after_rollout` is told: the policy on all that it has just seen."""
        buffer = self.model.rollout_buffer
        observations = buffer.observations
        flat = (
            {name: flatten(part) for name, part in observations.items()}
            if isinstance(observations, dict)
            else flatten(observations)
        )
        with torch.no_grad():
            choices = self.choices(obs_as_tensor(flat, self.model.device), buffer).numpy()
        # All episodes are equally long and a rollout is whole episodes, layer after layer.
        layers, bitwidths = len(self.problem.steps), choices.shape[-1]
        by_layer = choices.reshape(
            -1, self.episode, buffer.n_envs, layers // self.episode, bitwidths
        )
        return by_layer.mean(axis=(0, 2)).reshape(layers, bitwidths)

    def choices(self, observations: Any, buffer: Any) -> torch.Tensor:
        """Probabilities of the actions, ``[steps * envs, bitwidths]``.

        Args:
            observations: Of the rollout, flattened.
            buffer: Holds it, not flattened.
        """
        return self.model.policy.get_distribution(observations).distribution.probs


class EntropyAgent(OnPolicyAgent):
    """One whose `EntropySettings` weigh policy, value and entropy in its loss."""

    def options(self) -> dict[str, Any]:
        """See `SB3Agent.options`."""
        names = "ent_coef", "vf_coef", "max_grad_norm"
        return {**super().options(), **{name: getattr(self.settings, name) for name in names}}

    def explore(self, factor: float) -> None:
        """Multiplies the weight of the entropy."""
        weight = self.model.ent_coef * factor
        self.model.ent_coef = max(min(weight, ENTROPY_MOST), self.settings.ent_coef)


class _Rollouts(Watching):
    """Passes on what the policy would choose, too."""

    def __init__(self, watch: Watch, agent: OnPolicyAgent):
        super().__init__(watch)
        self._agent = agent

    def _on_rollout_end(self) -> None:
        self.watch.after_rollout(self._agent.probabilities())


def flatten(array: NDArray) -> NDArray:
    """``[steps, envs, ...]`` to ``[steps * envs, ...]``."""
    return array.reshape(-1, *array.shape[2:])
