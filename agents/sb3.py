"""What the agents made of stable-baselines3 and sb3-contrib have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.base import Agent, Watch, check_numbers
from releq_gym.ledger import Ledger
from releq_gym.whole_files import written_whole

MORE, LESS = 1.25, 0.9
"""How exploration follows novelty: what its strength is multiplied by."""


@dataclass(frozen=True)
class SB3Settings:
    """What all of them are asked."""

    learning_rate: float = 3e-3
    """Of the optimizer."""
    gamma: float = 1.0
    """Discount per layer."""
    novelty: float = 0.3
    """Share of new assignments that episodes should bring: with fewer, the agent explores more, so
    that a policy that has settled goes on asking. 0 leaves exploration as it is."""

    def __post_init__(self) -> None:
        check_numbers(self)


class SB3Agent(Agent):
    """An algorithm of stable-baselines3 or sb3-contrib on the CPU; see `Agent`.

    Environments are stepped one after the other by a ``DummyVecEnv``, since what is handed over
    makes single ones, and wrappers go over single ones.

    Args:
        make_env: As of `Agent`, likewise the following.
        settings: An `SB3Settings`.
        seed: Fixes everything random.
        checkpoint: What `save` wrote. The replay of an off-policy algorithm is not in it.

    Attributes:
        algorithm: The class that learns.
        policies: Its policies, for an observation that is a Box and for one that is a Dict.
        settings: As given.
        problem: Of the environments.
        ledger: Likewise.
        model: The algorithm at work.
        window: Episodes over which novelty is counted, at least.
    """

    algorithm: ClassVar[Any]
    policies: ClassVar[tuple[str | type, str | type]] = ("MlpPolicy", "MultiInputPolicy")
    window: ClassVar[int] = 1

    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        settings: Any,
        seed: int,
        checkpoint: Path | None = None,
    ):
        self.settings = settings
        self._venv = DummyVecEnv([lambda: self.wrap(make_env())] * self.n_envs)
        self.problem, self.ledger = (self._venv.get_attr(name)[0] for name in ("problem", "ledger"))
        if checkpoint is not None:
            self.model: Any = self._load(checkpoint)
            self.model.set_random_seed(seed)
            return
        dictionary = isinstance(self._venv.observation_space, gym.spaces.Dict)
        self.model = self.algorithm(
            self.policies[dictionary],
            self._venv,
            learning_rate=settings.learning_rate,
            gamma=settings.gamma,
            seed=seed,
            device="cpu",
            **self.options(),
        )

    def _load(self, checkpoint: Path) -> Any:
        try:
            return self.algorithm.load(checkpoint, env=self._venv, device="cpu")
        except RuntimeError as error:
            raise ValueError(
                f"The agent in {checkpoint} cannot be taken up; was it made by another version of "
                f"releq_gym? Begin a new run in another folder. {error}"
            ) from None

    @property
    def n_envs(self) -> int:
        """Environments side by side."""
        return 1

    @property
    def episode(self) -> int:
        """Steps of an episode."""
        return len(self.problem.steps)

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Steps taken in all environments together."""
        return self.model.num_timesteps

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What else the algorithm is made with."""

    @abstractmethod
    def watching(self, watch: Watch) -> Watching:
        """The callback that passes events on."""

    @abstractmethod
    def explore(self, factor: float) -> None:
        """Multiplies the strength of exploration, within bounds."""

    def novelty(self) -> Novelty:
        """The callback that makes exploration follow novelty."""
        return Novelty(self.ledger, self.settings.novelty, self.explore, self.window)

    def learn(self, steps: int, watch: Watch) -> None:
        """See `Agent.learn`."""
        callbacks: list[BaseCallback] = [self.watching(watch)]
        if self.settings.novelty:
            callbacks.append(self.novelty())
        self.model.learn(steps, callback=callbacks, reset_num_timesteps=False)

    def walk(self, env: gym.Env) -> tuple[int, ...] | None:
        """See `Agent.walk`."""
        venv = DummyVecEnv([lambda: self.wrap(env)])
        venv.seed(0)
        observation, state, start = venv.reset(), None, np.ones(1, dtype=bool)
        while True:
            actions, state = self.model.predict(
                observation, state, start, deterministic=True, **self.masks(venv)
            )
            observation, _, start, (info,) = venv.step(actions)
            if start[0]:
                return info["bitwidths"]

    def masks(self, venv: DummyVecEnv) -> dict[str, Any]:
        """What ``predict`` is told besides, where the algorithm knows masks."""
        return {}

    def save(self, path: Path) -> None:
        """Writes the archive of stable-baselines3, whole or not at all."""
        with written_whole(path) as partial:
            self.model.save(partial)

    def close(self) -> None:
        """See `Agent.close`."""
        self._venv.close()


class Watching(BaseCallback):
    """Passes the events of stable-baselines3 on.

    Args:
        watch: To whom.
    """

    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch

    def _on_step(self) -> bool:
        return self.watch.after_step()


class Novelty(BaseCallback):
    """Makes an agent explore more while too few episodes bring a new assignment, else less.

    Once a policy has settled it would ask the same again and again, and learn nothing more from
    a budget of different assignments. Only the number of assignments asked is looked at.

    Args:
        ledger: Counts the assignments.
        share: Of new assignments that episodes should bring.
        explore: Gets the factor, `MORE` or `LESS`.
        window: Episodes that are looked at together, at least.
    """

    def __init__(self, ledger: Ledger, share: float, explore: Callable[[float], None], window: int):
        super().__init__()
        self._ledger, self._share, self._explore, self._window = ledger, share, explore, window
        self._episodes, self._known = 0, ledger.distinct

    def _on_step(self) -> bool:
        self._episodes += int(self.locals["dones"].sum())
        return True

    def _on_rollout_end(self) -> None:
        if self._episodes < self._window:
            return
        known = self._ledger.distinct
        share = (known - self._known) / self._episodes
        self._explore(MORE if share < self._share else LESS)
        self._episodes, self._known = 0, known
