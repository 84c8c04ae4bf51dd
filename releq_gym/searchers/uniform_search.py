"""One bitwidth for all layers: the baseline that everything has to beat."""

from __future__ import annotations

from collections.abc import Collection

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
    ask_uniform(Player(env))


def ask_uniform(player: Player, kept: Collection[int] = ()) -> None:
    """Every choice of one bitwidth for all steps, most bits first.

    Args:
        player: Asks.
        kept: Steps that stay at the most bits.
    """
    for bitwidth in reversed(player.problem.bitwidths):
        if player.spent:
            return
        player.ask(
            tuple(most if step in kept else bitwidth for step, most in enumerate(player.most_bits))
        )
