"""Agents of stable-baselines3 that learn from a replay of all that was played."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.buffers import NStepReplayBuffer

from agents.base import Watch
from agents.sb3 import SB3Agent, SB3Settings, Watching

REPLAY = 100_000
"""Steps that are remembered."""


@dataclass(frozen=True)
class OffPolicySettings(SB3Settings):
    """How an off-policy agent learns."""

    warm_up: int = 20
    """Episodes played at random before anything is learned."""
    gradient_steps: int = 10
    """Updates after each episode."""
    batch_size: int = 64
    """Steps that each of them looks at."""
    n_steps: int = 64
    """Steps whose rewards are added up before the network's own value is relied on: with as many
    as an episode has, the reward at its end reaches every step at once."""
    tau: float = 0.02
    """Share by which target networks follow: at each update, those of Q-learning per episode."""
    exploration: float = 1.0
    """Its strength at the start, and the most; it falls while episodes bring new assignments."""
    least_exploration: float = 0.05
    """Where it stops falling."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least_exploration > self.exploration:
            raise ValueError(
                f"least_exploration={self.least_exploration} is more than "
                f"exploration={self.exploration}, where it starts and which it never exceeds."
            )
        if not self.novelty and self.least_exploration < self.exploration:
            raise ValueError(
                "novelty=0 leaves exploration as it is at the start, so that "
                f"least_exploration={self.least_exploration} is never reached; set both of them "
                "to the strength that you want."
            )


class OffPolicyAgent(SB3Agent):
    """Plays an episode, then updates its networks on a replay.

    Exploration starts strong, and after the warm-up follows novelty down and up again, every
    `window` episodes: by a tenth at a time while they bring new assignments.
    """

    shown = "share of the last 10 episodes"
    window = 10

    @staticmethod
    def wrap(env: gym.Env) -> gym.Env:
        """One array of what is seen: a replay that adds rewards up takes no Dict."""
        dictionary = isinstance(env.observation_space, gym.spaces.Dict)
        return gym.wrappers.FlattenObservation(env) if dictionary else env

    @property
    @abstractmethod
    def exploration(self) -> float:
        """Its strength at present, which a checkpoint keeps."""

    @exploration.setter
    @abstractmethod
    def exploration(self, strength: float) -> None: ...

    def options(self) -> dict[str, Any]:
        """See `SB3Agent.options`."""
        settings = self.settings
        return {
            "buffer_size": REPLAY,
            "learning_starts": settings.warm_up * self.episode,
            "train_freq": (1, "episode"),
            "gradient_steps": settings.gradient_steps,
            "batch_size": settings.batch_size,
            # Not the algorithms' own n_steps=, of which loading a checkpoint warns.
            "replay_buffer_class": NStepReplayBuffer,
            "replay_buffer_kwargs": {
                "n_steps": min(settings.n_steps, self.episode),
                "gamma": settings.gamma,
            },
            "tau": settings.tau,
        }

    def explore(self, factor: float) -> None:
        """See `SB3Agent.explore`; nothing changes during the warm-up."""
        if self.steps > self.model.learning_starts:
            settings, strength = self.settings, self.exploration * factor
            most, least = settings.exploration, settings.least_exploration
            self.exploration = min(max(strength, least), most)

    def watching(self, watch: Watch) -> Watching:
        """See `SB3Agent.watching`."""
        return _Played(watch, self)


class _Played(Watching):
    """Passes on how often each bitwidth was executed, too, every `OffPolicyAgent.window` episodes.

    Not what the networks would choose: what an agent that explores does with them.
    """

    def __init__(self, watch: Watch, agent: OffPolicyAgent):
        super().__init__(watch)
        self._index = {bitwidth: i for i, bitwidth in enumerate(agent.problem.bitwidths)}
        self._counts = np.zeros((agent.episode, len(self._index)), dtype=np.float32)
        self._window, self._episodes, self._step = agent.window, 0, 0

    def _on_step(self) -> bool:
        (info,), (done,) = self.locals["infos"], self.locals["dones"]
        self._counts[self._step, self._index[info["executed_bitwidth"]]] += 1.0
        self._step = 0 if done else self._step + 1
        return super()._on_step()

    def _on_rollout_end(self) -> None:
        self._episodes += 1
        if self._episodes == self._window:
            self.watch.after_rollout(self._counts / np.float32(self._window))
            self._counts, self._episodes = np.zeros_like(self._counts), 0
