import math

import gymnasium as gym
import numpy as np
import pytest
from toys import toy_task

from releq_gym.evaluators.table import TableEvaluator
from releq_gym.tasks.score import TableScorer, make_scorer


def toy_problem(tmp_path, report=None):
    folder = toy_task(tmp_path / "task", report=report)
    env = gym.make("releq/QuantizeNet-v0", task=str(folder), reward_kwargs={"max_loss_points": 2.0})
    return env.unwrapped.problem


def test_worth_is_the_objective_at_the_mean_report_accuracy(tmp_path):
    problem = toy_problem(tmp_path)
    scorer = make_scorer(problem)
    report = TableEvaluator(problem.evaluator.task, "report")
    index = scorer.assignments.index((4, 8))
    accuracy = report.evaluate((4, 8), -1).accuracy
    held = problem.with_evaluator(report)
    doubt = 2 * math.sqrt((report.full_precision_accuracy - accuracy) / report.images)
    assert scorer.worth[index] == pytest.approx(held.objective((4, 8), accuracy + doubt))


def test_regret_as_computed_by_hand_where_the_splits_disagree(tmp_path):
    # On search (4, 4) holds the floor of 2 points, on report it loses 4.5.
    report = [[500, 600, 700], [800, 860, 890], [810, 900, 905]]
    scorer = make_scorer(toy_problem(tmp_path, report))
    # One bit costs 10 * 120 + 100 = 1300 in the first layer, 30 * 120 + 50 = 3650 in the last.
    best = 1 - (8 * 1300 + 4 * 3650) / (8 * 4950)
    assert scorer.optimum == (8, 4)
    assert scorer.best_worth == pytest.approx(best)
    # (4, 8), (8, 4) and (8, 8) are tolerable: 5200 / 39600, 14600 / 39600, 0. Six others lose so
    # many points, 2 of which they may, and have the benefit of two standard errors.
    lost = np.array([40.5, 30.5, 20.5, 10.5, 4.5, 9.5])
    excess = lost - 2 - 2 * 100 * np.sqrt(lost / 100 / 1000)
    assert scorer.random_worth == pytest.approx((0.5 - excess.sum() / 100) / 9)
    assert scorer.oracle == (4, 4)
    gap = best - scorer.random_worth
    assert scorer.regret((4, 4)) == pytest.approx((best + excess[4] / 100) / gap)
    assert scorer.regret((8, 8)) == pytest.approx(best / gap)
    assert scorer.regret((8, 4)) == 0


def test_the_shipped_tasks_optimum_is_the_best_of_all():
    scorer = make_scorer(gym.make("releq/DigitsWRPN-v0").unwrapped.problem)
    regrets = [scorer.regret(assignment) for assignment in scorer.assignments]
    assert min(regrets) == scorer.regret(scorer.optimum) == 0
    assert sum(regrets) / len(regrets) == pytest.approx(1)
    assert 0 < scorer.regret(scorer.oracle) < 0.2


def test_of_a_surrogate_the_search_oracle_is_the_optimum():
    scorer = make_scorer(gym.make("releq/QuantizeNet-v0", net="svhn10").unwrapped.problem)
    assert scorer.oracle == scorer.optimum and scorer.search_regret(scorer.oracle) == 0


@pytest.mark.parametrize(("correct", "holds"), [(874, True), (873, False)])
def test_answers_have_the_benefit_of_two_standard_errors(tmp_path, correct, holds):
    # 3.1 points lost are 2 and less than twice 0.56, their standard error; 3.2 are more than that.
    report = [[500, 600, 700], [800, correct, 890], [810, 900, 905]]
    scorer = make_scorer(toy_problem(tmp_path, report))
    assert (scorer.regret((4, 4)) == 0) is holds
    assert scorer.optimum == ((4, 4) if holds else (8, 4))


def restrictions(first="first", last="last"):
    """One of each kind, on a network with these two layers."""
    return {
        "fixed_bitwidths": {first: 8},
        "groups": [[first, last]],
        "bitwidths": [4, 8],
        "cost_budget": {"cost": 0.7},
    }


@pytest.mark.parametrize("name", restrictions())
def test_of_landscapes_restricted_problems_are_refused(name):
    restriction = {name: restrictions("layer0", "layer1")[name]}
    env = gym.make("releq/QuantizeNet-v0", task="synthetic-4-0", **restriction)
    with pytest.raises(ValueError, match=f"whole task alone.*leave out {name}"):
        make_scorer(env.unwrapped.problem)


@pytest.mark.parametrize("name", restrictions())
def test_of_tables_the_best_of_what_is_admitted_is_the_optimum(tmp_path, name):
    whole = toy_problem(tmp_path)
    env = gym.make(
        "releq/QuantizeNet-v0",
        task=str(whole.evaluator.task.folder),
        reward_kwargs={"max_loss_points": 2.0},
        **{name: restrictions()[name]},
    )
    problem = env.unwrapped.problem
    scorer, of_all = make_scorer(problem), make_scorer(whole)
    kept = [row for row, each in enumerate(scorer.assignments) if problem.admits(each)]
    assert 1 < len(kept) < len(scorer.assignments)
    for found, worth in (
        (scorer.optimum, of_all.worth),
        (scorer.oracle, of_all.search_worth),
    ):
        assert scorer.assignments.index(found) == max(kept, key=worth.__getitem__)
    regrets = [scorer.regret(scorer.assignments[row]) for row in kept]
    assert min(regrets) == 0 and sum(regrets) / len(kept) == pytest.approx(1)
    searched = [scorer.search_regret(scorer.assignments[row]) for row in kept]
    assert min(searched) == 0 and sum(searched) / len(kept) == pytest.approx(1)
    outside = next(each for each in scorer.assignments if not problem.admits(each))
    with pytest.raises(ValueError, match=f"not among .* restricted by {name}"):
        scorer.regret(outside)


def test_where_nothing_is_to_be_chosen_there_is_no_regret(tmp_path):
    folder = str(toy_problem(tmp_path).evaluator.task.folder)
    env = gym.make("releq/QuantizeNet-v0", task=folder, bitwidths=[8])
    assert make_scorer(env.unwrapped.problem).search_regret((8, 8)) == 0


def test_an_environment_is_no_problem():
    env = gym.make("releq/DigitsWRPN-v0")
    with pytest.raises(TypeError, match=r"env\.unwrapped\.problem"):
        make_scorer(env)


def test_a_scorer_of_tables_refuses_other_evaluators():
    synthetic = gym.make("releq/QuantizeNet-v0", net="synthetic").unwrapped.problem
    with pytest.raises(ValueError, match="no table"):
        TableScorer(synthetic)
