import math

import numpy as np
import pytest
from toys import toy_problem

from releq_gym.env import QuantizeNetEnv
from releq_gym.registry import UnknownNameError
from releq_gym.rewards import make_reward, reward_many
from releq_gym.tasks.score import make_scorer


def transition(relative_accuracy=1.0, cost=0.5, max_loss_points=0.3):
    made = toy_problem().transition((8, 8, 8), 0.9)
    return made._replace(
        accuracy=0.9 * relative_accuracy,
        relative_accuracy=relative_accuracy,
        loss_points=90 * (1 - relative_accuracy),
        cost=cost,
        max_loss_points=max_loss_points,
    )


def test_accuracy_floor_pays_for_cost_only_above_the_floor():
    reward = make_reward("accuracy_floor", max_loss_points=9.0)
    assert reward(transition(0.9, 0.25)) == 0.75
    assert reward(transition(0.8, 0.25)) == pytest.approx(-(18 - 9) / 100)


@pytest.mark.parametrize("points", [-1, math.nan, math.inf, "a"])
def test_accuracy_floor_refuses_what_is_no_tolerance(points):
    with pytest.raises(ValueError, match="has to be a number of points, 0 or more"):
        make_reward("accuracy_floor", max_loss_points=points)


def test_what_costs_more_than_8_bits_still_beats_what_loses_too_much():
    def unpacking(layers, bitwidths):
        slower = np.where(np.array(bitwidths) == 8, 1.0, 1.25)
        return {"microseconds": np.outer([layer.macs for layer in layers], slower)}

    task = "lenet-mnist-uniform-ptq-w1to8"
    problem = QuantizeNetEnv(task=task, cost=unpacking, bitwidths=[2, 4]).problem
    evaluator = problem.evaluator
    tolerable, worst = (4, 4, 4, 4), (2, 2, 2, 2)
    worths = {
        one: problem.objective(one, evaluator.evaluate(one, 0).accuracy)
        for one in (tolerable, worst)
    }
    assert worths[tolerable] == pytest.approx(-0.25)
    excess = problem.transition(worst, evaluator.evaluate(worst, 0).accuracy).loss_points - 0.3
    assert worths[worst] == pytest.approx(-0.25 - excess / 100)
    rows = np.array([tolerable, worst])
    accuracies = np.array([evaluator.evaluate(tuple(row), 0).accuracy for row in rows.tolist()])
    economics = problem.economics(4, np.stack([problem.totals(row) for row in rows]))
    many = problem.transition(rows, accuracies, economics=economics)
    assert reward_many(problem.reward, many).tolist() == pytest.approx(list(worths.values()))
    scorer = make_scorer(problem)
    assert scorer.search_regret(tolerable) < 1 < scorer.search_regret(worst)
    # All layers at 8 bits are the dearest: nothing changes.
    assert QuantizeNetEnv(task=task).problem.transition(worst, 0.5).highest_cost == 1.0


def test_accuracy_floor_takes_the_tasks_own_tolerance():
    reward = make_reward("accuracy_floor")
    assert reward(transition(0.99, 0.25, max_loss_points=1.0)) == 0.75
    assert reward(transition(0.99, 0.25, max_loss_points=0.5)) == pytest.approx(-0.004)


def test_any_tolerable_assignment_beats_any_other():
    reward = make_reward("accuracy_floor")
    assert reward(transition(1.0, 0.999)) > reward(transition(0.9, 0.01))


def test_releq_reward_by_hand():
    reward = make_reward("releq")
    assert reward(transition(1.0, 0.5)) == pytest.approx(1 - 0.5**0.2)
    assert reward(transition(0.8, 0.25)) == pytest.approx((1 - 0.25**0.2) * 0.8**0.5)
    assert reward(transition(0.39, 0.25)) == -1.0


def test_releq_reward_reproduces_the_known_lenet_values():
    # 3-, 4- and 5-bit LeNet under WRPN: 86.8, 97.1, 99.0 % of 99.1 %.
    reward = make_reward("releq")
    values = [
        reward(transition(accuracy / 99.1, bits / 8))
        for accuracy, bits in ((86.8, 3), (97.1, 4), (99.0, 5))
    ]
    assert values == pytest.approx([0.168, 0.128, 0.090], abs=0.002)


def test_releq_code_reward_by_hand():
    reward = make_reward("releq_code")
    assert reward(transition(1.0, 0.25)) == 1.0
    assert reward(transition(1.0, 0.2)) == 1.0
    assert reward(transition(0.8, 0.5)) == pytest.approx(
        2 * ((1 - 0.25**0.8) * 0.8 ** (1 / 0.8) - 0.5)
    )
    assert reward(transition(0.6, 0.5)) == -1.0


@pytest.mark.parametrize(
    ("name", "value"), [("ratio", 0.9 / 0.5), ("difference", 0.4), ("lagrangian", 0.9 - 0.05)]
)
def test_simple_rewards_by_hand(name, value):
    assert make_reward(name)(transition(0.9, 0.5)) == pytest.approx(value)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), "much"])
def test_a_price_below_nothing_is_refused(weight):
    with pytest.raises(ValueError, match="has to be a price, 0 or more"):
        make_reward("lagrangian", weight=weight)


@pytest.mark.parametrize("name", ["releq", "releq_code", "ratio", "difference", "lagrangian"])
def test_rewards_rise_with_accuracy_and_fall_with_cost(name):
    reward = make_reward(name)
    assert reward(transition(0.99, 0.5)) > reward(transition(0.9, 0.5))
    assert reward(transition(0.9, 0.4)) > reward(transition(0.9, 0.5))


def test_reward_may_be_any_callable():
    def reward(t):
        return -t.weighted_bitwidth

    assert make_reward(reward) is reward


def test_wrong_rewards_get_a_sentence():
    with pytest.raises(UnknownNameError, match="Did you mean 'releq'"):
        make_reward("relek")
    with pytest.raises(ValueError, match="no parameter 'c'; it takes a, b, th"):
        make_reward("releq", c=1)
    with pytest.raises(ValueError, match="neither a name nor a callable"):
        make_reward(3)
    with pytest.raises(ValueError, match="carries its own"):
        make_reward(math.sin, a=1)
    with pytest.raises(ValueError, match="no parameter 'name'"):
        make_reward("releq", name=1)
    with pytest.raises(ValueError, match="'ratio' divides by the cost"):
        make_reward("ratio")(transition(cost=0.0))
