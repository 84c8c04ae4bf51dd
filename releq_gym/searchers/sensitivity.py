"""How much each layer alone loses at each bitwidth."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from releq_gym.searchers import SEARCHERS, Player, changed


@SEARCHERS.register("sensitivity")
def sensitivity(env: gym.Env, rng: np.random.Generator) -> None:
    """Each layer alone at each bitwidth, the others as they start; see `measure_sensitivity`.

    They start at the most bits, or where a cost budget admits those not, at `Player.start`.

    Args:
        env: Environment with ``evaluate="final"``.
        rng: Not used.
    """
    measure_sensitivity(Player(env))


def measure_sensitivity(
    player: Player, bitwidths: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Points that lowering one step alone from `Player.start` loses.

    Columns are measured from the most bits down, so that a budget that ends too early leaves whole
    ones.

    Args:
        player: Asks.
        bitwidths: Which columns to measure; None means all.

    Returns:
        ``[steps, bitwidths of the problem]``; 0 at the start itself, NaN where nothing was
        measured: above the start, in other columns, where the budget ended, and where a cost
        budget or a partly measured task has another assignment executed.
    """
    options = player.problem.bitwidths
    losses = np.full((player.steps, len(options)), np.nan)
    start = player.start
    before = player.ask(start).loss_points
    if player.spent:
        return losses
    losses[np.arange(len(start)), player.digits([start])[0]] = 0.0
    for bitwidth in reversed(options if bitwidths is None else sorted(bitwidths)):
        for step in range(len(start)):
            if bitwidth < start[step]:
                asked = changed(start, step, bitwidth)
                played = player.ask(asked)
                if player.spent:
                    return losses
                if played.choice == asked:  # and none was executed in its stead
                    losses[step, options.index(bitwidth)] = played.loss_points - before
    return losses
