import collections
import itertools
import logging
import os
import sys
import threading

import gymnasium as gym
import numpy as np
import pytest
from toys import ToyEvaluator, toy_layer

from releq_gym.cheapest import _without_stray_line, cheapest
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.base import Evaluation
from releq_gym.searchers import SEARCHERS, Player, confirm
from releq_gym.searchers.additive import AdditiveLoss
from releq_gym.searchers.pairwise import PairwiseLoss
from releq_gym.searchers.sensitivity import measure_sensitivity
from releq_gym.tasks.score import make_scorer
from releq_gym.wrappers import ContinuousBitwidth, Incumbent, OneShot


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


def test_several_networks_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match="plays on one network, not on"):
        searched("greedy", net=["synthetic-4-any", "digits"], evaluation_budget=20)


EXHAUSTIVE = [
    name for name in SEARCHERS.names() if name not in ("uniform", "ends_at_8", "sensitivity")
]


@pytest.mark.parametrize("name", EXHAUSTIVE)
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


def regrets(name, evaluations):
    """On a deep landscape, of two seeds."""
    runs = [
        searched(name, seed, task="synthetic-20-0", evaluation_budget=evaluations)
        for seed in (0, 1)
    ]
    scorer = make_scorer(runs[0].problem)
    return [scorer.regret(run.ledger.best(run.problem).bitwidths) for run in runs]


@pytest.mark.parametrize(
    ("name", "evaluations"),
    [
        ("local_search", 600),
        ("simulated_annealing", 300),
        ("evolution", 300),
        ("tpe", 60),
        ("pairwise_program", 60),
    ],
)
def test_searchers_beat_random_search_on_a_deep_landscape(name, evaluations):
    assert max(regrets(name, evaluations)) < min(regrets("random", evaluations))


@pytest.mark.parametrize("name", sorted(SEARCHERS))
def test_who_would_not_end_without_a_budget_says_so(name):
    env = QuantizeNetEnv(net="vgg11")
    env.reset(seed=0)
    if name in ("uniform", "ends_at_8", "sensitivity"):
        SEARCHERS[name](env, np.random.default_rng(0))
        assert env.ledger.distinct > 0
        return
    with pytest.raises(
        ValueError, match=r"134,217,728 assignments of surrogate:vgg11-.*budget=600"
    ):
        SEARCHERS[name](env, np.random.default_rng(0))
    assert env.ledger.distinct == 0


def test_uniform_search_asks_for_each_bitwidth_once():
    env = searched("uniform", task="synthetic-6-0")
    assert [bitwidths[0] for bitwidths in env.ledger.cells(env.problem)] == [8, 7, 6, 5, 4, 3, 2]


def test_ends_at_8_asks_for_the_most_bits_at_both_ends():
    env = searched("ends_at_8", task="synthetic-6-0", bitwidths=[2, 4, 6])
    asked = list(env.ledger.cells(env.problem))
    assert asked == [(6, *[bitwidth] * 4, 6) for bitwidth in (6, 4, 2)]


@pytest.mark.parametrize("name", SEARCHERS.names())
def test_cost_budgets_hold_for_searchers(name):
    options = {"task": "synthetic-6-0", "cost_budget": {"cost": 0.4}, "evaluation_budget": 50}
    env, strict = (searched(name, on_masked=how, **options) for how in ("nearest", "raise"))
    asked = list(env.ledger.cells(env.problem))
    for bitwidths in asked:
        assert env.problem.cost(bitwidths) <= 0.4 + 1e-9
    assert list(strict.ledger.cells(strict.problem)) == asked


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


@pytest.mark.parametrize("name", SEARCHERS.names())
def test_searchers_stop_where_the_cost_budget_leaves_one_assignment(name, monkeypatch):
    monkeypatch.setattr("releq_gym.searchers.IDLE", 30)
    problem = gym.make("releq/QuantizeNet-v0", task="synthetic-4-0").unwrapped.problem
    least = problem.cost([2] * 4)
    env = searched(name, task="synthetic-4-0", cost_budget={"cost": least})
    assert list(env.ledger.cells(env.problem)) == [(2,) * 4]
    assert env.ledger.fresh < 100  # of 2,401 that can be asked for


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


def test_player_predicts_costs_and_worths_as_the_ledger_ranks():
    env = gym.make("releq/QuantizeNet-v0", evaluator=ToyEvaluator(), fixed_bitwidths={"first": 4})
    player = Player(env)
    problem, choice = player.problem, (2, 8)
    assert player.complete(choice) == (4, 2, 8)
    played = player.ask(choice)
    accuracy = 0.9 - played.loss_points / 100
    cautious = problem.objective((4, 2, 8), accuracy - problem.caution(accuracy))
    worths = player.worths([choice, (8, 8)], np.array([played.loss_points, 0.0]))
    assert worths == pytest.approx([cautious, problem.objective((4, 8, 8), 0.9)])
    assert player.ask(choice) is played and env.unwrapped.ledger.fresh == 1


def test_player_knows_what_budget_and_space_leave():
    for options, left in (({}, 27), ({"evaluation_budget": 5}, 5), ({"evaluation_budget": 99}, 27)):
        env = gym.make("releq/QuantizeNet-v0", evaluator=ToyEvaluator(), **options)
        player = Player(env)
        assert player.left == left
        for _ in range(2):
            player.play((2, 4, 8))
        assert player.left == left - 1


def test_sensitivity_lowers_each_layer_alone():
    env = gym.make("releq/QuantizeNet-v0", evaluator=ToyEvaluator(), noise="mean")
    losses = measure_sensitivity(Player(env))
    assert losses == pytest.approx(np.tile([10.0, 0.0, 0.0], (3, 1)))
    assert env.unwrapped.ledger.distinct == 7
    only = measure_sensitivity(Player(env), [2])
    assert np.isnan(only[:, 1]).all() and only[:, 0] == pytest.approx(10.0)


def test_sensitivity_leaves_out_what_the_budget_does_not_afford():
    env = gym.make("releq/QuantizeNet-v0", evaluator=ToyEvaluator(), evaluation_budget=5)
    losses = measure_sensitivity(Player(env))
    assert np.isnan(losses).sum(axis=0).tolist() == [2, 0, 0]


def test_sensitivity_knows_nothing_of_what_another_assignment_was_played_for():
    class Partly(ToyEvaluator):
        measured = ((8, 8, 8), (4, 8, 8), (8, 4, 8), (8, 2, 8), (8, 8, 4), (8, 4, 2))

    env = gym.make("releq/QuantizeNet-v0", evaluator=Partly(), noise="mean")
    losses = measure_sensitivity(Player(env))
    unknown = np.nan
    expected = [[unknown, 0.0, 0.0], [10.0, 0.0, 0.0], [unknown, 0.0, 0.0]]
    assert losses == pytest.approx(np.array(expected), nan_ok=True)


@pytest.mark.parametrize("wrap", [ContinuousBitwidth, OneShot, Incumbent])
def test_a_wrapper_that_takes_other_actions_is_refused(wrap):
    env = wrap(gym.make("releq/QuantizeNet-v0", net="synthetic"))
    with pytest.raises(ValueError, match="actions are bitwidths, one per step, but a wrapper"):
        Player(env)


@pytest.mark.parametrize("seed", range(6))
def test_the_integer_program_is_exact_with_interactions(seed):
    rng = np.random.default_rng(seed)
    costs, losses = rng.random((2, 4, 3))
    tables = {pair: 0.3 * rng.normal(size=(3, 3)) for pair in itertools.combinations(range(4), 2)}

    def lost(digits):
        together = sum(table[digits[i], digits[j]] for (i, j), table in tables.items())
        return losses[range(4), digits].sum() + together

    within = [digits for digits in itertools.product(range(3), repeat=4) if lost(digits) <= 1.2]
    best = min(within, key=lambda digits: costs[range(4), digits].sum())
    assert tuple(cheapest(costs, losses, 1.2, interactions=tables)) == best


@pytest.mark.parametrize("seed", range(6))
def test_the_integer_program_is_exact(seed, capfd):
    rng = np.random.default_rng(seed)
    costs, losses, figure = rng.random((3, 4, 3))
    rows = np.arange(4)
    within = rng.integers(0, 3, 4)  # one choice at least
    limit, figure_limit = losses[rows, within].sum() + 0.1, figure[rows, within].sum() + 0.1
    feasible = [
        digits
        for digits in itertools.product(range(3), repeat=4)
        if losses[rows, digits].sum() <= limit and figure[rows, digits].sum() <= figure_limit
    ]
    found = cheapest(costs, losses, limit, figure[None], [figure_limit])
    best = min(feasible, key=lambda digits: costs[rows, digits].sum())
    assert tuple(found) == best
    assert cheapest(costs, losses, losses.min(axis=1).sum() / 2) is None
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("reward", ["ratio", "lagrangian", "releq", lambda t: -t.cost])
def test_the_integer_program_takes_any_reward(reward):
    env = searched("integer_program", task="synthetic-6-0", reward=reward, evaluation_budget=40)
    other = searched("uniform", task="synthetic-6-0", reward=reward)
    ours, uniform = (one.ledger.best(one.problem).objective for one in (env, other))
    assert ours >= uniform


def test_the_integer_program_respects_a_limit_on_another_figure():
    layers = ToyEvaluator.layers

    def cost(layers, bitwidths):
        bits = np.asarray(bitwidths, dtype=float)
        return {
            "energy": np.outer([layer.macs for layer in layers], bits),
            "bytes": np.outer([layer.weights for layer in layers], bits) / 8,
        }

    env = searched(
        "integer_program",
        evaluator=ToyEvaluator(),
        cost=cost,
        cost_budget={"bytes": sum(layer.weights for layer in layers) / 2},
        reward_kwargs={"max_loss_points": 1.0},
        evaluation_budget=20,
    )
    assert env.ledger.best(env.problem).bitwidths == (4, 4, 4)


@pytest.mark.parametrize("name", ["greedy", "integer_program"])
def test_informed_searchers_beat_local_search_with_few_evaluations(name):
    found = {}
    for searcher in (name, "local_search"):
        run = searched(searcher, task="synthetic-20-1", evaluation_budget=120)
        scorer = make_scorer(run.problem)
        found[searcher] = scorer.regret(run.ledger.best(run.problem).bitwidths)
    assert found[name] < 0.5 * found["local_search"]


def toy_pairs(interactions, bitwidths=(2, 4, 8)):
    """A pairwise model of the toy, told of interactions of steps at their fewest bits."""
    player = Player(gym.make("releq/QuantizeNet-v0", evaluator=ToyEvaluator(), bitwidths=bitwidths))
    lowered = np.zeros(3, dtype=np.intp)
    return PairwiseLoss(player, np.ones(3), 0.0, 0.0, lowered, interactions)


def test_the_pairwise_model_learns_an_interaction_and_scales_it():
    model = toy_pairs({(0, 2): 5.0})
    alone = model.predict(np.array([[0, 2, 2]]), [0.0])[0, 0]
    for digits, loss in (([2, 2, 2], 0.0), ([0, 2, 2], alone), ([2, 2, 0], alone)):
        model.learn(np.array(digits), loss)
    model.learn(np.array([0, 2, 0]), 2 * alone + 5.0)
    (table,) = model.interactions()
    assert table[0, 0] == pytest.approx(5.0, abs=0.5)
    # From 2 to 4 bits the toy's noise falls by 12 dB, its amplitude by a factor of 4.
    assert table[1, 0] == pytest.approx(table[0, 0] / 4, rel=0.01)
    assert not table[2].any() and not table[:, 2].any()
    digits = np.array([0, 2, 0])
    singles = AdditiveLoss.summed(model, digits)
    assert model.summed(digits) == pytest.approx(singles + table[0, 0])


def test_the_pairwise_model_expands_where_products_are_too_many(monkeypatch):
    model = toy_pairs({(0, 1): 5.0, (0, 2): 5.0, (1, 2): 5.0})
    model.learn(np.array([0, 0, 0]), 9.0)
    costs, rng = np.tile([1.0, 2.0, 3.0], (3, 1)), np.random.default_rng
    limit = 0.3 * model.summed(np.zeros(3, dtype=np.intp))
    exact = model.cheapest(costs, limit, rng(0))
    monkeypatch.setattr("releq_gym.searchers.pairwise.MOST_PRODUCTS", 0)
    expanded = model.cheapest(costs, limit, rng(0))
    assert costs[range(3), expanded].sum() == costs[range(3), exact].sum()


class CoupledEvaluator(ToyEvaluator):
    """Six layers that lose little alone below 4 bits; three couples lose ten times that."""

    layers = tuple(toy_layer(f"layer{i}", 10 + 10 * i, 100 + 100 * i) for i in range(6))
    repeats, images = 1, 0

    def evaluate(self, bitwidths, repeat):
        missing = np.maximum(4 - np.array(bitwidths), 0)
        lost = 0.1 * missing.sum() + (missing[::2] * missing[1::2]).sum()
        return Evaluation(0.9 - lost / 100, 5.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_pairwise_program_finds_what_couples_hide_from_the_additive_one(seed):
    found = {}
    for name in ("integer_program", "pairwise_program"):
        env = searched(
            name,
            seed,
            evaluator=CoupledEvaluator(),
            reward_kwargs={"max_loss_points": 1.0},
            evaluation_budget=45,
        )
        found[name] = env.ledger.best(env.problem).bitwidths
    assert found["pairwise_program"] == (4, 2, 4, 2, 4, 2) != found["integer_program"]


def test_without_optuna_tpe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'releq_gym\[live\]'"):
        searched("tpe", evaluator=ToyEvaluator())


def test_tpe_is_silent_and_leaves_the_logging_of_optuna_as_it_was(monkeypatch):
    optuna, said, handler = pytest.importorskip("optuna"), [], logging.Handler()
    handler.emit = said.append
    monkeypatch.setattr(logging.getLogger("optuna"), "handlers", [handler])
    level = optuna.logging.get_verbosity()
    searched("tpe", evaluator=ToyEvaluator(), evaluation_budget=3)
    assert optuna.logging.get_verbosity() == level
    assert not said


@pytest.mark.parametrize("name", SEARCHERS.names())
def test_where_there_is_nothing_to_choose_the_only_assignment_is_asked(name):
    env = gym.make("releq/QuantizeNet-v0", net="digits", bitwidths=(4,))
    SEARCHERS[name](env, np.random.default_rng(0))
    ledger, problem = env.unwrapped.ledger, env.unwrapped.problem
    assert list(ledger.cells(problem)) == [(4, 4, 4, 4)]


def test_a_search_starts_where_the_budgeted_figure_admits_it():
    def cost(layers, bitwidths):
        bits = np.array(bitwidths)
        return {"cycles": np.outer([1, 1, 1], bits), "energy": np.stack([9 - bits, bits, bits])}

    env = gym.make(
        "releq/QuantizeNet-v0", evaluator=ToyEvaluator(), cost=cost, cost_budget={"energy": 6}
    )
    assert Player(env).start == (8, 2, 2)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("uniform", {(4, 4, 4), (2, 2, 2)}),
        ("ends_at_8", {(8, 4, 8), (8, 2, 8)}),
    ],
)
def test_under_a_budget_the_shapes_stay_what_they_are(name, asked):
    env = gym.make(
        "releq/QuantizeNet-v0",
        evaluator=ToyEvaluator(),
        cost="weighted_bitwidth",
        cost_budget={"cost": 0.7},
    )
    SEARCHERS[name](env, np.random.default_rng(0))
    assert set(env.unwrapped.ledger.cells(env.unwrapped.problem)) == asked


def test_under_a_budget_random_search_draws_what_it_admits_alike():
    counts = collections.Counter()
    for seed in range(150):
        env = gym.make(
            "releq/QuantizeNet-v0",
            evaluator=ToyEvaluator(),
            cost="weighted_bitwidth",
            cost_budget={"cost": 0.45},
            evaluation_budget=1,
        )
        SEARCHERS["random"](env, np.random.default_rng(seed))
        counts.update(list(env.unwrapped.ledger.cells(env.unwrapped.problem)))
    problem = env.unwrapped.problem
    admitted = [c for c in itertools.product((2, 4, 8), repeat=3) if problem.admits(c)]
    assert set(counts) == set(admitted)
    assert max(counts.values()) < 2 * 150 / len(admitted)


def test_who_silences_stdout_waits_for_others_that_do(capfd):
    entered, leave = threading.Event(), threading.Event()

    def silence():
        with _without_stray_line():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=silence)
    with _without_stray_line():
        other.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    leave.set()
    other.join()
    os.write(1, b"still here")
    assert capfd.readouterr().out == "still here"


def test_threads_leave_stdout_as_it_was(capfd):
    rng = np.random.default_rng(0)
    costs, losses = rng.random((8, 4)), rng.random((8, 4))

    def solve():
        for _ in range(10):
            cheapest(costs, losses, 3.0)

    threads = [threading.Thread(target=solve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(1, b"still here")
    assert capfd.readouterr().out == "still here"


class Counting(ToyEvaluator):
    repeats = 1
    asked = 0

    def evaluate(self, bitwidths, repeat):
        Counting.asked += 1
        return super().evaluate(bitwidths, repeat)


@pytest.mark.parametrize("name", ["simulated_annealing", "greedy", "random", "local_search"])
def test_nothing_is_measured_twice_under_a_tight_cost_budget(name, monkeypatch):
    monkeypatch.setattr(Counting, "asked", 0)
    env = searched(
        name,
        evaluator=Counting(),
        cost_budget={"cost": 0.45},
        reward_kwargs={"max_loss_points": 1.0},
    )
    assert Counting.asked == env.ledger.fresh == env.ledger.distinct
