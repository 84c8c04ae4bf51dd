"""The vector environment as stable-baselines3 wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from releq_gym.vector_env import QuantizeNetVectorEnv


class QuantizeNetVecEnv(VecEnv):
    """`QuantizeNetVectorEnv` as a ``VecEnv``: one call steps all copies.

    Infos are those of stable-baselines3: one dict per copy, which says something only where an
    episode has just ended (its last info, ``terminal_observation``, ``TimeLimit.truncated``), since
    a dict for each copy and step would cost more than the environment. Everything else is in
    `env`.

    Args:
        num_envs: How many copies.
        **options: As of `QuantizeNetVectorEnv`, but for ``autoreset_mode``.

    Attributes:
        env: The vector environment; it shares its problem and ledger between the copies.
        problem: Its problem.
        ledger: Its ledger.

    Raises:
        ValueError: As `QuantizeNetVectorEnv`.
    """

    def __init__(self, num_envs: int, **options: Any):
        if "autoreset_mode" in options:
            raise ValueError(
                "autoreset_mode= is settled: stable-baselines3 resets an episode in the step that "
                "ends it."
            )
        self.env = QuantizeNetVectorEnv(num_envs, autoreset_mode="SameStep", **options)
        self.problem, self.ledger = self.env.problem, self.env.ledger
        self.render_mode = None
        self._actions: NDArray[Any] = np.zeros(num_envs, dtype=np.intp)
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)

    def reset(self) -> Any:
        """Starts every copy anew, with the seeds that `seed` gave."""
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        observations, _ = self.env.reset(seed=seeds)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes note of the actions."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Observations, rewards, whether each episode ended, and infos."""
        observations, rewards, terminated, truncated, found = self.env.step(self._actions)
        over = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(over).tolist():
            final = found["final_info"]
            infos[row] = {
                name: value[row] for name, value in final.items() if not name.startswith("_")
            }
            infos[row]["terminal_observation"] = _row(found["final_obs"], row)
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        return observations, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Completes the action log."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the vector environment, which all copies share."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: copies are not objects of their own.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{attr_name!r} cannot be set: the copies of a vector environment share one problem. "
            "Make another environment with what you need."
        )

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """``"action_masks"``: those of each copy, as sb3-contrib's MaskablePPO asks for them.

        Raises:
            ValueError: For any other method.
        """
        if method_name != "action_masks":
            raise ValueError(
                f"{method_name!r} is no method of a copy; there is 'action_masks'. The vector "
                "environment itself is `env`."
            )
        masks = self.env.action_masks()
        return [masks[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No copy is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Nothing: the vector environment draws nothing."""
        return [None] * self.num_envs


def _row(observations: Any, row: int) -> Any:
    """Of one copy."""
    if isinstance(observations, dict):
        return {name: part[row] for name, part in observations.items()}
    return observations[row]
