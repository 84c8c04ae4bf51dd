"""One bitwidth for all layers: the baseline that everything has to beat."""

from __future__ import annotations

from collections.abc import Collection

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player


@SEARCHERS.register("uniform")
def uniform_search(env: gym.Env, rng: np.random.Generator) -> None:
    """Every uniform assignment that a cost budget admits, most bits first.

    Where it admits none, the one that the environment makes of the fewest bits.

    Args:
        env: Environment with ``evaluate="final"``.
        rng: Not used.
    """
    ask_uniform(Player(env))


def ask_uniform(player: Player, kept: Collection[int] = ()) -> None:
    """Every admitted choice of one bitwidth for all steps, most bits first; else the last one.

    Args:
        player: Asks.
        kept: Steps that stay at the most bits.
    """
    choices = [
        tuple(most if step in kept else bitwidth for step, most in enumerate(player.most_bits))
        for bitwidth in reversed(player.problem.bitwidths)
    ]
    for choice in list(filter(player.admits, choices)) or choices[-1:]:
        if player.spent:
            return
        player.ask(choice)
