"""An additive model of the loss, and the integer program that finds its cheapest assignments."""

from __future__ import annotations

import statistics
from typing import NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from releq_gym.searchers import SEARCHERS, Choice, Player
from releq_gym.searchers.additive import AdditiveLoss, noise_power
from releq_gym.searchers.sensitivity import measure_sensitivity

Model = TypeVar("Model", bound=AdditiveLoss)

FIRST_LIMITS = np.geomspace(1e-3, 1.0, 16)
"""Limits on the summed loss before anything is known, relative to all layers at the fewest bits."""

STRAY = 2.0
"""Later ones stray by this factor from the sum of an assignment that was asked."""

SMALLEST_LIMIT = 1e-3
"""Points."""

QUANTILES = [statistics.NormalDist().inv_cdf((i + 0.5) / 16) for i in range(16)]
"""Of the predicted loss, over which an improvement is averaged."""

DRAWS = 10_000
"""Random assignments that are tried where nothing promising is unknown."""

NOISE_REPEATS = 5
"""Repeats of the start that tell how noisy an evaluator is."""


@SEARCHERS.register("integer_program")
def integer_program(env: gym.Env, rng: np.random.Generator) -> None:
    """Asks for what an additive model of the loss, corrected by every answer, expects most of.

    Each layer is lowered alone once, to a middle bitwidth. Then, until the budget is spent: losses
    that may be so are drawn from the model (`AdditiveLoss`), and for several limits on their sum
    the cheapest assignment is found exactly (`cheapest`). Of these, and of all that differ in one
    layer from the best one known or from the most promising of these, that is asked whose
    cautious objective has the greatest expected improvement; ties go to the greater expected
    objective, then to the lower cost. Where it does not improve on the best one known, the next
    question stays within one layer of that, lest the model be trusted where it errs. Nothing is
    asked twice, but for some repeats of the start, which tell how noisy they are.

    Args:
        env: Environment with ``evaluate="final"`` and an evaluation budget.
        rng: Draws the losses.
    """
    player = Player(env, until_spent=True)
    probed = probe(player)
    if probed is not None:
        ask_promising(player, take_up(player, AdditiveLoss(player, *probed)), rng)


class Probed(NamedTuple):
    """What lowering each step alone has told, the arguments of `AdditiveLoss`."""

    scales: NDArray[np.float64]
    rest: float
    noise: float


def take_up(player: Player, model: Model) -> Model:
    """The model, corrected by everything that the player knows."""
    for played in player.known.values():
        model.learn(player.digits([played.choice])[0], played.loss_points)
    return model


def first_limits(player: Player, model: AdditiveLoss) -> NDArray[np.float64]:
    """Limits on the summed loss while little is known, in points."""
    return FIRST_LIMITS * model.summed(player.digits([player.least_bits])[0])


def ask_promising(player: Player, model: AdditiveLoss, rng: np.random.Generator) -> None:
    """Asks what a model of the loss expects most of, and corrects it, until the player is done.

    Args:
        player: Has been asked something.
        model: Has taken up what the player knows, see `take_up`.
        rng: Draws losses.
    """
    limits = first_limits(player, model)
    improved = True
    while not player.done:
        leader = player.best
        solutions = solve(player, model, limits, rng) if improved else []
        promising = most_promising(player, model, solutions)
        choice = promising or _unknown(player, rng)
        if choice is None:
            return
        played = player.ask(choice)
        if player.spent:
            return
        model.learn(player.digits([played.choice])[0], played.loss_points)
        limits = _next_limits(player, model, played.choice, rng)
        improved = not improved or player.best is not leader  # one such question, then on


def probe(player: Player) -> Probed | None:
    """Lowers each step alone, to a middle bitwidth; None where the budget ends before.

    None too where there is nothing to choose.
    """
    start = player.start
    if player.most_bits == player.least_bits:
        player.ask(start)
        return None
    losses = [player.ask(start).loss_points]
    losses += [
        player.play(start).loss_points for _ in range(min(player.repeats, NOISE_REPEATS) - 1)
    ]
    if player.spent:
        return None
    noise = float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0
    (digits,) = player.digits([start])
    middle = int(digits.max()) // 2
    lost = measure_sensitivity(player, [player.problem.bitwidths[middle]])[:, middle]
    if player.spent:
        return None
    shape, steps = noise_power(player), np.arange(len(start))
    # A loss that is lost in the noise may be as large as that.
    least = 100.0 / player.problem.evaluator.images / 2 if player.problem.evaluator.images else 1e-2
    gained = shape[:, middle] - shape[steps, digits]
    known = (digits > middle) & (gained > 0)
    scales = np.full(len(start), 1.0 / np.median(shape[:, middle]))
    if known.any():
        measured = np.maximum(lost[known], max(least, noise)) / gained[known]
        scales[:] = np.median(measured)
        scales[known] = measured
    rest = float(np.mean(losses)) if start == player.most_bits else 0.0
    return Probed(scales, rest, noise)


def _next_limits(
    player: Player, model: AdditiveLoss, last: Choice, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Near the best assignment known, near the last one, and anywhere, lest it be stuck there."""
    near = [model.summed(digits) for digits in player.digits([player.best.choice, last])]
    strayed = np.maximum(near, SMALLEST_LIMIT) * STRAY ** rng.uniform(-1.0, 1.0, 2)
    low, high = np.log(FIRST_LIMITS[[0, -1]])
    anywhere = np.exp(rng.uniform(low, high)) * model.summed(player.digits([player.least_bits])[0])
    return np.append(strayed, anywhere)


def solve(
    player: Player, model: AdditiveLoss, limits: NDArray[np.float64], rng: np.random.Generator
) -> list[Choice]:
    """The cheapest choices within limits on sums of losses that are drawn anew for each."""
    costs, figures, max_figures = player.totals[:, :, 0], *_cost_limits(player)
    found = {
        tuple(player.problem.bitwidths[digit] for digit in digits)
        for limit in limits
        if (digits := model.cheapest(costs, limit, rng, figures, max_figures)) is not None
    }
    return sorted(found)


def _cost_limits(player: Player) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the cost budget limits, from 0 up: ``[figures, steps, bitwidths]``, ``[figures]``."""
    limits = player.problem.limits
    at_most = player.problem.totals(player.complete(player.most_bits))[list(limits)]
    figures = player.totals[:, :, list(limits)]
    least = figures.min(axis=1, keepdims=True)
    room = np.array(list(limits.values())) - at_most - least.sum(axis=(0, 1))
    return np.moveaxis(figures - least, -1, 0), room


def most_promising(player: Player, model: AdditiveLoss, solutions: list[Choice]) -> Choice | None:
    """The unknown choice with the greatest expected improvement, among solutions and neighbours."""
    leader = player.best
    (best,) = player.worths([leader.choice], np.array([leader.loss_points]))

    def rank(choices: set[Choice]) -> list[Choice]:
        unknown = sorted(one for one in choices if one not in player.known and player.admits(one))
        if not unknown:
            return []
        digits = player.digits(unknown)
        expected = player.worths(unknown, model.predict(digits, QUANTILES))
        gains = np.maximum(expected - best, 0.0).mean(axis=1)
        costs = player.totals[np.arange(digits.shape[1]), digits, 0].sum(axis=1)
        order = np.lexsort((costs, -expected.mean(axis=1), -gains))
        return [unknown[i] for i in order]

    candidates = {*solutions, *player.neighbours(leader.choice)}
    if ranked := rank(set(solutions)):
        candidates |= set(player.neighbours(ranked[0]))
    ranked = rank(candidates)
    return ranked[0] if ranked else None


def _unknown(player: Player, rng: np.random.Generator) -> Choice | None:
    """Any admitted choice that is unknown, or None where none is found."""
    for _ in range(DRAWS):
        choice = player.draw(rng)
        if choice not in player.known and player.admits(choice):
            return choice
    return None
