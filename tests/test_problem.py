from itertools import product

import numpy as np
import pytest
from toys import ToyEvaluator, toy_layer, toy_problem

from releq_gym.choices import group_by_prefix
from releq_gym.costs import make_cost
from releq_gym.env import QuantizeNetEnv
from releq_gym.registry import UnknownNameError

WEIGHTS = [layer.weights for layer in ToyEvaluator.layers]


def twin_figures(layers, bitwidths):
    """Cycles fall with bits, energy has its least at 4 bits."""
    bits = np.asarray(bitwidths, dtype=float)
    return {
        "cycles": np.tile(bits, (len(layers), 1)),
        "microjoules": np.tile(np.abs(bits - 4) + 1, (len(layers), 1)),
    }


def test_a_budget_of_what_an_assignment_costs_admits_it():
    every = list(product([2, 4, 8], repeat=3))
    for bitwidths in every:
        cost = toy_problem().totals(bitwidths)[0] / toy_problem().totals((8, 8, 8))[0]
        assert toy_problem(cost_budget={"cost": cost}).admits(bitwidths)


def test_a_figure_limited_under_both_of_its_names_keeps_the_lower_limit():
    size = make_cost("model_size")  # 112 bytes at 8 bits
    for budget, least in (({"cost": 0.5, "bytes": 90}, 56), ({"cost": 1.0, "bytes": 50}, 50)):
        for order in (budget, dict(reversed(budget.items()))):
            limits = toy_problem(cost_model=size, cost_budget=order).limits
            assert list(limits.values()) == pytest.approx([least])


def test_index_is_mixed_radix_first_layer_most_significant():
    problem = toy_problem()
    assert problem.index(np.array([2, 2, 2])) == 0
    assert problem.index(np.array([2, 2, 4])) == 1
    assert problem.index(np.array([4, 2, 8])) == 9 + 2


def test_fixed_layers_are_not_steps():
    problem = toy_problem(fixed_bitwidths={"first": 8, "last": 4})
    assert problem.steps == (1,)
    assert problem.start == (8, 8, 4)


def test_a_group_is_one_step_at_the_place_of_its_first_layer():
    problem = toy_problem(groups=[["last", "first"]])
    assert problem.groups == ((0, 2), (1,))
    assert problem.steps == (0, 1)
    assert problem.step_names == ("first + 1", "middle")
    assert problem.assignment([2, 4]) == (2, 4, 2)
    assert problem.assignment([2]) == (2, 8, 2)
    assert toy_problem(groups=[["middle"]]).groups == toy_problem().groups == ((0,), (1,), (2,))


def test_groups_and_fixed_layers_go_together():
    problem = toy_problem(groups=[["middle", "last"]], fixed_bitwidths={"first": 4})
    assert problem.groups == ((1, 2),)
    assert problem.start == (4, 8, 8)
    assert problem.assignment([2]) == (4, 2, 2)


def test_a_problem_admits_what_its_choices_can_make():
    problem = toy_problem(
        groups=[["first", "last"]],
        bitwidths=[2, 8],
        cost_budget={"bits_per_layer": 6.0},
        cost_model=make_cost("average_bitwidth"),
    )
    possible = [b for b in product([2, 4, 8], repeat=3) if problem.admits(b)]
    assert possible == [(2, 2, 2), (2, 8, 2), (8, 2, 8)]


def test_another_evaluator_keeps_the_groups():
    problem = toy_problem(groups=[["first", "last"]])
    twin = problem.with_evaluator(ToyEvaluator())
    assert twin.groups == problem.groups
    assert twin.describe() == problem.describe()
    assert problem.describe()["groups"] == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ([["first", "lst"]], "Unknown layer in groups 'lst'. Did you mean 'last'"),
        ([["first", "last"], ["last"]], "names layer 'last' twice"),
        ([["last", "last"]], "names layer 'last' twice"),
        ([["first", "middle"]], "'middle' is in groups and in fixed_bitwidths"),
        ([["first"], []], "holds an empty group"),
        (["first", "last"], "must be a list of lists of layer names"),
        ("first", "must be a list of lists of layer names"),
        ({"first": ["last"]}, "must be a list of lists of layer names"),
        (3, "must be a list of lists of layer names"),
    ],
)
def test_wrong_groups_get_a_sentence(groups, sentence):
    with pytest.raises(ValueError, match=sentence):
        toy_problem(groups=groups, fixed_bitwidths={"middle": 8})


def test_groups_by_prefix():
    names = ["stem", "blocks.0.fc1", "blocks.1.fc1", "blocks.10.fc1", "blocks.0.fc2"]
    layers = [toy_layer(name, 10, 10) for name in names]
    assert group_by_prefix(layers, ["blocks.0", "blocks.1", "stem"]) == [
        ["blocks.0.fc1", "blocks.0.fc2"],
        ["blocks.1.fc1"],
        ["stem"],
    ]
    with pytest.raises(UnknownNameError, match=r"'block\.0'\. Did you mean 'blocks\.0'"):
        group_by_prefix(layers, ["block.0"])


def test_bitwidths_may_be_any_subset():
    problem = toy_problem(bitwidths=[4, 2])
    assert problem.bitwidths == (2, 4)
    assert problem.start == (4, 4, 4)


@pytest.mark.parametrize("bitwidths", [(8, 4, 2), (2, 4, 16), (2, 2, 4), (), (0, 8)])
def test_an_evaluators_bitwidths_are_ascending_and_from_1_to_8(bitwidths, monkeypatch):
    monkeypatch.setattr(ToyEvaluator, "bitwidths", bitwidths)
    with pytest.raises(ValueError, match="have to be whole numbers from 1 to 8, ascending"):
        toy_problem()


@pytest.mark.parametrize("bitwidths", [[3], [2, 9], [0], [], [[2, 4]]])
def test_bitwidths_outside_the_evaluators_are_refused(bitwidths):
    with pytest.raises(ValueError, match=r"non-empty subset of what toy has: 2, 4, 8"):
        toy_problem(bitwidths=bitwidths)


def test_wrong_fixed_layers_get_a_sentence():
    with pytest.raises(UnknownNameError, match="Did you mean 'middle'"):
        toy_problem(fixed_bitwidths={"midle": 8})
    with pytest.raises(ValueError, match=r"\['first'\] = 5 is not among the bitwidths"):
        toy_problem(fixed_bitwidths={"first": 5})
    with pytest.raises(ValueError, match="fixes every layer"):
        toy_problem(fixed_bitwidths={"first": 8, "middle": 8, "last": 8})


GROUPS = [[], [["first", "last"]], [["last", "middle"]]]


@pytest.mark.parametrize("groups", GROUPS)
def test_masks_leave_exactly_what_the_budget_can_still_pay(groups):
    budget = 0.5
    problem = toy_problem(cost_budget={"cost": budget}, groups=groups)
    rng = np.random.default_rng(0)
    for _ in range(50):
        bitwidths, decided = np.array(problem.start), problem.at_start
        for step, group in enumerate(problem.groups):
            allowed = problem.allowed(step, decided)
            assert allowed.any()
            for choice, bitwidth in enumerate(problem.bitwidths):
                cheapest = bitwidths.copy()
                cheapest[list(group)] = bitwidth
                for later in problem.groups[step + 1 :]:
                    cheapest[list(later)] = 2
                reachable = problem.cost(cheapest)
                assert allowed[choice] == (reachable <= budget + 1e-9)
            bitwidths[list(group)] = rng.choice(np.array(problem.bitwidths)[allowed])
            decided = problem.decide(step, decided, bitwidths[group[0]])
        assert problem.cost(bitwidths) <= budget + 1e-9


def test_masks_use_per_layer_minima_not_fewest_bits():
    problem = toy_problem(cost_model=twin_figures, cost_budget={"microjoules": 5.0})
    allowed = problem.allowed(0, problem.at_start)
    # Two layers at 4 bits take 2; 2 bits take 3, 8 bits take 5.
    assert allowed.tolist() == [True, True, False]


def opposite_figures(layers, bitwidths):
    """The first layer is cheapest at 2 bits, the others at 8."""
    bits = np.asarray(bitwidths, dtype=float)
    return {"hops": np.stack([bits, 12 - bits, 12 - bits])[: len(layers)]}


def test_the_least_of_a_group_is_at_one_bitwidth():
    # Alone 2 + 4 + 4; the first two together 12 at any bitwidth.
    alone = toy_problem(cost_model=opposite_figures, cost_budget={"hops": 10.0})
    assert alone.economics(0, alone.at_start).least_cost == pytest.approx(10 / 16)
    together = toy_problem(
        cost_model=opposite_figures, cost_budget={"hops": 16.0}, groups=[["first", "middle"]]
    )
    assert together.economics(0, together.at_start).least_cost == 1.0
    assert together.allowed(1, together.decide(0, together.at_start, 2)).tolist() == [
        False,
        False,
        True,
    ]
    with pytest.raises(ValueError, match=r"least reachable is 16"):
        toy_problem(
            cost_model=opposite_figures, cost_budget={"hops": 15.0}, groups=[["first", "middle"]]
        )


def test_the_least_that_an_error_names_can_be_met():
    made = {"task": "resnet20-cifar10-uniformpc-ptqbn-w1to8", "cost": "weight_serial"}
    with pytest.raises(ValueError, match="least reachable is") as refused:
        QuantizeNetEnv(**made, cost_budget={"microjoules": 1e-3})
    least = float(str(refused.value).rsplit(" ", 1)[1].removesuffix("."))
    env = QuantizeNetEnv(**made, cost_budget={"microjoules": least})
    assert env.problem.possible().any(axis=1).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda layers, bits: {"ms": np.ones(3) * np.array(bits)}, "could not be broadcast"),
        (lambda layers, bits: {"ms": [layer.mac for layer in layers]}, "raised AttributeError in"),
        (lambda layers, bits: {"ms": 1 / 0}, "raised ZeroDivisionError in line"),
        (lambda layers, bits: {"ms": "a" + 1}, "of test_problem.py: can only concatenate"),
        (lambda layers: {}, r"cannot be called: .*It gets all layers"),
    ],
)
def test_what_a_cost_model_raises_is_a_sentence(wrong, said):
    with pytest.raises(ValueError, match=said):
        toy_problem(cost_model=wrong)


def test_unmeetable_budget_names_the_least():
    with pytest.raises(ValueError, match=r"least reachable is 0\.25"):
        toy_problem(cost_budget={"cost": 0.2})
    with pytest.raises(UnknownNameError, match="figure in cost_budget 'watts'"):
        toy_problem(cost_budget={"watts": 1})


def test_two_limits_that_cannot_be_guaranteed_together_are_refused():
    with pytest.raises(ValueError, match="limit one"):
        toy_problem(cost_model=twin_figures, cost_budget={"cycles": 20, "microjoules": 5})


def test_least_cost_and_budget_left():
    problem = toy_problem(cost_budget={"cost": 0.5})
    economics = problem.economics(0, problem.at_start)
    assert economics.cost == 1.0
    assert economics.least_cost == pytest.approx(0.25)
    assert economics.budget_left == pytest.approx(0.5)
    assert toy_problem().economics(0, problem.at_start).budget_left == 1.0


@pytest.mark.parametrize("fixed", [{}, {"first": 4}, {"middle": 2}, {"last": 4}])
@pytest.mark.parametrize("grouped", [False, True])
def test_deciding_step_by_step_sums_up_to_the_totals(fixed, grouped):
    free = [name for name in ("last", "first", "middle") if name not in fixed]
    problem = toy_problem(fixed_bitwidths=fixed, groups=[free[:2]] if grouped else None)
    bitwidths, decided = problem.start, problem.at_start
    for step in range(len(problem.steps)):
        economics = problem.economics(step, decided)
        assert economics.cost == pytest.approx(problem.cost(bitwidths))
        assert economics.average_bitwidth == pytest.approx(np.mean(bitwidths))
        assert economics.weighted_bitwidth == pytest.approx(np.average(bitwidths, weights=WEIGHTS))
        decided = problem.decide(step, decided, (2, 8, 4)[step])
        bitwidths = problem.assignment((2, 8, 4)[: step + 1])
    economics = problem.economics(len(problem.steps), decided)
    assert decided == pytest.approx(problem.totals(bitwidths))
    assert economics.cost == pytest.approx(problem.cost(bitwidths))
    assert economics.least_cost == economics.cost


@pytest.mark.parametrize(
    "options", [{"fixed_bitwidths": {"middle": 2}}, {"groups": [["first", "last"]]}], ids=str
)
def test_arrays_of_situations_give_what_single_ones_give(options):
    problem = toy_problem(cost_budget={"cost": 0.6}, **options)
    steps, chosen = np.array([0, 0, 1]), np.array([2, 8, 4])
    decided = np.stack([problem.at_start, problem.at_start, problem.decide(0, problem.at_start, 4)])
    after = problem.decide(steps, decided, chosen)
    for row in range(3):
        single = problem.decide(int(steps[row]), decided[row], int(chosen[row]))
        assert (after[row] == single).all()
        assert (
            problem.allowed(steps, decided)[row] == problem.allowed(int(steps[row]), decided[row])
        ).all()
    together = problem.economics(steps + 1, after)
    alone = problem.economics(int(steps[1]) + 1, after[1])
    assert all(many[1] == one for many, one in zip(together[:-1], alone[:-1], strict=True))
    assert {name: many[1] for name, many in together.figures.items()} == alone.figures
