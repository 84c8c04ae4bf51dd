"""One bitwidth for all layers: the baseline that everything has to beat."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player


@SEARCHERS.register("uniform")
def uniform_search(env: gym.Env, rng: np.random.Generator) -> None:
    """Every uniform assignment, most bits first.

    Args:
        env: Environment with ``evaluate="final"``.
        rng: Not used.
    """
    player = Player(env)
    for bitwidth in reversed(player.problem.bitwidths):
        if not player.spent:
            player.play([bitwidth] * len(player.choices))
