"""One-flip local search with restarts."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player


@SEARCHERS.register("local_search")
def local_search(env: gym.Env, rng: np.random.Generator) -> None:
    """First improvement over all assignments that differ in one layer, from the maximum down.

    Neighbours are tried in random order and the first better one is taken. Where none is better,
    the search starts again from a uniformly random assignment. Nothing is asked twice.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Order of the neighbours, and the restarts.
    """
    player = Player(env, until_spent=True)
    current = player.most_bits
    while not player.done:
        around = player.neighbours(current)
        if not around:  # nothing to choose
            player.ask(current)
            return
        for i in rng.permutation(len(around)):
            if player.ask(around[i]).objective > player.ask(current).objective:
                current = around[i]
                break
            if player.spent:
                return
        else:
            current = player.draw(rng)
