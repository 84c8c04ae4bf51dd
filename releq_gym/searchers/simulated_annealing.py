"""Simulated annealing."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player

HOTTEST, COLDEST = 1.0, 0.1
"""First and last temperature, in units of what the bits of an average layer are worth."""

LONGEST = 10_000
"""Different assignments over which the temperature falls, at most."""


@SEARCHERS.register("simulated_annealing")
def simulated_annealing(env: gym.Env, rng: np.random.Generator) -> None:
    """A walk that also takes steps for the worse, ever more seldom (Kirkpatrick et al., 1983).

    A proposal gives one layer any other bitwidth. (To the next one only, the walk needs most of a
    small budget to leave the most bits, where it begins, and is no better with a large one.) It is
    accepted if the cautious objective does not fall, else with probability ``exp(-fall /
    temperature)`` (Metropolis et al., 1953). The temperature falls geometrically with the
    different assignments that are revealed, over what is left of the budget; without a budget,
    over the whole space, and over `LONGEST` of them at most; there it then stays.

    A known assignment may be proposed again, which is free. Where as many proposals in a row were
    known as there are neighbours, the next goes on changing layers until it is unknown.

    Of `HOTTEST` and `COLDEST` seven pairs were tried, on synthetic-20-0 to synthetic-20-2 with two
    to four of the seeds 0 to 3, and 120, 300 and 1,000 assignments.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Proposals, and which of them are accepted.
    """
    player = Player(env, until_spent=True)
    unit = _layer_worth(player)
    current = player.ask(player.start)
    worth = player.worth(current)
    schedule = max(min(player.left, LONGEST), 1)
    patience = len(player.neighbours(current.choice))
    stalled = 0
    while not player.done:
        proposal = player.mutated(current.choice, rng)
        if stalled >= patience:
            proposal = player.unknown_near(proposal, rng)
        stalled = stalled + 1 if proposal in player.known else 0
        played = player.ask(proposal)
        if player.spent:
            return
        proposed = player.worth(played)
        left = min(player.left / schedule, 1.0)
        temperature = unit * COLDEST * (HOTTEST / COLDEST) ** left
        if proposed >= worth or rng.random() < math.exp((proposed - worth) / temperature):
            current, worth = played, proposed


def _layer_worth(player: Player) -> float:
    """What a step gains on average by its fewest bits instead of its most, if nothing is lost."""
    most, least = player.worths([player.most_bits, player.least_bits], np.zeros(2))
    return max(float(abs(least - most)) / player.steps, float(np.finfo(np.float32).tiny))
