import numpy as np
import pytest
from toys import ToyEvaluator, toy_problem

from releq_gym.costs import COSTS, make_cost
from releq_gym.env import QuantizeNetEnv
from releq_gym.layers import BITWIDTHS
from releq_gym.registry import UnknownNameError

LAYERS = ToyEvaluator.layers


TABLES = {"lookup", "tvm_cpu"}
"""What was measured: needs a file, and promises nothing."""


@pytest.mark.parametrize("name", sorted(set(COSTS.names()) - TABLES))
def test_all_at_8_bits_costs_exactly_1_and_fewer_bits_never_cost_more(name):
    problem = toy_problem(cost_model=make_cost(name))
    assert problem.cost((8, 8, 8)) == 1.0
    for values in make_cost(name)(LAYERS, BITWIDTHS).values():
        assert values.shape == (3, 8)
        assert (np.diff(values, axis=1) >= 0).all()


@pytest.mark.parametrize("name", COSTS.names())
def test_cost_docstrings_have_the_four_heads(name):
    doc = COSTS[name].__doc__
    for head in ("What it counts:", "Units:", "What it leaves out:", "Source:"):
        assert head in doc


def test_quantization_state_by_hand():
    problem = toy_problem()
    weights = [10 * 120 + 100, 70 * 120 + 100, 20 * 120 + 300]
    expected = (weights[0] * 2 + weights[1] * 4 + weights[2] * 8) / (8 * sum(weights))
    assert problem.cost((2, 4, 8)) == pytest.approx(expected, rel=1e-12)
    transition = problem.transition((2, 4, 8), 0.9)
    assert transition.state_of_quantization == pytest.approx(expected, rel=1e-12)
    assert transition.average_bitwidth == pytest.approx(14 / 3)
    assert transition.weighted_bitwidth == pytest.approx((10 * 2 + 70 * 4 + 20 * 8) / 100)


def test_model_size_packs_whole_bytes_and_counts_scales():
    size = make_cost("model_size")(LAYERS, [1, 3, 8])["bytes"]
    assert size[0].tolist() == [4 + 2, 4 + 4, 4 + 10]
    assert make_cost("model_size", scale_bytes=0)(LAYERS, [3])["bytes"][1, 0] == 27
    per_channel = make_cost("model_size", scales_per_channel=True)
    assert per_channel(LAYERS, [8])["bytes"][0, 0] == 10 + 4


def test_costs_follow_what_is_measured_unless_they_are_told():
    options = {"net": "digits", "evaluator": "live", "quantizer": "uniform", "recipe": "ptq"}
    headlines = {}
    for bits, per_channel in ((32, False), (8, True)):
        quantizer = {"quantizer_kwargs": {"per_channel": per_channel}}
        for cost in ("bit_operations", "model_size"):
            problem = QuantizeNetEnv(
                activation_bitwidth=bits,
                cost=cost,
                evaluator_kwargs={"memo": False} | quantizer,
                **options,
            ).problem
            headlines[cost, bits] = problem.totals((8,) * len(problem.layers))[0]
    assert headlines["bit_operations", 32] == 4 * headlines["bit_operations", 8]
    outputs = [layer.output_dim for layer in problem.layers]
    more = 4 * (sum(outputs) - len(outputs))
    assert headlines["model_size", 8] == headlines["model_size", 32] + more
    stated = make_cost("bit_operations", activation_bitwidth=16)
    assert stated.of(problem.evaluator) is stated
    task = {"net": "vgg11", "cost": "model_size"}  # whose every channel has a step
    found, stated = (
        QuantizeNetEnv(cost_kwargs=kwargs, **task).problem.totals((4,) * 9)[0]
        for kwargs in (None, {"scales_per_channel": True})
    )
    assert found == stated


def test_bit_operations_count_both_operands():
    operations = make_cost("bit_operations", activation_bitwidth=8)(LAYERS, [2])
    assert operations["bit_operations"][2, 0] == 300 * 2 * 8


def test_wrong_costs_get_a_sentence():
    with pytest.raises(UnknownNameError, match="Did you mean 'model_size'"):
        make_cost("modelsize")
    with pytest.raises(ValueError, match="no parameter 'x'"):
        make_cost("model_size", x=1)
    with pytest.raises(ValueError, match="needs path; pass cost_kwargs="):
        make_cost("lookup")
    for name in ("table.csv", "package.module:function"):
        with pytest.raises(ValueError, match="A table in a file is cost='lookup'"):
            make_cost(name)
    for name in ("cost", "accuracy"):
        with pytest.raises(ValueError, match=f"calls a figure '{name}', which info has already"):
            toy_problem(cost_model=lambda layers, bitwidths, name=name: {name: np.ones((3, 8))})
    for bits in (0, -8, np.nan, np.inf, "8"):
        with pytest.raises(ValueError, match=r"activation_bitwidth=.* must be a number above 0"):
            make_cost("bit_operations", activation_bitwidth=bits)
    for options in ({"scale_bytes": "4"}, {"scale_bytes": -1}, {"scales_per_channel": "no"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}=.* must be"):
            make_cost("model_size", **options)
    with pytest.raises(ValueError, match="neither a name nor a callable"):
        make_cost(5)
    with pytest.raises(ValueError, match="shape"):
        toy_problem(cost_model=lambda layers, bitwidths: {"steps": np.ones(3)})
    lacking = np.ones((3, 8))
    lacking[1, 3] = np.nan
    match = "'steps' must be finite and not negative; for layer 'middle' at 4 bits it is nan"
    with pytest.raises(ValueError, match=match):
        toy_problem(cost_model=lambda layers, bitwidths: {"steps": lacking})
    with pytest.raises(ValueError, match=r"bitwidths=\[1, 2, 3, 5, 6, 7, 8\].*interpolate"):
        toy_problem(cost_model=lambda layers, bitwidths: {"steps": lacking})
    negative = np.ones((3, 8))
    negative[1, :2] = -1
    with pytest.raises(
        ValueError, match=r"at 2 bits it is -1.*=\[3, 4, 5, 6, 7, 8\], which"
    ) as found:
        toy_problem(cost_model=lambda layers, bitwidths: {"steps": negative})
    assert "interpolate" not in str(found.value)
    with pytest.raises(ValueError, match="8 bits are always needed"):
        toy_problem(cost_model=lambda layers, bitwidths: {"steps": -np.ones((3, 8))})
    # What is neither chosen nor fixed may be missing.
    toy_problem(cost_model=lambda layers, bitwidths: {"steps": lacking}, bitwidths=[2, 8])
    with pytest.raises(ValueError, match="at 4 bits"):
        toy_problem(
            cost_model=lambda layers, bitwidths: {"steps": lacking},
            bitwidths=[2, 8],
            fixed_bitwidths={"middle": 4},
        )
    with pytest.raises(ValueError, match="cannot rank"):
        toy_problem(cost_model=lambda layers, bitwidths: {"steps": np.zeros((3, 8))})
