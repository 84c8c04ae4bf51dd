"""The first and the last layer at 8 bits, all others alike: the convention of the literature."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player
from releq_gym.searchers.uniform_search import ask_uniform


@SEARCHERS.register("ends_at_8")
def ends_at_8(env: gym.Env, rng: np.random.Generator) -> None:
    """8-b-...-b-8: the first and the last step at the most bits, all between at the same, b.

    From the most bits down. Most papers on quantization keep the first and the last layer at 8
    bits or in full precision (for instance DoReFa-Net, Zhou et al., 2016). Where there is nothing
    between the two, one assignment is asked.

    Args:
        env: Environment with ``evaluate="final"``.
        rng: Not used.
    """
    player = Player(env)
    ask_uniform(player, {0, player.steps - 1})
