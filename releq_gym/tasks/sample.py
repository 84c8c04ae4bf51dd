"""Which assignments of a deep network are measured: its whole space is out of reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.base import Evaluator
from releq_gym.searchers import SEARCHERS

DRAWN = {"one_layer": 0.1, "stratified": 0.2, "uniform": 0.35}
"""Shares of a sample that are drawn beforehand; the rest is what searchers ask for."""

SEARCHED = ("integer_program", "greedy", "local_search")
"""Searchers whose ways through the space are sampled: there agents will spend their time."""

TOLERATED_POINTS = (0.3, 1.0, 3.0)
"""Losses that they tolerate, each in turn, so that no single floor decides what is known."""

MOST_TURNS = 5
"""Seeds that a searcher gets at most: in small spaces it finds nothing new."""

SOURCES = (*DRAWN, *SEARCHED, "optimised")
"""Why an assignment is in a sample; ``optimised`` ones are what a surrogate took for the best."""


class Sampled(NamedTuple):
    """One assignment of a sample, and why it is there."""

    bitwidths: tuple[int, ...]
    source: str


def draw(layers: int, bitwidths: Sequence[int], count: int, seed: int) -> list[Sampled]:
    """Different assignments of the kinds in `DRAWN`, each in its share of ``count``.

    ``one_layer`` has one layer lowered from the most bits, or all layers alike (all of these are
    drawn, and come first); ``stratified`` lies around an average bitwidth that was drawn before;
    ``uniform`` draws every layer by itself.

    Args:
        layers: How many.
        bitwidths: The choice per layer, ascending.
        count: Size of the whole sample, with what searchers will ask for.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    found = {(bitwidth,) * layers: "one_layer" for bitwidth in bitwidths}
    for source, share in DRAWN.items():
        # Uniform ones count among those of one layer.
        wanted = round(share * count) + (0 if source == "one_layer" else len(found))
        tries = 0
        while len(found) < wanted and tries < 100 * count:  # small spaces run out
            found.setdefault(_DRAWS[source](rng, layers, np.array(bitwidths)), source)
            tries += 1
    return [Sampled(assignment, source) for assignment, source in found.items()]


def _one_layer(rng: np.random.Generator, layers: int, bitwidths: np.ndarray) -> tuple[int, ...]:
    drawn = np.full(layers, bitwidths[-1])
    drawn[rng.integers(layers)] = rng.choice(bitwidths[:-1])
    return tuple(drawn.tolist())


def _stratified(rng: np.random.Generator, layers: int, bitwidths: np.ndarray) -> tuple[int, ...]:
    digits = rng.normal(rng.uniform(0, len(bitwidths) - 1), 1, layers)
    return tuple(bitwidths[np.clip(np.rint(digits), 0, len(bitwidths) - 1).astype(int)].tolist())


def _uniform(rng: np.random.Generator, layers: int, bitwidths: np.ndarray) -> tuple[int, ...]:
    return tuple(rng.choice(bitwidths, layers).tolist())


_DRAWS: dict[str, Callable[[np.random.Generator, int, np.ndarray], tuple[int, ...]]] = {
    "one_layer": _one_layer,
    "stratified": _stratified,
    "uniform": _uniform,
}


def ask_searchers(
    evaluator: Evaluator,
    count: int,
    seed: int,
    advance: Callable[[int], object] = lambda found: None,
) -> list[Sampled]:
    """What `SEARCHED` reveal, ``count`` assignments or a few more; the source is the searcher.

    They take turns, each with every one of `TOLERATED_POINTS`, and again with other seeds until
    there are enough different ones.

    Args:
        evaluator: Answers them.
        count: How many.
        seed: Of the searchers.
        advance: Told after each turn how many there are.
    """
    found: dict[tuple[int, ...], str] = {}
    turns = [
        (name, points, seed + again)
        for again in range(MOST_TURNS)
        for points in TOLERATED_POINTS
        for name in SEARCHED
    ]
    share = 2 * count // (len(SEARCHED) * len(TOLERATED_POINTS)) + 1
    for name, points, own_seed in turns:
        if len(found) >= count:
            break
        env = QuantizeNetEnv(
            evaluator=evaluator,
            reward_kwargs={"max_loss_points": points},
            evaluation_budget=share,
        )
        SEARCHERS[name](env, np.random.default_rng(own_seed))
        for bitwidths in env.ledger.cells(env.problem):
            found.setdefault(bitwidths, name)
        advance(len(found))
    return [Sampled(bitwidths, source) for bitwidths, source in found.items()]
