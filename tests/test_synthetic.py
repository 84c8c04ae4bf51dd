from itertools import product

import numpy as np
import pytest
from gymnasium import make

from releq_gym.evaluators.synthetic import IMAGES, make_synthetic
from releq_gym.tasks.score import make_scorer


def landscape(task):
    return make("releq/QuantizeNet-v0", task=task).unwrapped.problem


@pytest.mark.parametrize("seed", range(4))
def test_dynamic_programming_finds_what_enumeration_finds(seed):
    problem = landscape(f"synthetic-4-{seed}")
    evaluator = problem.evaluator
    worth = {
        bitwidths: problem.objective(bitwidths, evaluator.evaluate(bitwidths, 0).accuracy)
        for bitwidths in product(evaluator.bitwidths, repeat=4)
    }
    optimum = make_scorer(problem).optimum
    assert worth[optimum] == max(worth.values())


def test_all_at_8_bits_is_full_precision():
    for seed in range(10):
        evaluator = make_synthetic(f"synthetic-12-{seed}")
        assert evaluator.evaluate((8,) * 12, 0).accuracy == evaluator.full_precision_accuracy


def test_accuracy_never_falls_below_chance_nor_rises_above_full_precision():
    evaluator = make_synthetic("synthetic-30-5")
    rng = np.random.default_rng(0)
    for _ in range(200):
        accuracy = evaluator.evaluate(rng.integers(2, 9, 30).tolist(), 0).accuracy
        assert 0.1 <= accuracy <= evaluator.full_precision_accuracy


def test_one_more_bit_never_hurts():
    evaluator = make_synthetic("synthetic-10-1")
    rng = np.random.default_rng(0)
    for _ in range(200):
        bitwidths = rng.integers(2, 8, 10)
        layer = rng.integers(10)
        more = bitwidths.copy()
        more[layer] += 1
        assert evaluator.evaluate(more, 0).accuracy >= evaluator.evaluate(bitwidths, 0).accuracy


def test_regret_is_0_at_the_optimum_and_1_for_a_random_assignment():
    scorer = make_scorer(landscape("synthetic-20-0"))
    assert scorer.regret(scorer.optimum) == 0
    rng = np.random.default_rng(1)
    draws = rng.integers(2, 9, (3000, 20)).tolist()
    assert np.mean([scorer.regret(tuple(draw)) for draw in draws]) == pytest.approx(1, abs=0.05)


def test_landscapes_are_pinned():
    evaluator = make_synthetic("synthetic-6-3")
    seen = [
        round(evaluator.evaluate((bitwidth,) * 6, 0).accuracy * IMAGES)
        for bitwidth in evaluator.bitwidths
    ]
    assert seen == [9113, 9179, 9199, 9200, 9200, 9200, 9200]
