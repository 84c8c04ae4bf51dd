import gymnasium as gym
import numpy as np
import pytest
from toys import ToyEvaluator

from releq_gym.searchers import SEARCHERS, Player, confirm
from releq_gym.tasks.score import make_scorer


def searched(name, seed=0, **options):
    env = gym.make("releq/QuantizeNet-v0", **options)
    env.reset(seed=seed)
    SEARCHERS[name](env, np.random.default_rng(seed))
    return env.unwrapped


@pytest.mark.parametrize("name", SEARCHERS.names())
def test_searchers_keep_to_the_budget_and_repeat_under_a_seed(name):
    first, second = (searched(name, task="synthetic-6-0", evaluation_budget=40) for _ in range(2))
    assert first.ledger.fresh == first.ledger.distinct <= 40
    assert first.ledger.best(first.problem) == second.ledger.best(second.problem)


@pytest.mark.parametrize("name", ["random", "local_search"])
def test_exhaustive_budgets_find_the_optimum(name):
    env = searched(
        name,
        evaluator=ToyEvaluator(),
        reward_kwargs={"max_loss_points": 1.0},
        evaluation_budget=27,
    )
    assert env.ledger.distinct == 27
    assert env.ledger.best(env.problem).bitwidths == (4, 4, 4)


def test_searchers_stop_without_a_budget_when_everything_is_known():
    env = searched("random", evaluator=ToyEvaluator(), fixed_bitwidths={"first": 4})
    assert env.ledger.distinct == 9


def test_local_search_beats_random_search_on_a_deep_landscape():
    regrets = {}
    for name in ("random", "local_search"):
        runs = [
            searched(name, seed, task="synthetic-20-0", evaluation_budget=600) for seed in (0, 1)
        ]
        scorer = make_scorer(runs[0].problem)
        regrets[name] = max(scorer.regret(run.ledger.best(run.problem).bitwidths) for run in runs)
    assert regrets["local_search"] < regrets["random"]


def test_uniform_search_asks_for_each_bitwidth_once():
    env = searched("uniform", task="synthetic-6-0")
    assert [bitwidths[0] for bitwidths in env.ledger.cells(env.problem)] == [8, 7, 6, 5, 4, 3, 2]


def test_cost_budgets_hold_for_searchers():
    env = searched("random", task="synthetic-6-0", cost_budget={"cost": 0.4}, evaluation_budget=50)
    for bitwidths in env.ledger.cells(env.problem):
        assert env.problem.cost(bitwidths) <= 0.4 + 1e-9


def test_searchers_choose_one_bitwidth_per_group():
    env = searched(
        "local_search",
        evaluator=ToyEvaluator(),
        reward_kwargs={"max_loss_points": 15.0},
        groups=[["first", "last"]],
        evaluation_budget=9,
    )
    assert env.ledger.distinct == 9
    assert all(first == last for first, _, last in env.ledger.cells(env.problem))
    assert env.ledger.best(env.problem).bitwidths == (4, 2, 4)


def test_an_environment_that_measures_every_step_is_refused():
    env = gym.make("releq/QuantizeNet-v0", net="synthetic", evaluate="every_step")
    with pytest.raises(ValueError, match="evaluate='final'"):
        Player(env)


def test_confirming_asks_for_the_answer_until_every_repeat_is_known():
    env = gym.make("releq/QuantizeNet-v0", evaluator=ToyEvaluator())
    env.reset(seed=0)
    SEARCHERS["uniform"](env, np.random.default_rng(0))
    ledger, problem = env.unwrapped.ledger, env.unwrapped.problem
    distinct = ledger.distinct
    confirm(env)
    answer = ledger.best(problem)
    assert answer.repeats == ToyEvaluator.repeats
    assert ledger.distinct == distinct
    fresh = ledger.fresh
    confirm(env)
    assert ledger.fresh == fresh


def test_confirming_stops_at_the_budget():
    env = gym.make("releq/QuantizeNet-v0", evaluator=ToyEvaluator(), evaluation_budget={"fresh": 4})
    env.reset(seed=0)
    SEARCHERS["uniform"](env, np.random.default_rng(0))
    confirm(env)
    assert env.unwrapped.ledger.fresh == 4
