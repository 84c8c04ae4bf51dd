"""Uniformly random assignments, none asked twice."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player

TRIES = 100
"""Draws among which one is looked for that is admitted and new."""


@SEARCHERS.register("random")
def random_search(env: gym.Env, rng: np.random.Generator) -> None:
    """Every assignment that a cost budget admits is equally likely, without repetition.

    Once `TRIES` draws have found none, the environment makes one of each.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Source of the assignments.
    """
    player, tries = Player(env, until_spent=True), TRIES
    while not player.done:
        for _ in range(tries):
            choice = player.draw(rng)
            if player.admits(choice) and choice not in player.known:
                break
        else:
            tries = 1
        player.ask(choice)
