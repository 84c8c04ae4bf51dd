"""Rewards: what an assignment is worth. One frozen dataclass per file, called on a `Transition`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from releq_gym.registry import Registry
from releq_gym.transition import Transition

Reward = Callable[[Transition], float]

REWARDS: Registry[Callable[..., Reward]] = Registry("reward", "releq_gym.rewards")


def make_reward(name: str | Reward, **kwargs: float) -> Reward:
    """The reward called ``name`` with its parameters; a callable is returned as it is.

    Raises:
        ValueError: See `Registry.make`.
    """
    return REWARDS.make(name, **kwargs)


def reward_many(reward: Reward, transition: Transition) -> NDArray[np.float64]:
    """The rewards of many transitions, held as arrays in one.

    A reward may have a method ``batch`` that takes them all; any other is called on each.

    Args:
        reward: What to call.
        transition: Its fields arrays ``[transitions]``, ``bitwidths`` ``[transitions, layers]``.
    """
    batch = getattr(reward, "batch", None)
    if batch is not None:
        return batch(transition)
    count = len(transition.accuracy)  # type: ignore[arg-type]
    columns = [np.broadcast_to(field, count).tolist() for field in transition[1:]]
    assignments = map(tuple, transition.bitwidths.tolist())  # type: ignore[attr-defined]
    rows = zip(assignments, *columns, strict=True)
    return np.array([reward(Transition(*row)) for row in rows], dtype=np.float64)
