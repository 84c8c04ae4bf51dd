import itertools
import math

import pytest
import torch

from releq_gym.quantizers import QUANTIZERS, make_quantizer, sqnr_db
from releq_gym.quantizers.base import Quantizer
from releq_gym.quantizers.uniform import least_squares_step
from releq_gym.registry import UnknownNameError

NAMES = QUANTIZERS.names()
GRIDS = [
    make_quantizer(name, per_channel=per_channel)
    for name in ("uniform", "lsq", "lsq_midrise")
    for per_channel in (False, True)
]
EVERY = [make_quantizer(name) for name in ("wrpn", "dorefa", "dorefa_scaled")] + GRIDS
BITWIDTHS = range(1, 9)


def gaussian(*shape, std=0.3, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def quantize(quantizer, weight, bitwidth, axis=0):
    return quantizer.quantize(weight, quantizer.init(weight, bitwidth, axis), bitwidth)


def error(quantizer, weight, bitwidth):
    return (weight - quantize(quantizer, weight, bitwidth)).square().sum().item()


def gradient(quantizer, weight, state, bitwidth, upstream=None):
    weight = weight.clone().requires_grad_()
    quantized = quantizer.quantize(weight, state, bitwidth)
    quantized.backward(torch.ones_like(weight) if upstream is None else upstream)
    return weight.grad


def test_registry_holds_the_documented_quantizers():
    assert NAMES == ["dorefa", "dorefa_scaled", "lsq", "lsq_midrise", "uniform", "wrpn"]
    assert all(QUANTIZERS[name].name == name for name in NAMES)


def test_unknown_quantizer_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'wrpn'"):
        make_quantizer("wrpm")


def test_unknown_argument_names_what_is_allowed():
    with pytest.raises(ValueError, match="no parameter 'bits'; it takes per_channel"):
        make_quantizer("uniform", bits=3)
    with pytest.raises(ValueError, match="carries its own"):
        make_quantizer(make_quantizer("uniform"), per_channel=True)


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
@pytest.mark.parametrize("bitwidth", [0, 9, -1, 2.5])
def test_bitwidths_outside_one_to_eight_are_refused(quantizer, bitwidth):
    weight = gaussian(4, 5)
    for call in (
        lambda: quantizer.init(weight, bitwidth),
        lambda: quantizer.quantize(weight, {"step": torch.tensor(1.0)}, bitwidth),
        lambda: quantizer.encode(weight, {"step": torch.tensor(1.0)}, bitwidth),
    ):
        with pytest.raises(ValueError, match="whole number from 1 to 8"):
            call()


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
@pytest.mark.parametrize("bitwidth", BITWIDTHS)
def test_codes_decode_to_the_quantized_weight_to_the_bit(quantizer, bitwidth):
    for axis in (0, 1):
        weight = gaussian(6, 7, 3, 3)
        state = quantizer.init(weight, bitwidth, axis)
        encoded = quantizer.encode(weight, state, bitwidth)
        assert torch.equal(encoded.decode(), quantizer.quantize(weight, state, bitwidth))
        wide = quantizer.name in ("dorefa", "dorefa_scaled", "lsq_midrise") and bitwidth == 8
        assert encoded.codes.dtype == (torch.int16 if wide else torch.int8)


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
@pytest.mark.parametrize("bitwidth", BITWIDTHS)
def test_zero_weights_stay_finite_with_finite_gradients(quantizer, bitwidth):
    weight = torch.zeros(3, 4)
    state = quantizer.init(weight, bitwidth)
    assert quantizer.quantize(weight, state, bitwidth).isfinite().all()
    assert gradient(quantizer, weight, state, bitwidth).isfinite().all()
    if quantizer.name != "dorefa":
        assert quantizer.quantize(weight, state, bitwidth).abs().max() < 1e-9


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
def test_one_bit_is_sign_times_mean_magnitude(quantizer):
    weight = torch.tensor([[1.0, -3.0, 0.0, 4.0]])
    assert quantize(quantizer, weight, 1).tolist() == [[2.0, -2.0, 2.0, 2.0]]
    state = quantizer.init(weight, 1)
    upstream = torch.tensor([[1.0, 2.0, 3.0, -4.0]])
    assert torch.allclose(gradient(quantizer, weight, state, 1, upstream), upstream)


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
def test_the_one_bit_scale_follows_the_weights_only_without_a_step(quantizer):
    weight = gaussian(8, 8)
    ratio = quantizer.quantize(2 * weight, quantizer.init(weight, 1), 1) / quantize(
        quantizer, weight, 1
    )
    assert torch.allclose(ratio, torch.full_like(ratio, 1 if quantizer in GRIDS else 2))


@pytest.mark.parametrize("bitwidth", range(2, 9))
def test_wrpn_levels_are_multiples_of_a_fixed_step(bitwidth):
    n = 2 ** (bitwidth - 1) - 1
    levels = quantize(make_quantizer("wrpn"), torch.linspace(-1.5, 1.5, 9001), bitwidth).unique()
    assert torch.allclose(levels, torch.arange(-n, n + 1) / n)


def test_wrpn_by_hand():
    weight = torch.tensor([-1.7, -0.4, 0.0, 0.2, 0.5, 1.0])
    assert quantize(make_quantizer("wrpn"), weight, 2).tolist() == [-1, 0, 0, 0, 0, 1]
    thirds = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0, 3.0]) / 3
    assert torch.allclose(quantize(make_quantizer("wrpn"), weight, 3), thirds)


def test_wrpn_gradient_passes_inside_the_clip_only():
    weight = torch.tensor([-1.2, -0.99, -0.3, 0.0, 0.9, 1.1])
    got = gradient(make_quantizer("wrpn"), weight, {}, 4)
    assert torch.allclose(got, torch.tensor([0.0, 1, 1, 1, 1, 0]))


@pytest.mark.parametrize("bitwidth", range(2, 9))
def test_dorefa_levels_are_odd_fractions_without_zero(bitwidth):
    n = 2**bitwidth - 1
    weight = torch.linspace(-2, 2, 20001)
    levels = quantize(make_quantizer("dorefa"), weight, bitwidth).unique()
    assert torch.allclose(levels, torch.arange(-n, n + 1, 2) / n)
    scaled = quantize(make_quantizer("dorefa_scaled"), weight, bitwidth).unique()
    assert torch.allclose(scaled, 2 * levels)


def test_dorefa_by_hand():
    # tanh is [-0.6, 0.2, 0.6] up to rounding, t = [0, 2/3, 1], so codes [-3, 1, 3] over 3.
    weight = torch.tensor([-0.6, 0.2, 0.6]).atanh()
    thirds = torch.tensor([-3.0, 1.0, 3.0]) / 3
    assert torch.allclose(quantize(make_quantizer("dorefa"), weight, 2), thirds)
    scaled = quantize(make_quantizer("dorefa_scaled"), weight, 2)
    assert torch.allclose(scaled, thirds * math.atanh(0.6))


def test_dorefa_gradient_follows_tanh_and_maximum():
    weight = torch.tensor([0.5, -0.2])
    first, second = math.tanh(0.5), math.tanh(-0.2)
    # The output is [1, second / first] without the rounding.
    expected = [
        -second / first**2 * (1 - first**2),
        (1 - second**2) / first,
    ]
    got = gradient(make_quantizer("dorefa"), weight, {}, 3)
    assert got.tolist() == pytest.approx(expected, rel=1e-5)
    first_part = math.tanh(-0.2) / math.tanh(0.5)
    scaled = gradient(make_quantizer("dorefa_scaled"), weight, {}, 3)
    # times max|w| = 0.5, plus the level sum (1 and -3/7, the nearest to -0.43) by the maximum
    assert abs(first_part + 3 / 7) < 1 / 7
    assert scaled.tolist() == pytest.approx(
        [0.5 * expected[0] + 1 - 3 / 7, 0.5 * expected[1]], rel=1e-5
    )


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
@pytest.mark.parametrize("bitwidth", BITWIDTHS)
def test_fast_gradients_are_those_of_automatic_differentiation(quantizer, bitwidth):
    weight, upstream = gaussian(6, 5, 3, 3, std=0.7).double(), gaussian(6, 5, 3, 3, seed=1).double()
    # A smaller weight's grid leaves some weights outside.
    state = {name: value.double() for name, value in quantizer.init(weight / 2, bitwidth).items()}
    results = []
    for formula in (type(quantizer).quantize, Quantizer.quantize):
        leaf = weight.clone().requires_grad_()
        learned = {name: state[name].clone().requires_grad_() for name in quantizer.learned}
        quantized = formula(quantizer, leaf, state | learned, bitwidth)
        quantized.backward(upstream)
        results.append((quantized, [leaf.grad, *(tensor.grad for tensor in learned.values())]))
    (fast, gradients), (slow, expected) = results
    assert torch.equal(fast, slow)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-9)


def test_dorefa_alone_and_lsq_say_why_they_need_retraining():
    reasons = {name: QUANTIZERS[name].refuses_ptq for name in NAMES}
    assert [name for name in NAMES if reasons[name]] == ["dorefa", "lsq"]
    assert "retrained" in reasons["dorefa"]
    weight = gaussian(2000, std=0.15)
    assert quantize(make_quantizer("dorefa"), weight, 8).std() > 1.5 * weight.std()


@pytest.mark.parametrize("bitwidth", range(2, 9))
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_mid_rise_grid_has_all_levels_and_no_zero(per_channel, bitwidth):
    quantizer = make_quantizer("lsq_midrise", per_channel=per_channel)
    state = quantizer.init(gaussian(3, 1000), bitwidth)
    weight = torch.linspace(-2, 2, 10_000).repeat(3, 1)
    encoded = quantizer.encode(weight, state, bitwidth)
    assert encoded.codes.unique().tolist() == list(range(1 - 2**bitwidth, 2**bitwidth, 2))
    assert torch.equal(encoded.scale, state["step"] / 2)
    quantized = quantizer.quantize(weight, state, bitwidth)
    assert torch.equal(quantizer.quantize(-weight, state, bitwidth), -quantized)
    inside = weight.abs() < (2 ** (bitwidth - 1) * state["step"])
    assert ((weight - quantized).abs() <= 0.5001 * state["step"])[inside].all()


@pytest.mark.parametrize("bitwidth", range(2, 6))
def test_a_mid_rise_grid_fits_gaussian_weights_better(bitwidth):
    weight = gaussian(2, 5000)
    fitted = error(make_quantizer("uniform"), weight, bitwidth)  # first: steps are remembered
    least = least_squares_step(weight.reshape(1, -1), bitwidth, 0.5)
    assert torch.equal(make_quantizer("lsq_midrise").init(weight, bitwidth)["step"], least[0])
    assert error(make_quantizer("lsq_midrise"), weight, bitwidth) < fitted


def test_mid_rise_by_hand():
    quantizer, state = make_quantizer("lsq_midrise"), {"step": torch.tensor(0.5)}
    weight = torch.tensor([-3.0, -0.6, -0.4, 0.0, 0.4, 0.6, 3.0])
    expected = [-0.75, -0.75, -0.25, 0.25, 0.25, 0.75, 0.75]
    assert quantizer.quantize(weight, state, 2).tolist() == expected


@pytest.mark.parametrize("quantizer", [one for one in GRIDS if not one.half], ids=str)
@pytest.mark.parametrize("bitwidth", range(2, 9))
def test_grid_has_symmetric_integer_levels_with_zero(quantizer, bitwidth):
    largest = 2 ** (bitwidth - 1) - 1
    state = quantizer.init(gaussian(3, 1000), bitwidth)
    weight = torch.linspace(-2, 2, 10_001).repeat(3, 1)
    codes = quantizer.encode(weight, state, bitwidth).codes
    assert codes.unique().tolist() == list(range(-largest, largest + 1))
    assert torch.equal(
        quantizer.quantize(-weight, state, bitwidth), -quantizer.quantize(weight, state, bitwidth)
    )


@pytest.mark.parametrize("quantizer", [make_quantizer("wrpn"), *GRIDS], ids=str)
@pytest.mark.parametrize("bitwidth", range(2, 9))
def test_quantizing_twice_changes_nothing(quantizer, bitwidth):
    weight = gaussian(5, 400)
    state = quantizer.init(weight, bitwidth)
    once = quantizer.quantize(weight, state, bitwidth)
    assert torch.equal(quantizer.quantize(once, state, bitwidth), once)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(4, 9), (16, 8, 3, 3), (50, 200)])
def test_error_falls_with_bits(shape, seed):
    weight = gaussian(*shape, seed=seed)
    for quantizer in GRIDS:
        errors = [error(quantizer, weight, bitwidth) for bitwidth in BITWIDTHS]
        assert all(more > fewer for more, fewer in itertools.pairwise(errors))
    errors = [error(make_quantizer("wrpn"), weight, bitwidth) for bitwidth in range(3, 9)]
    assert all(more > fewer for more, fewer in itertools.pairwise(errors))


@pytest.mark.parametrize("bitwidth", range(2, 9))
@pytest.mark.parametrize("tail", ["normal", "laplace", "outlier", "few"])
def test_uniform_step_is_close_to_the_best_there_is(bitwidth, tail):
    weight = gaussian(1, 1500)
    if tail == "laplace":
        weight = weight.sign() * weight.abs() ** 2
    if tail == "outlier":
        weight[0, 0] = 15.0 * weight.std()
    if tail == "few":
        weight = weight[:, :25]
    largest = 2 ** (bitwidth - 1) - 1
    candidates = weight.abs().max() / largest * torch.linspace(0.02, 1.05, 1500)[:, None]
    codes = (weight / candidates).round().clamp(-largest, largest)
    best = (weight - codes * candidates).square().sum(1).min().item()
    step = least_squares_step(weight, bitwidth).item()
    codes = (weight / step).round().clamp(-largest, largest)
    assert (weight - codes * step).square().sum().item() <= 1.01 * best


def tailed(tail, *shape):
    """Weights of unit spread; an outlier, in standard deviations, opens each row."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(*shape, generator=generator)
    if tail == "laplace":
        return weight.sign() * torch.empty(*shape).exponential_(generator=generator)
    if tail == "student":
        return weight / torch.randn(3, *shape, generator=generator).square().mean(0).sqrt()
    if tail != "normal":
        weight[:, 0] = tail
    return weight


def row_errors(weight, step, bitwidth, half=0.0):
    """Squared error of each row on the grid with that row's step."""
    largest, step = 2 ** (bitwidth - 1) - 1 + half, step.double()[:, None]
    if bitwidth == 1:
        return (weight.double().abs() - step).square().sum(1)
    codes = ((weight / step - half).round() + half).clamp(-largest, largest)
    return (weight - codes * step).square().sum(1)


def least_mid_rise_errors(weight, bitwidth):
    """As `least_errors`, all levels half a step away from the multiples of the step."""
    largest = 2 ** (bitwidth - 1) - 0.5
    rows = weight.abs().double()
    least = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    for factor in torch.logspace(-2.5, 0.3, 600, dtype=torch.float64):
        codes = ((rows / (factor * rows.amax(1, True) / largest)).floor() + 0.5).clamp(max=largest)
        refitted = (rows * codes).sum(1, True) / codes.square().sum(1, True)
        least = torch.minimum(least, (rows - codes * refitted).square().sum(1))
    return least


def least_errors(weight, bitwidth):
    """The least squared error of each row, by brute force: 600 steps, each refitted, exactly."""
    largest = 2 ** (bitwidth - 1) - 1
    least = []
    for row in weight.abs().double().sort(1)[0]:
        sums = torch.nn.functional.pad(row.cumsum(0), (1, 0))
        steps = torch.logspace(-2.5, 0.3, 600, dtype=torch.float64) * row[-1] / largest
        below = torch.searchsorted(row, steps[:, None] * (torch.arange(largest) + 0.5))
        product = (sums[-1] - sums[below]).sum(1)
        energy = ((len(row) - below) * (2 * torch.arange(largest) + 1)).sum(1)
        least.append(row.square().sum() - (product**2 / energy.clamp_min(1)).max())
    return torch.stack(least)


@pytest.mark.parametrize("shape", [(1, 200_003), (1, 25), (20, 25), (12, 300), (4, 3000)], ids=str)
@pytest.mark.parametrize("tail", ["normal", "laplace", "student", 20.0, 60.0])
def test_uniform_error_is_least_and_falls_with_bits_whatever_the_tail(tail, shape):
    weight = tailed(tail, *shape)
    fewer = torch.full(shape[:1], torch.inf)
    for bitwidth in BITWIDTHS:
        more = row_errors(weight, least_squares_step(weight, bitwidth), bitwidth)
        assert (more < fewer * (1 + 1e-6)).all()
        if bitwidth > 1:
            assert (more <= 1.01 * least_errors(weight, bitwidth)).all()
        fewer = more


@pytest.mark.parametrize("shape", [(1, 20_003), (1, 25), (12, 300)], ids=str)
@pytest.mark.parametrize("tail", ["normal", "laplace", "student", 20.0])
def test_mid_rise_error_is_least_and_falls_with_bits_whatever_the_tail(tail, shape):
    weight = tailed(tail, *shape)
    fewer = torch.full(shape[:1], torch.inf)
    for bitwidth in BITWIDTHS:
        more = row_errors(weight, least_squares_step(weight, bitwidth, 0.5), bitwidth, 0.5)
        assert (more < fewer * (1 + 1e-6)).all()
        if bitwidth > 1:
            assert (more <= 1.01 * least_mid_rise_errors(weight, bitwidth)).all()
        fewer = more


@pytest.mark.parametrize("bitwidth", [4, 8, 9])
def test_uniform_error_is_least_far_from_zero(bitwidth):
    # The error is a millionth of the squares whose difference it is.
    weight = 3 + tailed("normal", 3, 4000).clamp(-3, 3) / 3
    error = row_errors(weight, least_squares_step(weight, bitwidth), bitwidth)
    assert (error <= 1.01 * least_errors(weight, bitwidth)).all()


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_states_of_several_bitwidths_are_those_of_each(quantizer, axis):
    weight = gaussian(5, 6, 3)
    states = quantizer.init_each(weight, (8, 2, 1), axis)
    assert list(states) == [8, 2, 1]
    for bitwidth, state in states.items():
        alone = quantizer.init(weight, bitwidth, axis)
        assert state.keys() == alone.keys()
        assert all(torch.equal(state[name], alone[name]) for name in state)
    with pytest.raises(ValueError, match="whole number from 1 to 8"):
        quantizer.init_each(weight, (4, 9), axis)


def test_uniform_recovers_a_grid_exactly():
    weight = torch.randint(-7, 8, (6, 50), generator=torch.Generator().manual_seed(0)) * 0.03
    assert torch.allclose(quantize(make_quantizer("uniform"), weight, 4), weight)


@pytest.mark.parametrize("name", ["uniform", "lsq", "lsq_midrise"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bitwidth", BITWIDTHS)
def test_per_channel_treats_each_output_channel_alone(name, axis, bitwidth):
    weight = gaussian(3, 4, 5, 5)
    weight *= torch.tensor([0.01, 1.0, 3.0, 50.0])[: weight.shape[axis]].reshape(
        [-1 if dim == axis else 1 for dim in range(4)]
    )
    whole = quantize(make_quantizer(name, per_channel=True), weight, bitwidth, axis)
    state = make_quantizer(name, per_channel=True).init(weight, bitwidth, axis)
    assert state["step"].shape == ((3, 1, 1, 1) if axis == 0 else (1, 4, 1, 1))
    for channel in range(weight.shape[axis]):
        alone = quantize(make_quantizer(name), weight.select(axis, channel), bitwidth)
        assert torch.allclose(whole.select(axis, channel), alone, rtol=1e-5)


def test_per_layer_step_is_a_scalar():
    assert make_quantizer("uniform").init(gaussian(3, 4), 4)["step"].shape == ()


def test_uniform_gradient_passes_inside_the_grid_only():
    weight = torch.tensor([-3.5, -2.9, 0.2, 2.9, 3.1])
    got = gradient(make_quantizer("uniform"), weight, {"step": torch.tensor(1.0)}, 3)
    assert got.tolist() == [0, 1, 1, 1, 0]


def test_lsq_gradients_are_those_of_the_paper():
    weight = torch.tensor([[-2.0, -0.3, 0.2, 0.7]], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    make_quantizer("lsq").quantize(weight, {"step": step}, 3).backward(upstream)
    # w / step = [-4, -0.6, 0.4, 1.4]; Q = 3, N = 4.
    assert weight.grad.tolist() == [[0, 2, 3, 4]]
    inside = 1 * -3 + 2 * (-1 + 0.6) + 3 * (0 - 0.4) + 4 * (1 - 1.4)
    assert step.grad.item() == pytest.approx(inside / math.sqrt(4 * 3))


def test_mid_rise_gradients_by_hand():
    weight = torch.tensor([[-2.0, -0.3, 0.2, 0.7]], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    make_quantizer("lsq_midrise").quantize(weight, {"step": step}, 2).backward(upstream)
    # w / step = [-4, -0.6, 0.4, 1.4]; the largest level is 1.5 steps, N = 4.
    assert weight.grad.tolist() == [[0, 2, 3, 4]]
    inside = 1 * -1.5 + 2 * (-0.5 + 0.6) + 3 * (0.5 - 0.4) + 4 * (1.5 - 1.4)
    assert step.grad.item() == pytest.approx(inside / math.sqrt(4 * 1.5))


def test_lsq_step_gradient_is_per_channel_and_scaled_by_its_own_weights():
    weight = torch.tensor([[-2.0, 0.3], [0.2, 0.7]])
    step = torch.tensor([[0.5], [0.5]], requires_grad=True)
    make_quantizer("lsq", per_channel=True).quantize(weight, {"step": step}, 2).sum().backward()
    # w / step = [[-4, 0.6], [0.4, 1.4]]; Q = 1, N = 2.
    expected = [(-1 + (1 - 0.6)) / math.sqrt(2), (-0.4 + 1) / math.sqrt(2)]
    assert step.grad.flatten().tolist() == pytest.approx(expected)


def test_lsq_one_bit_step_gradient_is_the_sign():
    step = torch.tensor(0.5, requires_grad=True)
    weight = torch.tensor([-2.0, 0.3, 0.2, 0.7])
    make_quantizer("lsq").quantize(weight, {"step": step}, 1).sum().backward()
    assert step.grad.item() == pytest.approx((-1 + 1 + 1 + 1) / math.sqrt(4))


@pytest.mark.parametrize("bitwidth", BITWIDTHS)
def test_lsq_without_retraining_is_uniform(bitwidth):
    weight = gaussian(4, 30)
    ours = quantize(make_quantizer("lsq"), weight, bitwidth)
    assert torch.equal(ours, quantize(make_quantizer("uniform"), weight, bitwidth))


def test_lsq_survives_a_step_trained_through_zero():
    weight = gaussian(4, 30)
    for step in (0.0, -0.1):
        quantized = make_quantizer("lsq").quantize(weight, {"step": torch.tensor(step)}, 4)
        assert quantized.isfinite().all()


@pytest.mark.parametrize("quantizer", [one for one in GRIDS if one.learned], ids=str)
@pytest.mark.parametrize("bitwidth", BITWIDTHS)
def test_the_step_of_zero_weights_learns(quantizer, bitwidth):
    step = quantizer.init(torch.zeros(3, 4), bitwidth)["step"].requires_grad_()
    assert (step > 0).all()
    quantizer.quantize(torch.full((3, 4), 0.1), {"step": step}, bitwidth).sum().backward()
    assert (step.grad > 0).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_steps_that_are_trained_leave_those_of_the_next_search_alone(per_channel):
    weight, quantizer = gaussian(4, 30), make_quantizer("lsq", per_channel=per_channel)
    first = quantizer.init(weight, 4)["step"]
    known = first.clone()
    first.mul_(2)
    assert torch.equal(quantizer.init(weight, 4)["step"], known)
    # More bits, and other weights, are fitted by themselves.
    assert set(quantizer.init_each(weight, range(1, 9))) == set(range(1, 9))
    assert not torch.equal(quantizer.init(weight * 2, 4)["step"], known)


def test_only_steps_of_lsq_are_learned():
    assert {name: QUANTIZERS[name].learned for name in NAMES if QUANTIZERS[name].learned} == {
        "lsq": ("step",),
        "lsq_midrise": ("step",),
    }


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
def test_sqnr_is_finite_and_in_range(quantizer):
    for weight in (gaussian(5, 8), torch.zeros(3, 3), gaussian(5, 8, std=1e-20)):
        ratios = sqnr_db(weight, quantizer)
        assert len(ratios) == 8
        assert all(-20 <= ratio <= 80 for ratio in ratios)


def test_sqnr_by_hand():
    wrpn = make_quantizer("wrpn")
    assert sqnr_db(torch.tensor([1.0, -1.0]), wrpn) == (80.0,) * 8
    # 2 bits round 0.9 to 1 and 0.3 to 0: 0.90 over 0.10.
    assert sqnr_db(torch.tensor([0.9, 0.3]), wrpn)[1] == pytest.approx(10 * math.log10(9), rel=1e-6)
    # Six decibels a bit for a fitted step.
    ratios = sqnr_db(gaussian(20_000), make_quantizer("uniform"))
    assert all(5 < b - a < 8 for a, b in itertools.pairwise(ratios[1:]))
