"""Answers without a policy and without evaluations: with what has served other networks best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import gymnasium as gym
import numpy as np

from agents.leaning import leans
from benchmarks.generalisation.sweep import BITWIDTHS
from benchmarks.runs import mean_accuracy
from releq_gym.cheapest import cheapest
from releq_gym.env import QuantizeNetEnv
from releq_gym.searchers import Choice, Player, Searcher
from releq_gym.searchers.additive import noise_power

NOISE_LIMITS = tuple(np.geomspace(1e-4, 10.0, 41).tolist())
"""Sums of relative noise powers that are tried; four bits in every layer make about 0.1 of ten."""


def uniform_of_others(tasks: Sequence[str]) -> int:
    """The bitwidth that, in every layer, has the best mean objective on these tasks.

    Args:
        tasks: By name; their accuracies are known. Ties go to fewer bits.
    """
    means = {
        bitwidth: np.mean([_objective(task, (bitwidth,) * _depth(task)) for task in tasks])
        for bitwidth in BITWIDTHS
    }
    return max(means, key=means.__getitem__)


@cache
def noise_of_others(tasks: tuple[str, ...]) -> float:
    """The limit for `within_noise` that has the best mean objective on these tasks.

    Args:
        tasks: By name; their accuracies are known. Ties go to less noise.
    """
    means = {
        limit: np.mean([_objective(task, within_noise(_env(task), limit)) for task in tasks])
        for limit in NOISE_LIMITS
    }
    return max(means, key=means.__getitem__)


def within_noise(env: gym.Env, limit: float) -> Choice:
    """The cheapest choice whose layers add no more quantization noise than that; asks nothing.

    What counts is the power of each layer's noise relative to its weights (`Layer.sqnr_db`), summed
    over layers: the sensitivity of a layer as far as it can be told from the weights alone, without
    an image. Where the limit cannot be met, the most bits.

    Args:
        env: Of the problem.
        limit: On the sum, above that of the most bits.
    """
    player = Player(env)
    digits = cheapest(player.totals[:, :, 0], noise_power(player), limit)
    if digits is None:
        return player.most_bits
    return tuple(player.problem.bitwidths[digit] for digit in digits)


def noise_search(limit: float) -> Searcher:
    """`within_noise` at limits around one, each half or twice as large, then the middles.

    As a pretrained policy leans (`agents.leaning.leans`), so that both adapt by the same rule.

    Args:
        limit: The first one.
    """

    def search(env: gym.Env, rng: np.random.Generator) -> None:
        player, trial = Player(env), leans()
        lean = next(trial)
        while not player.done:
            played = player.ask(within_noise(env, limit * 2.0**-lean))
            if player.spent:
                return
            try:
                lean = trial.send(played.objective)
            except StopIteration:
                return

    return search


@cache
def _env(task: str) -> QuantizeNetEnv:
    return QuantizeNetEnv(task=task, bitwidths=BITWIDTHS)


def _depth(task: str) -> int:
    return len(_env(task).problem.layers)


def _objective(task: str, bitwidths: Choice) -> float:
    problem = _env(task).problem
    return problem.objective(bitwidths, mean_accuracy(problem.evaluator, bitwidths))
