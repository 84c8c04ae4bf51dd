"""Regularised evolution."""

from __future__ import annotations

from collections import deque
from operator import itemgetter

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Choice, Player

POPULATION = 20
"""Real et al. have 100 for 20,000 evaluations; budgets are smaller here."""

SAMPLE = 5
"""A quarter of the population, as theirs."""


@SEARCHERS.register("evolution")
def evolution(env: gym.Env, rng: np.random.Generator) -> None:
    """A population in which a tournament chooses the parent and the oldest dies.

    "Aging" or regularised evolution (Real, Aggarwal, Huang and Le, 2019, arXiv 1802.01548): the
    population begins with random assignments. Then, until the budget is spent, `SAMPLE` of it are
    drawn, that with the best cautious objective has a child, which differs from it in the bitwidth
    of one layer, and the child takes the place of the oldest. Unlike theirs, a child that is known
    already mutates on until it is not: nothing is asked twice.

    A population of 20 was chosen over one of 10 with samples of 3, on synthetic-20-0 to
    synthetic-20-2 with seeds 0 to 3, and 120, 300 and 1,000 assignments.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: The first population, tournaments and mutations.
    """
    player = Player(env, until_spent=True)
    population: deque[tuple[float, Choice]] = deque(maxlen=POPULATION)
    while not player.done:
        if len(population) < POPULATION:
            child = player.draw(rng)
        else:
            drawn = rng.choice(POPULATION, SAMPLE, replace=False)
            _, parent = max((population[i] for i in drawn), key=itemgetter(0))
            child = player.mutated(parent, rng)
        played = player.ask(player.unknown_near(child, rng))
        if not player.spent:
            population.append((player.worth(played), played.choice))
