from itertools import combinations

import numpy as np
import pytest

from benchmarks.statistics import (
    best_of_random,
    difference_interval,
    interquartile_mean,
    interval,
    performance_profile,
)


def test_the_interquartile_mean_ignores_outer_runs_and_no_task():
    scores = np.array([[0.0, 9.0], [0.2, 9.4], [0.3, 9.1], [-5.0, 9.5]])
    assert interquartile_mean(scores) == pytest.approx(np.mean([0.0, 0.2, 9.1, 9.4]))
    both = interquartile_mean(np.stack([scores, scores + 1]))
    assert both == pytest.approx([4.675, 5.675])
    assert interquartile_mean(np.array([[0.1, 0.2, 5.0]])) == pytest.approx(5.3 / 3)


def test_the_interquartile_mean_is_that_of_all_scores_twice_over():
    scores = np.array([[0.05], [0.07], [0.02], [0.3], [0.11], [0.09]])
    # A quarter is 1.5 of six: half of the second and of the fifth count.
    middle = (0.5 * 0.05 + 0.07 + 0.09 + 0.5 * 0.11) / 3
    assert interquartile_mean(scores) == pytest.approx(middle)
    for times in (2, 5):
        assert interquartile_mean(np.repeat(scores, times, 0)) == pytest.approx(middle)


def test_intervals_of_few_runs_hold_as_often_as_stated():
    rng, held, trials = np.random.default_rng(0), 0, 300
    for trial in range(trials):
        first, second = rng.gamma(2, 0.05, (2, 3, 4))
        low, high = difference_interval(first, second, seed=trial)
        held += low <= 0 <= high
    assert 0.91 <= held / trials <= 0.99


def test_intervals_resample_runs_within_tasks():
    # Every task is constant over its runs, so nothing can vary however far tasks are apart.
    assert interval([[0.1, 0.9]] * 5) == pytest.approx((0.5, 0.5))
    low, high = interval(np.random.default_rng(0).normal(0.3, 0.1, (20, 3)))
    assert 0.25 < low < 0.3 < high < 0.35


def test_a_clear_difference_excludes_zero_and_noise_does_not():
    rng = np.random.default_rng(0)
    low, high = difference_interval(rng.normal(0.1, 0.01, 20), rng.normal(0.3, 0.01, 20))
    assert -0.22 < low < high < -0.18
    low, high = difference_interval(rng.normal(0.1, 0.1, 20), rng.normal(0.1, 0.1, 20))
    assert low < 0 < high


def test_profiles_are_shares_of_runs():
    assert performance_profile([0.0, 0.1, 0.4, 0.4], [0.0, 0.2, 0.5]).tolist() == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("draws", [1, 2, 4, 5, 9])
def test_the_best_of_random_draws_as_enumerated(draws):
    found, worth = np.array([3.0, 1.0, 5.0, 5.0, 2.0]), np.array([0.1, 0.2, 0.3, 0.9, 0.7])
    every = list(combinations(range(5), min(draws, 5)))
    expected = np.mean([worth[max(drawn, key=lambda i: (found[i], -i))] for drawn in every])
    assert best_of_random(found, worth, draws) == pytest.approx(expected)
