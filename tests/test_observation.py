import dataclasses

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from toys import ToyEvaluator, toy_problem

from releq_gym.observation import (
    DYNAMIC,
    LAYER,
    MAX_LAYERS,
    OBSERVATIONS,
    PAPER,
    Situation,
    dynamic_values,
    layer_rows,
)


def situation(problem, bitwidths, step, relative_accuracy=1.0, loss_points=0.0, evaluated=False):
    decided, bits = problem.at_start, [bitwidths[layer] for layer in problem.steps[:step]]
    for number, bitwidth in enumerate(bits):
        decided = problem.decide(number, decided, bitwidth)
    return Situation(
        step=step,
        bitwidths=np.array(bitwidths),
        economics=problem.economics(step, decided),
        last_bitwidth=bits[-1] if bits else 0,
        decided_bits=sum(bits),
        relative_accuracy=relative_accuracy,
        loss_points=loss_points,
        evaluated=evaluated,
    )


def named(where):
    names = [feature.name for feature in DYNAMIC]
    return dict(zip(names, dynamic_values(where), strict=True))


def test_dynamic_values_by_hand():
    problem = toy_problem(cost_budget={"cost": 0.5})
    values = named(situation(problem, (2, 4, 8), 2, 0.9, 9.0, True))
    assert values["previous_bitwidth"] == 0.5
    assert values["mean_decided"] == 3 / 8
    assert values["relative_accuracy"] == 0.9
    assert values["loss"] == pytest.approx(np.log10(1 + 90) / 3)
    assert values["evaluated"] == 1
    importance = np.array([1300, 8500, 2700])
    least = (importance @ [2, 4, 2]) / (8 * importance.sum())
    assert values["least_cost"] == pytest.approx(least)
    assert values["cost"] == pytest.approx((importance @ [2, 4, 8]) / (8 * importance.sum()))
    assert values["budget_left"] == pytest.approx(1 - least / 0.5, abs=1e-6)


def test_a_loss_of_the_floor_is_visible():
    problem = toy_problem()
    values = named(situation(problem, (8, 8, 8), 0, loss_points=0.3))
    assert values["loss"] > 0.15


def test_nothing_is_measured_at_the_start():
    problem = toy_problem()
    values = named(situation(problem, problem.start, 0))
    assert values["relative_accuracy"] == 1 and values["evaluated"] == 0
    assert values["previous_bitwidth"] == values["mean_decided"] == 0


def test_shares_of_a_net_sum_to_one():
    rows = layer_rows(toy_problem())
    share = [feature.name for feature in LAYER].index("cost_share")
    assert rows[:, share].sum() == pytest.approx(1)
    assert rows[0, share + 1] == pytest.approx(1)


def test_a_group_is_shown_by_its_sums_its_least_snr_and_its_first_layer():
    problem = toy_problem(groups=[["first", "last"]])
    names = [feature.name for feature in LAYER]
    seen = OBSERVATIONS["layer"](problem)(situation(problem, problem.start, 0))
    values = dict(zip(names, seen, strict=True))
    importance = np.array([1300, 8500, 2700])
    assert values["weights"] == pytest.approx(np.log2(30) / 28)
    assert values["macs"] == pytest.approx(np.log2(400) / 36)
    assert values["input_dim"] == pytest.approx(np.log2(10) / 16)
    assert values["position"] == 0 and values["layers"] == pytest.approx(np.log2(3) / 8)
    assert values["cost_share"] == pytest.approx((1300 + 2700) / importance.sum())
    assert values["undecided_share"] == 1
    last = OBSERVATIONS["layer"](problem)(situation(problem, (2, 8, 2), 1))
    values = dict(zip(names, last, strict=True))
    assert values["position"] == 0.5
    assert values["cost_share"] == values["undecided_share"]
    assert values["undecided_share"] == pytest.approx(8500 / importance.sum())
    assert values["previous_bitwidth"] == values["mean_decided"] == 0.25


def test_the_least_snr_of_a_group_counts():
    evaluator = ToyEvaluator()
    noisy = dataclasses.replace(evaluator.layers[2], sqnr_db=(-10.0,) * 8, weight_std=0.5)
    evaluator.layers = (*evaluator.layers[:2], noisy)
    problem = toy_problem(groups=[["first", "last"]]).with_evaluator(evaluator)
    (row,) = layer_rows(problem, [(0, 2)])
    values = dict(zip([feature.name for feature in LAYER], row, strict=False))
    assert values["sqnr_8"] == 0
    assert values["weight_std"] == pytest.approx(0.6)  # of the first


def stack(parts):
    """Named tuples of scalars and named tuples as one of arrays."""
    columns = zip(*parts, strict=True)
    stacked = [
        stack(column) if isinstance(column[0], tuple) else np.stack(column) for column in columns
    ]
    return type(parts[0])(*stacked) if hasattr(parts[0], "_fields") else tuple(stacked)


@pytest.mark.parametrize("name", OBSERVATIONS.names())
@pytest.mark.parametrize(
    "options", [{"fixed_bitwidths": {"middle": 2}}, {"groups": [["first", "last"]]}], ids=str
)
def test_arrays_of_situations_give_stacked_observations(name, options):
    problem = toy_problem(cost_budget={"cost": 0.6}, **options)
    singles = [
        situation(problem, problem.assignment([]), 0),
        situation(problem, problem.assignment([4]), 1, 0.9, 9.0, True),
        situation(problem, problem.assignment([2, 4]), 2, 1.1, -2.0, True),
    ]
    stacked = stack(singles)
    observe = OBSERVATIONS[name](problem)
    together = observe(stacked)
    for row, single in enumerate(singles):
        alone = observe(single)
        if isinstance(alone, dict):
            assert all((together[key][row] == alone[key]).all() for key in alone)
        else:
            assert (together[row] == alone).all()


@pytest.mark.parametrize("name", OBSERVATIONS.names())
def test_observations_lie_in_their_space_and_are_fresh(name):
    problem = toy_problem(fixed_bitwidths={"middle": 4})
    observe = OBSERVATIONS[name](problem)
    for step in range(len(problem.steps) + 1):
        where = situation(problem, problem.start, step, 1.2, -3.0)
        seen = observe(where)
        assert seen in observe.space
        if isinstance(seen, np.ndarray):
            seen[:] = -1
            assert (observe(where) != -1).all()


def test_sizes_are_the_same_for_every_net():
    assert OBSERVATIONS["layer"](toy_problem()).space == Box(0, 1, (len(LAYER),), np.float32)
    assert OBSERVATIONS["paper"](toy_problem()).space == Box(0, 1, (len(PAPER),), np.float32)
    full = OBSERVATIONS["full"](toy_problem()).space
    assert isinstance(full, Dict) and full["mask"].shape == (MAX_LAYERS,)


def test_paper_observation_shows_the_current_bitwidth_of_the_layer_at_hand():
    problem = toy_problem(bitwidths=[2, 4])
    observe = OBSERVATIONS["paper"](problem)
    seen = observe(situation(problem, (2, 4, 4), 1, 0.75))
    names = [feature.name for feature in PAPER]
    assert seen[names.index("index")] == pytest.approx(1 / 3)
    assert seen[names.index("bitwidth")] == 0.5
    assert seen[names.index("relative_accuracy")] == 0.75


def test_full_observation_marks_fixed_and_decided_layers():
    problem = toy_problem(fixed_bitwidths={"middle": 4})
    seen = OBSERVATIONS["full"](problem)(situation(problem, (2, 4, 8), 1))
    assert seen["decided"][:4].tolist() == [1, 1, 0, 0]
    assert seen["current"][:4].tolist() == [0, 0, 1, 0]
    assert seen["mask"][:4].tolist() == [1, 1, 1, 0]
    assert seen["bitwidths"][:3].tolist() == [0.25, 0.5, 1.0]


def test_full_observation_marks_all_layers_of_a_group():
    problem = toy_problem(groups=[["first", "last"]])
    observe = OBSERVATIONS["full"](problem)
    seen = observe(situation(problem, problem.start, 0))
    assert seen["current"][:4].tolist() == [1, 0, 1, 0]
    assert seen["decided"][:4].tolist() == [0, 0, 0, 0]
    assert (seen["layers"][:3] == layer_rows(toy_problem())).all()
    seen = observe(situation(problem, (2, 8, 2), 1))
    assert seen["current"][:4].tolist() == [0, 1, 0, 0]
    assert seen["decided"][:4].tolist() == [1, 0, 1, 0]
