"""Uniformly random assignments, none asked twice."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player


@SEARCHERS.register("random")
def random_search(env: gym.Env, rng: np.random.Generator) -> None:
    """Every assignment is equally likely, without repetition.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Source of the assignments.
    """
    player = Player(env)
    while not player.done:
        player.ask(player.draw(rng))
