"""Episodes of many walks, each of which changes the best assignment so far: learning to search."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from releq_gym.env import QuantizeNetEnv
from releq_gym.observation import Feature
from releq_gym.plain_numbers import is_whole

CHANGE = 3
"""The most places in the choice of bitwidths that an action moves a layer up or down."""

START_BITWIDTH = 5
"""Where all layers begin, as near as the choice has it: all of 2 to 8 can be reached from it."""

SHOWN_WALKS = 127
"""More walks to come are shown as so many."""

FADING = 0.8
"""What is left of the blame of a layer when it is lowered once more."""

FEATURES = (
    Feature("incumbent_bitwidth", "of the layer in the best assignment so far, over 8"),
    Feature("last_bitwidth", "of the layer in the last walk, over 8; 0 before"),
    Feature(
        "kept_bitwidth", "its fewest bits in a walk that kept the tolerated loss, over 8; or 1"
    ),
    Feature("blame", "1 over the root of how many layers a walk lowered that lost too much"),
    Feature("praise", "likewise of walks that kept the tolerated loss"),
    Feature("incumbent_loss", "1/2 at the tolerated loss, 1/4 more where it is ten times as much"),
    Feature("last_loss", "likewise of the last walk"),
    Feature("last_failed", "1 where the last walk lost more than is tolerated"),
    Feature("incumbent_cost", "of the best assignment so far; 0 before"),
    Feature("last_cost", "of the last walk; 0 before"),
    Feature("changed", "bits that this walk has added, weighted by cost: 1/2 for none"),
    Feature("first", "1 in the first walk, before anything was measured"),
    Feature("walks_before", "log2(1 + walks before this one) over 7"),
    Feature("walks_left", "log2(1 + walks to come, this one included) over 7"),
)
"""What an observation shows beside that of the environment below."""


class Incumbent(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """A policy that searches: it sees how its last walks went, and changes the best of them.

    An episode is many walks over the layers of one network, each measured at its end. An action,
    0 to 6, says by how many places in the choice of bitwidths, -3 to 3, the layer differs from the
    best assignment so far, the incumbent (at first all layers at 5 bits, or what is nearest). A
    reward is what a walk adds to the best objective, by the cautious rule that decides on answers
    (`Problem.rank`), so that an episode's return is what was found in it. What was measured stays
    in sight (`FEATURES`): a policy that was trained on many networks can search another one without
    learning anything more.

    Args:
        env: Over `releq_gym.env.QuantizeNetEnv` on one network, with an observation that is an
            array, and ``evaluate="final"``.
        walks: Of an episode; None means no end but the evaluation budget.

    Attributes:
        best: Objective of the incumbent, or what all layers at the maximum bitwidth have, if they
            lose nothing and that is more.

    Raises:
        ValueError: For another environment.
    """

    def __init__(self, env: gym.Env, walks: int | None = None):
        gym.utils.RecordConstructorArgs.__init__(self, walks=walks)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, QuantizeNetEnv):
            raise ValueError("Incumbent goes over an environment on one network.")
        if env.get_wrapper_attr("evaluate") != "final":
            raise ValueError(
                "Incumbent measures at the end of a walk; use evaluate='final' and "
                "reward_timing='final'."
            )
        inner = env.observation_space
        if not isinstance(inner, gym.spaces.Box) or not isinstance(
            env.action_space, gym.spaces.Discrete
        ):
            raise ValueError(
                "Incumbent adds to an observation that is an array, such as observation='layer', "
                f"and changes a Discrete action; these are {inner} and {env.action_space}."
            )
        if inner.shape != (len(env.get_wrapper_attr("feature_names")),):
            raise ValueError(
                f"Incumbent adds to an observation of one layer, such as observation='layer'; this "
                f"one has the shape {inner.shape} and is of all."
            )
        bitwidths = env.get_wrapper_attr("problem").bitwidths
        if int(env.action_space.n) != len(bitwidths) or env.has_wrapper_attr("walks"):
            raise ValueError(
                f"Incumbent changes bitwidths, and an action of {env.action_space} is none; it "
                "goes directly over the environment."
            )
        if walks is not None and (not is_whole(walks) or walks < 1):
            raise ValueError(f"walks={walks!r} has to be a whole number, 1 or more, or None.")
        self.walks = walks
        self.observation_space = gym.spaces.Box(
            0.0, 1.0, (inner.shape[0] + len(FEATURES),), np.float32
        )
        self.action_space = gym.spaces.Discrete(2 * CHANGE + 1)
        self.best = -math.inf
        self._over: bool | None = None
        """Whether the episode is; None before the first."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the observation's entries."""
        return (
            *self.env.get_wrapper_attr("feature_names"),
            *(feature.name for feature in FEATURES),
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Forgets everything that was measured."""
        observation, info = self.env.reset(seed=seed, options=options)
        problem = self.env.get_wrapper_attr("problem")
        costs = problem.layer_costs(problem.bitwidths[-1])
        of_steps = np.array([costs[list(group)].sum() for group in problem.groups])
        self._problem, self._choices = problem, np.array(problem.bitwidths)
        self._shares = of_steps / costs.sum()
        steps = len(problem.steps)
        self._incumbent = np.full(steps, np.abs(self._choices - START_BITWIDTH).argmin())
        self._rank = (-math.inf, -math.inf)
        everything = problem.assignment([problem.bitwidths[-1]] * steps)
        self.best = problem.objective(everything, problem.evaluator.full_precision_accuracy)
        self._last, self._blame, self._praise = np.zeros((3, steps), dtype=np.float32)
        self._kept = np.ones(steps, dtype=np.float32)
        self._incumbent_loss = self._last_loss = self._incumbent_cost = self._last_cost = 0.0
        self._last_failed = False
        self._walked, self._over = 0, False
        self._begin()
        return self._shown(observation), info

    def step(
        self, action: int
    ) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Takes one layer's change; begins another walk behind the last layer."""
        if self._over is None:
            raise ResetNeeded("Call reset() before the first step().")
        if self._over:
            raise ResetNeeded("The episode is over; call reset() before the next step().")
        if not self.action_space.contains(action):
            raise ValueError(f"Action {action!r} is none of the changes 0 to {2 * CHANGE}.")
        choice = self._choices_at(self._at)[action]
        observation, _, terminated, truncated, info = self.env.step(choice)
        executed = int(np.searchsorted(self._choices, info["executed_bitwidth"]))
        self._chosen[self._at] = executed
        added = self._choices[executed] - self._choices[self._incumbent[self._at]]
        self._changed += float(added * self._shares[self._at])
        self._at += 1
        reward = 0.0
        if terminated:
            reward = self._learn_of(info)
            terminated = self._walked == self.walks
            if not terminated:
                observation, _ = self.env.reset()
                self._begin()
        self._over = terminated or truncated
        return self._shown(observation), reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which changes lead to a bitwidth that the layer at hand may take, bool ``[changes]``.

        Where none is near enough, the largest change in its direction leads to the nearest one.
        """
        if self._over is None:
            return np.ones(2 * CHANGE + 1, dtype=np.bool_)
        allowed = self.env.get_wrapper_attr("action_masks")()
        return allowed[self._choices_at(min(self._at, len(self._incumbent) - 1))]

    def _choices_at(self, step: int) -> list[int]:
        """Indices of the bitwidths that the changes lead to."""
        incumbent = int(self._incumbent[step])
        changed = np.arange(incumbent - CHANGE, incumbent + CHANGE + 1)
        choices = changed.clip(0, len(self._choices) - 1).tolist()
        if self._problem.has_masks:
            allowed = np.flatnonzero(self.env.get_wrapper_attr("action_masks")())
            if not set(choices) & set(allowed.tolist()):
                nearest = int(allowed[np.abs(allowed - incumbent).argmin()])
                choices[0 if nearest < incumbent else -1] = nearest
        return choices

    def _begin(self) -> None:
        """A walk."""
        self._at, self._changed = 0, 0.0
        self._chosen = np.zeros_like(self._incumbent)

    def _learn_of(self, info: dict[str, Any]) -> float:
        """Takes note of a walk; returns what it added to the best objective."""
        problem = self._problem
        bitwidths, accuracy = info["bitwidths"], info["accuracy"]
        loss = info["loss_points"] + 100.0 * problem.caution(accuracy)
        keeps = loss <= problem.max_loss_points + 1e-9
        ratio = (max(loss, 0.0) + 0.02) / (problem.max_loss_points + 0.02)
        shown_loss = min(max(0.5 + math.log10(ratio) / 4, 0.0), 1.0)
        cost = min(info["cost"], 1.0)

        self._last[:] = self._choices[self._chosen] / 8
        if keeps:
            self._kept = np.minimum(self._kept, self._last)
        lowered = self._chosen < self._incumbent
        if self._walked and lowered.any():
            trace = self._praise if keeps else self._blame
            share = 1 / math.sqrt(lowered.sum())
            trace[lowered] = np.maximum(FADING * trace[lowered], share)
        self._last_loss, self._last_failed, self._last_cost = shown_loss, not keeps, cost
        rank = problem.rank(bitwidths, accuracy)[:2]  # of equals the first one stays
        if rank > self._rank:
            self._rank, self._incumbent = rank, self._chosen
            self._incumbent_loss, self._incumbent_cost = shown_loss, cost
        self._walked += 1
        gained = max(rank[0] - self.best, 0.0)
        self.best += gained
        return gained

    def _shown(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """With `FEATURES`, in their order."""
        left = SHOWN_WALKS if self.walks is None else min(self.walks - self._walked, SHOWN_WALKS)
        scale = math.log2(1 + SHOWN_WALKS)
        step = min(self._at, len(self._incumbent) - 1)  # after the last one it stays in view
        features = (
            self._choices[self._incumbent[step]] / 8,
            self._last[step],
            self._kept[step],
            self._blame[step],
            self._praise[step],
            self._incumbent_loss,
            self._last_loss,
            self._last_failed,
            self._incumbent_cost,
            self._last_cost,
            min(max(0.5 + self._changed / 4, 0.0), 1.0),
            self._walked == 0,
            min(math.log2(1 + self._walked) / scale, 1.0),
            math.log2(1 + left) / scale,
        )
        return np.concatenate([observation, features], dtype=np.float32)
