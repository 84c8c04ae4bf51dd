"""One-flip local search with restarts."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Player, assignments


@SEARCHERS.register("local_search")
def local_search(env: gym.Env, rng: np.random.Generator) -> None:
    """First improvement over all assignments that differ in one layer, from the maximum down.

    Neighbours are tried in random order and the first better one is taken. Where none is better,
    the search starts again from a uniformly random assignment. Nothing is asked twice.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Order of the neighbours, and the restarts.
    """
    player = Player(env)
    known: dict[tuple[int, ...], float] = {}

    def value(assignment: tuple[int, ...]) -> float:
        if assignment not in known:
            known[assignment] = player.play(assignment)[1]
        return known[assignment]

    current = tuple(options[-1] for options in player.choices)
    while not player.spent and len(known) < assignments(player.choices):
        improved = False
        for neighbour in _shuffled_neighbours(current, player.choices, rng):
            if value(neighbour) > value(current):
                current, improved = neighbour, True
                break
            if player.spent:
                return
        if not improved:
            current = tuple(int(rng.choice(options)) for options in player.choices)


def _shuffled_neighbours(
    current: tuple[int, ...], choices: Sequence[Sequence[int]], rng: np.random.Generator
) -> list[tuple[int, ...]]:
    neighbours = [
        (*current[:step], bitwidth, *current[step + 1 :])
        for step, options in enumerate(choices)
        for bitwidth in options
        if bitwidth != current[step]
    ]
    return [neighbours[i] for i in rng.permutation(len(neighbours))]
