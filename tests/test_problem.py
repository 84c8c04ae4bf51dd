import numpy as np
import pytest
from toys import toy_problem

from releq_gym.registry import UnknownNameError


def twin_figures(layers, bitwidths):
    """Cycles fall with bits, energy has its least at 4 bits."""
    bits = np.asarray(bitwidths, dtype=float)
    return {
        "cycles": np.tile(bits, (len(layers), 1)),
        "microjoules": np.tile(np.abs(bits - 4) + 1, (len(layers), 1)),
    }


def test_index_is_mixed_radix_first_layer_most_significant():
    problem = toy_problem()
    assert problem.index(np.array([2, 2, 2])) == 0
    assert problem.index(np.array([2, 2, 4])) == 1
    assert problem.index(np.array([4, 2, 8])) == 9 + 2


def test_fixed_layers_are_not_steps():
    problem = toy_problem(fixed_bitwidths={"first": 8, "last": 4})
    assert problem.steps == (1,)
    assert problem.start == (8, 8, 4)


def test_bitwidths_may_be_any_subset():
    problem = toy_problem(bitwidths=[4, 2])
    assert problem.bitwidths == (2, 4)
    assert problem.start == (4, 4, 4)


@pytest.mark.parametrize("bitwidths", [[3], [2, 9], [0], []])
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


def test_masks_leave_exactly_what_the_budget_can_still_pay():
    budget = 0.5
    problem = toy_problem(cost_budget={"cost": budget})
    rng = np.random.default_rng(0)
    for _ in range(50):
        bitwidths, decided = np.array(problem.start), problem.at_start
        for step, layer in enumerate(problem.steps):
            allowed = problem.allowed(step, decided)
            assert allowed.any()
            for choice, bitwidth in enumerate(problem.bitwidths):
                cheapest = bitwidths.copy()
                cheapest[layer] = bitwidth
                cheapest[list(problem.steps[step + 1 :])] = 2
                reachable = problem.cost(cheapest)
                assert allowed[choice] == (reachable <= budget + 1e-9)
            bitwidths[layer] = rng.choice(np.array(problem.bitwidths)[allowed])
            decided = problem.decide(step, decided, bitwidths[layer])
        assert problem.cost(bitwidths) <= budget + 1e-9


def test_masks_use_per_layer_minima_not_fewest_bits():
    problem = toy_problem(cost_model=twin_figures, cost_budget={"microjoules": 5.0})
    allowed = problem.allowed(0, problem.at_start)
    # Two layers at 4 bits take 2; 2 bits take 3, 8 bits take 5.
    assert allowed.tolist() == [True, True, False]


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
def test_deciding_layer_by_layer_sums_up_to_the_totals(fixed):
    problem = toy_problem(fixed_bitwidths=fixed)
    bitwidths, decided = np.array(problem.start), problem.at_start
    for step, (layer, bitwidth) in enumerate(zip(problem.steps, (2, 8, 4), strict=False)):
        assert problem.economics(step, decided).cost == pytest.approx(problem.cost(bitwidths))
        decided = problem.decide(step, decided, bitwidth)
        bitwidths[layer] = bitwidth
    economics = problem.economics(len(problem.steps), decided)
    assert decided == pytest.approx(problem.totals(bitwidths))
    assert economics.cost == pytest.approx(problem.cost(bitwidths))
    assert economics.least_cost == economics.cost


def test_arrays_of_situations_give_what_single_ones_give():
    problem = toy_problem(cost_budget={"cost": 0.6}, fixed_bitwidths={"middle": 2})
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
    assert [figure[1] for figure in together.figures] == list(alone.figures)
