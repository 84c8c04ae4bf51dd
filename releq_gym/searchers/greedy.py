"""Greedy descent: always the step that costs least accuracy per cost saved."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Choice, Player, changed


@SEARCHERS.register("greedy")
def greedy(env: gym.Env, rng: np.random.Generator) -> None:
    """From the most bits down by the cheapest measured step; then again from parts of the best.

    A step lowers one layer to its next bitwidth that costs less. Its price, points lost per cost
    saved, is measured again only when it is the lowest one known (prices rise as bits fall, so an
    old one is a bound). Steps that make the objective worse are not taken. Where none is left, half
    of the best assignment's layers, drawn at random, go back to the most bits and the descent
    begins anew ("iterated greedy", Ruiz and Stuetzle, 2007). Nothing is asked twice.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Which layers go back.
    """
    player = Player(env, until_spent=True)
    best = _descend(player, player.start)
    while not player.done:
        asked = len(player.known)
        current = best
        for step in rng.permutation(len(best))[: (len(best) + 1) // 2]:
            raised = changed(current, step, player.most_bits[step])
            if player.admits(raised):
                current = raised
        found = _descend(player, current)
        if not player.spent and player.worth(player.ask(found)) > player.worth(player.ask(best)):
            best = found
        if len(player.known) == asked:  # it went where it has been before
            player.ask(player.draw(rng))


def _descend(player: Player, choice: Choice) -> Choice:
    """Takes steps while one of them does not make the objective worse."""
    costs = player.totals[:, :, 0]
    # Unknown prices come first, then the lowest.
    prices = {step: (-np.inf, choice) for step in range(len(choice))}
    player.ask(choice)
    while prices and not player.spent:
        step = min(prices, key=lambda one: (prices[one][0], one))
        digit = player.problem.bitwidths.index(choice[step])
        cheaper = np.flatnonzero(costs[step, :digit] < costs[step, digit])
        if not cheaper.size:
            del prices[step]
            continue
        lower = changed(choice, step, player.problem.bitwidths[cheaper[-1]])
        lost = player.ask(lower).loss_points - player.ask(choice).loss_points
        saved = costs[step, digit] - costs[step, cheaper[-1]]
        if player.spent:
            break
        if prices[step][1] != choice or prices[step][0] == -np.inf:
            prices[step] = (lost / saved, choice)
        elif player.worth(player.ask(lower)) >= player.worth(player.ask(choice)):
            choice = lower
        else:
            del prices[step]
    return choice
