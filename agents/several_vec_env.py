"""Several networks side by side, as stable-baselines3 wants them: for pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from agents.vec_env import QuantizeNetVecEnv
from releq_gym.observation import DYNAMIC, MEASURED, Measured, measured_values
from releq_gym.several_nets import draw_named, is_family

UNMEASURED = measured_values(Measured(1.0, 0.0, False))
"""What an observation shows before the first measurement of an episode."""

MEASURED_COLUMNS = [DYNAMIC.index(feature) for feature in MEASURED]
"""Where in ``episode`` of the observation ``"full"``."""


class SeveralNetsVecEnv(VecEnv):
    """A `QuantizeNetVecEnv` for each of several networks, all of them stepped by one call.

    Row ``i`` belongs to group ``i // copies``. The copies of a group walk in step, since its
    episodes are equally long; a family of synthetic tasks (``"synthetic-any-any"``) is another
    landscape in each of them. Every landscape has a ledger of its own: nothing is limited here,
    and nothing is remembered of landscapes that are gone.

    Args:
        groups: A network, task or family each, as `releq_gym.several_nets.SeveralNetsEnv` takes
            them; the same one may stand there several times.
        copies: Of each.
        blind: Whether observations show nothing of what was measured, as before the first
            measurement of an episode. So a policy can be paid at every step
            (``reward_timing="telescoped"``) and yet learns to choose without asking.
        **options: As of `QuantizeNetVecEnv`, the same for all.

    Attributes:
        groups: As given.
        copies: As given.

    Raises:
        ValueError: Where networks differ in what may be chosen or observed.
    """

    def __init__(self, groups: Sequence[str], copies: int, blind: bool = False, **options: Any):
        self.groups, self.copies, self._blind = tuple(groups), copies, blind
        if not self.groups:
            raise ValueError("groups=[] has to name one or more nets.")
        self._shared = options
        self._rng = np.random.default_rng(0)
        self._envs = [self._make(name) for name in self.groups]
        first = self._envs[0]
        for name, env in zip(self.groups, self._envs, strict=True):
            if (env.observation_space, env.action_space) != (
                first.observation_space,
                first.action_space,
            ):
                raise ValueError(
                    f"{self.groups[0]} and {name} differ in what may be chosen or observed; pass "
                    "bitwidths= with what they have in common, and observation='layer' for "
                    "networks of more than 64 layers."
                )
        self._actions: NDArray[Any] = np.zeros(len(self.groups) * copies, dtype=np.intp)
        super().__init__(len(self._actions), first.observation_space, first.action_space)

    def reset(self) -> Any:
        """Starts every copy anew; with a seed that `seed` gave, families draw anew, too."""
        seed = self._seeds[0] if self._seeds else None
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        parts = []
        for group, name in enumerate(self.groups):
            if seed is not None and is_family(name):
                self._envs[group] = self._make(name)
            if seed is not None:
                self._envs[group].seed(seed + group * self.copies)
            parts.append(self._envs[group].reset())
        self._reset_seeds()
        self._reset_options()
        return self._shown(parts)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes note of the actions."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Observations, rewards, whether each episode ended, and infos."""
        stepped = [self._step(group) for group in range(len(self.groups))]
        observations, rewards, over, infos = zip(*stepped, strict=True)
        everything = [info for part in infos for info in part]
        return self._shown(observations), np.concatenate(rewards), np.concatenate(over), everything

    def close(self) -> None:
        """Closes all of them."""
        for env in self._envs:
            env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each copy's vector environment."""
        return [
            self._envs[row // self.copies].get_attr(attr_name, 0)[0]
            for row in self._get_indices(indices)
        ]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused, as by `QuantizeNetVecEnv.set_attr`.

        Raises:
            ValueError: Always.
        """
        self._envs[0].set_attr(attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """See `QuantizeNetVecEnv.env_method`."""
        every = [result for env in self._envs for result in env.env_method(method_name)]
        return [every[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No copy is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def _make(self, name: str) -> QuantizeNetVecEnv:
        return QuantizeNetVecEnv(self.copies, **draw_named(name, self._rng), **self._shared)

    def _step(self, group: int) -> tuple[Any, Any, Any, Any]:
        env, first = self._envs[group], group * self.copies
        env.step_async(self._actions[first : first + self.copies])
        observations, rewards, over, infos = env.step_wait()
        if over.all() and is_family(self.groups[group]):
            self._envs[group] = self._make(self.groups[group])
            observations = self._envs[group].reset()
        return observations, rewards, over, infos

    def _shown(self, parts: Sequence[Any]) -> Any:
        """Observations of all groups in one array, or in a dict of arrays."""
        observe = self._envs[0].env.observe
        if isinstance(parts[0], dict):
            joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            if self._blind:
                joined["episode"][:, MEASURED_COLUMNS] = UNMEASURED
            return joined
        rows = np.concatenate(parts)
        if self._blind and observe.measured is not None:
            rows[:, observe.measured] = UNMEASURED[: len(observe.measured)]
        return rows
