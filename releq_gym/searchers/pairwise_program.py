"""A pairwise model of the loss, and the integer program that finds its cheapest assignments."""

from __future__ import annotations

from itertools import combinations

import gymnasium as gym
import numpy as np

from releq_gym.searchers import SEARCHERS, Choice, Player, changed
from releq_gym.searchers.additive import AdditiveLoss
from releq_gym.searchers.integer_program import (
    ask_promising,
    first_limits,
    most_promising,
    probe,
    solve,
    take_up,
)
from releq_gym.searchers.pairwise import PairwiseLoss

SHARE = 0.5
"""Of the evaluation budget, what measuring steps and pairs may take."""


@SEARCHERS.register("pairwise_program")
def pairwise_program(env: gym.Env, rng: np.random.Generator) -> None:
    """`integer_program`, with a model of the loss that knows of pairs of layers.

    After the idea of CLADO (Deng et al., 2023, arXiv 2307.05657): what is lost is a sum over layers
    and over pairs of them, where a pair's term is what both lose lowered together beyond what each
    loses alone, and an integer program with products of choices finds the cheapest assignment.

    Each layer is lowered alone once, as by `integer_program`; an additive model of that proposes an
    assignment. Then pairs of layers are lowered together to their bitwidths there, and each of the
    two alone, those first that lose most alone: two layers cannot lose much together that lose
    next to nothing alone, if the loss is about quadratic. This ends with `SHARE` of the evaluation
    budget, or when all pairs are known (without a budget, then only). From there on it goes as in
    `integer_program`, with a `PairwiseLoss` instead of an `AdditiveLoss`: the model's solutions
    within several limits are asked, and every answer corrects it.

    What is different from CLADO, which needs no gradients either: it measures the training loss on
    a small set, here it is the accuracy, which is coarser. It measures every pair at every two
    bitwidths, here it is one each and the others follow from the quantization noise of the weights.
    It makes the matrix of its terms positive semidefinite, which is not done here. It solves one
    program and believes it; here its solutions are measured and the model is corrected. Where there
    are many products, programs are not solved exactly, see `PairwiseLoss.cheapest`.

    Nothing of it was tuned.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Draws the losses.
    """
    player = Player(env, until_spent=True)
    left = player.left
    probed = probe(player)
    if probed is None:
        return
    model = take_up(player, AdditiveLoss(player, *probed))
    solutions = solve(player, model, first_limits(player, model), rng)
    lowered = most_promising(player, model, solutions)
    if lowered is not None:
        interactions = _measure_pairs(player, model, lowered, left - round(SHARE * left))
        (digits,) = player.digits([lowered])
        model = take_up(player, PairwiseLoss(player, *probed, digits, interactions))
    ask_promising(player, model, rng)


def _measure_pairs(
    player: Player, model: AdditiveLoss, lowered: Choice, kept: int
) -> dict[tuple[int, int], float]:
    """Points that pairs of steps lose beyond what each of them does, lowered from the start.

    Args:
        player: Asks.
        model: Says which steps lose most.
        lowered: How far each step is lowered.
        kept: Evaluations that are not to be spent.
    """
    start, (digits,) = player.start, player.digits([lowered])
    own = model.losses()[np.arange(len(digits)), digits]
    steps = [step for step in range(len(start)) if lowered[step] < start[step]]
    pairs = sorted(combinations(steps, 2), key=lambda pair: -own[list(pair)].prod())
    interactions: dict[tuple[int, int], float] = {}
    for pair in pairs:
        if player.left <= kept:
            break
        one, other = (changed(start, step, lowered[step]) for step in pair)
        asked = [start, one, other, changed(one, pair[1], lowered[pair[1]])]
        played = [player.ask(choice) for choice in asked]
        if player.spent:
            break
        if [answer.choice for answer in played] == asked:  # none was executed as another one
            interactions[pair] = float(
                np.dot([1, -1, -1, 1], [answer.loss_points for answer in played])
            )
    return interactions
