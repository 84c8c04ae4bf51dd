from itertools import product

import numpy as np
import pytest
from gymnasium import make

from releq_gym.evaluators.synthetic import FULL_PRECISION_CORRECT, IMAGES, make_synthetic
from releq_gym.tasks.score import make_scorer


def landscape(task, **reward_kwargs):
    return make("releq/QuantizeNet-v0", task=task, reward_kwargs=reward_kwargs).unwrapped.problem


@pytest.mark.parametrize("max_loss_points", [None, 0.02, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_dynamic_programming_finds_what_enumeration_finds(seed, max_loss_points):
    problem = landscape(f"synthetic-4-{seed}", max_loss_points=max_loss_points)
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


def test_regret_where_nothing_is_lost_is_known_by_hand():
    problem = landscape("synthetic-4-0")
    problem.evaluator._unary[:] = 0
    problem.evaluator._neighbour[:] = 0
    scorer = make_scorer(problem)
    assert scorer.optimum == (2, 2, 2, 2)
    assert scorer.best_worth == pytest.approx(1 - 2 / 8)
    # The mean of 2 to 8 bits is 5: 1 - 5 / 8, up to the sampling of the draws.
    assert scorer.random_worth == pytest.approx(0.375, abs=0.005)
    assert scorer.regret((2, 2, 2, 2)) == 0
    assert scorer.regret((5, 5, 5, 5)) == pytest.approx(1, abs=0.02)
    assert scorer.regret((8, 8, 8, 8)) == pytest.approx(2, abs=0.03)


def test_another_reward_has_no_known_optimum():
    problem = make("releq/QuantizeNet-v0", task="synthetic-4-1", reward="ratio").unwrapped.problem
    with pytest.raises(ValueError, match="'accuracy_floor' alone, not under Ratio"):
        make_scorer(problem)


def test_landscapes_are_pinned():
    evaluator = make_synthetic("synthetic-6-3")
    seen = [
        round(evaluator.evaluate((bitwidth,) * 6, 0).accuracy * IMAGES)
        for bitwidth in evaluator.bitwidths
    ]
    assert seen == [9113, 9179, 9199, 9200, 9200, 9200, 9200]


def test_the_frozen_landscape_is_pinned_in_every_layer():
    evaluator = make_synthetic("synthetic-20-0")
    lost = [
        [
            FULL_PRECISION_CORRECT
            - round(evaluator.evaluate(alone(layer, bitwidth), 0).accuracy * IMAGES)
            for bitwidth in (2, 3, 4)
        ]
        for layer in range(20)
    ]
    assert lost == [
        [4, 1, 0],
        [11, 3, 1],
        [2, 0, 0],
        [2006, 2, 1],
        [9, 2, 0],
        [1, 0, 0],
        [1, 0, 0],
        [2052, 2020, 2007],
        [54, 14, 3],
        [4, 2, 0],
        [2009, 4, 1],
        [3, 1, 0],
        [3, 1, 0],
        [1, 0, 0],
        [1, 0, 0],
        [2067, 19, 5],
        [2079, 2022, 6],
        [1, 0, 0],
        [6, 1, 0],
        [1, 0, 0],
    ]


def alone(layer, bitwidth):
    """All layers at 8 bits but one."""
    return [bitwidth if index == layer else 8 for index in range(20)]
