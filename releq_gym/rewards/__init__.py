"""Rewards: what an assignment is worth. One frozen dataclass per file, called on a `Transition`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.own_code import failure_of
from releq_gym.registry import Registry
from releq_gym.transition import Transition

Reward = Callable[[Transition], float]

REWARDS: Registry[Callable[..., Reward]] = Registry("reward", "releq_gym.rewards")


def make_reward(name: str | Reward, /, **kwargs: float) -> Reward:
    """The reward called ``name`` with its parameters; a callable is returned as it is.

    Raises:
        ValueError: See `Registry.make`.
    """
    return REWARDS.make(name, **kwargs)


REWARD_ADVICE = "It gets a Transition (releq_gym/transition.py), and returns a finite number."


def reward_many(reward: Reward, transition: Transition) -> NDArray[np.float64]:
    """The rewards of many transitions, held as arrays in one.

    A reward may have a method ``batch`` that takes them all; any other is called on each.

    Args:
        reward: What to call.
        transition: Its fields arrays ``[transitions]``, ``bitwidths`` ``[transitions, layers]``.

    Raises:
        ValueError: Where it does not return a number for each.
    """
    count = len(transition.accuracy)  # type: ignore[arg-type]
    returned: Any
    try:
        if (batch := getattr(reward, "batch", None)) is not None:
            returned = batch(transition)
        else:
            columns = [np.broadcast_to(field, count).tolist() for field in transition[1:]]
            assignments = map(tuple, transition.bitwidths.tolist())  # type: ignore[attr-defined]
            rows = zip(assignments, *columns, strict=True)
            returned = [reward(Transition(*row)) for row in rows]
    except Exception as error:
        raise failure_of("reward", reward, error, REWARD_ADVICE) from error
    try:
        rewards = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError):
        rewards = np.empty(0)
    if rewards.shape != (count,):
        raise ValueError(
            f"The reward {reward!r} returned {returned!r:.80} for {count} transitions; it must "
            "return a finite number for each."
        )
    return rewards
