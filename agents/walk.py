"""Walks of a pretrained policy by its most likely choices, on a single environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch

from agents.policy_file import PolicyCard


class PolicyBitwidths(gym.ActionWrapper):
    """Actions are a policy's bitwidths; the environment's own nearest one is taken.

    Args:
        env: A `QuantizeNetEnv`, wrapped or not.
        bitwidths: Of the policy's actions.
    """

    def __init__(self, env: gym.Env, bitwidths: Sequence[int]):
        super().__init__(env)
        own = np.array(env.get_wrapper_attr("problem").bitwidths)
        self.actions = [int(np.abs(own - bitwidth).argmin()) for bitwidth in bitwidths]
        self.action_space = gym.spaces.Discrete(len(bitwidths))

    def action(self, action: Any) -> int:
        """The environment's own."""
        return self.actions[int(action)]


class Walked(NamedTuple):
    """How an episode ended.

    Attributes:
        earned: Sum of its rewards.
        refused: Whether the evaluation budget refused it.
        stopped: Whether it was broken off.
    """

    earned: float
    refused: bool
    stopped: bool


class Walker:
    """Walks by what a policy finds most likely.

    Args:
        env: Made for the policy's observation.
        policy: Of stable-baselines3 or sb3-contrib.
        card: Of the policy.

    Raises:
        ValueError: Where the policy sees something else.
    """

    def __init__(self, env: gym.Env, policy: Any, card: PolicyCard):
        base: Any = env.unwrapped
        card.check_observation(base.observation)
        self.env = PolicyBitwidths(env, card.bitwidths)
        self._base, self._policy, self._memory = base, policy, card.memory

    def first_answer(self) -> tuple[int, ...]:
        """The bitwidths that the policy chooses, one per layer; nothing is measured.

        Raises:
            ValueError: Where the environment measures on the way.
        """
        if self._base.evaluate != "final":
            raise ValueError("An answer without evaluations needs evaluate='final'.")
        observation, _ = self.env.reset()
        choose, problem = _Chooser(self._policy, self._memory, 0.0), self._base.problem
        chosen: list[int] = []
        for _ in problem.steps[:-1]:
            observation, _, _, _, info = self.env.step(choose(observation))
            chosen.append(info["executed_bitwidth"])
        chosen.append(problem.bitwidths[self.env.action(choose(observation))])
        return problem.assignment(self._base.executed(chosen))

    def walk(self, lean: float = 0.0, after_step: Callable[[], bool] = lambda: True) -> Walked:
        """One episode.

        Args:
            lean: Added to the logarithm of the odds of each bit more: below 0 the walk takes
                fewer bits than the policy would, above 0 more, first where it is least certain.
            after_step: Called after each step; False breaks off.
        """
        observation, _ = self.env.reset()
        choose, earned = _Chooser(self._policy, self._memory, lean), 0.0
        while True:
            observation, reward, terminated, truncated, _ = self.env.step(choose(observation))
            earned += float(reward)
            stopped = not after_step()
            if terminated or truncated or stopped:
                return Walked(earned, truncated, stopped and not terminated)


class _Chooser:
    """The most likely actions of one episode, one observation after the other."""

    def __init__(self, policy: Any, memory: bool, lean: float):
        policy.set_training_mode(False)
        self._policy, self._lean, self._start = policy, lean, torch.ones(1)
        self._states = (torch.zeros(policy.lstm_hidden_state_shape),) * 2 if memory else None

    def __call__(self, observation: Any) -> int:
        seen, _ = self._policy.obs_to_tensor(observation)
        with torch.no_grad():
            if self._states is None:
                distribution = self._policy.get_distribution(seen)
            else:
                distribution, self._states = self._policy.get_distribution(
                    seen, self._states, self._start
                )
        logits = distribution.distribution.logits[0]
        self._start = torch.zeros(1)
        return int((logits + self._lean * torch.arange(len(logits))).argmax())
