"""The whole assignment as one action."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from releq_gym.env import QuantizeNetEnv


class OneShot(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """``MultiDiscrete`` with a number per step of an episode: a contextual bandit.

    The observation is that of the first layer; with ``observation="full"`` it holds all of them.
    `action_masks()` says what each step may take in some allowed assignment; together such choices
    may still break a budget, since what it leaves for later layers depends on the earlier ones.
    Then they are executed as in the environment below, so that a budget holds here too.

    Args:
        env: Over `releq_gym.env.QuantizeNetEnv` on one network, with ``evaluate="final"``; actions
            are its bitwidths.

    Raises:
        ValueError: For another environment.
    """

    def __init__(self, env: gym.Env):
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, QuantizeNetEnv):
            raise ValueError("OneShot goes over an environment on one network.")
        if env.get_wrapper_attr("evaluate") != "final":
            raise ValueError(
                "OneShot asks for one assignment at a time, and evaluate='every_step' would measure"
                " others on the way; use evaluate='final' and reward_timing='final'."
            )
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ValueError(f"OneShot goes over a Discrete action space, not {env.action_space}.")
        if env.has_wrapper_attr("walks"):
            raise ValueError(
                "OneShot takes the bitwidths of all layers, and an Incumbent's actions are changes "
                "of them; use one of the two."
            )
        steps = len(env.get_wrapper_attr("problem").steps)
        self.action_space = gym.spaces.MultiDiscrete([int(env.action_space.n)] * steps)
        self._halfway = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        self._halfway = False
        return self.env.reset(seed=seed, options=options)

    def step(
        self, action: NDArray[np.int64]
    ) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Walks over all layers."""
        assert isinstance(self.action_space, gym.spaces.MultiDiscrete)
        chosen = np.asarray(action)
        whole = np.issubdtype(chosen.dtype, np.integer)
        if not (whole and self.action_space.contains(chosen.astype(np.int64))):
            raise ValueError(
                f"The action {chosen.tolist()} is none of {self.action_space}: one index into the "
                "bitwidths per step."
            )
        if self._halfway:
            raise ResetNeeded("The last action was refused on its way; call reset() first.")
        self._halfway = True
        for index in chosen.tolist():
            outcome = self.env.step(int(index))
            if outcome[2] or outcome[3]:
                break
        self._halfway = False
        return outcome

    def action_masks(self) -> NDArray[np.bool_]:
        """Of all steps, one behind the other, bool ``[steps * bitwidths]``."""
        return self.env.get_wrapper_attr("problem").possible().ravel()
