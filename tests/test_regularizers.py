import dataclasses
import math

import pytest
import torch

from releq_gym.datasets import load_splits
from releq_gym.networks import Recipe, resolve_network
from releq_gym.quantized import fake_quantizers, load_weights, quantize_network
from releq_gym.quantizers import QUANTIZERS, make_quantizer
from releq_gym.quantizers.base import Quantizer
from releq_gym.registry import UnknownNameError
from releq_gym.training.regularizers import Penalty, sinreq
from releq_gym.training.retrain import retrain
from releq_gym.training.weights import find_weights

GRIDS = [
    make_quantizer(name, per_channel=per_channel)
    for name in ("uniform", "lsq", "lsq_midrise")
    for per_channel in (False, True)
]
EVERY = [make_quantizer(name) for name in ("wrpn", "dorefa", "dorefa_scaled")] + GRIDS
LAYERS = ("conv1", "conv2", "fc1", "fc2")
RECIPE = Recipe(images=1_280, learning_rate=1e-2)

every_quantizer = pytest.mark.parametrize("quantizer", EVERY, ids=str)
every_bitwidth = pytest.mark.parametrize("bitwidth", range(1, 9))


def gaussian(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.4


def squashes(quantizer, bitwidth):
    return quantizer not in GRIDS and quantizer.name != "wrpn" and bitwidth > 1


def half_of(quantizer):
    return quantizer.half if quantizer in GRIDS else 0


def beside_the_levels(quantizer, bitwidth, offset):
    """Two rows of weights, each ``offset`` steps from another level, and their quantizer's state.

    DoReFa's levels follow the largest weight: its last two columns are the outermost levels.
    """
    state = quantizer.init(gaussian(2, 500), bitwidth)
    if squashes(quantizer, bitwidth):
        n, peak = 2**bitwidth - 1, 0.6
        codes = torch.arange(-n, n + 1, 2) + 2 * offset
        codes = torch.cat([codes[codes.abs() < n], torch.tensor([-n, n])])
        return (codes / n * peak).atanh().repeat(2, 1), state
    largest = 2 ** (bitwidth - 1) - 1 + half_of(quantizer)
    codes = torch.arange(-largest, largest + 1) + offset
    if bitwidth == 1:
        codes = torch.tensor([-1.0, 1.0]) + 2 * offset  # whose mean magnitude is 1
    return codes * state.get("step", torch.tensor(1 / max(largest, 1))).expand(2, 1), state


def pull(quantizer, weight, state, bitwidth):
    """Where a step of gradient descent takes each weight, in shares of the most it can."""
    weight = weight.clone().requires_grad_()
    grid = quantizer.grid(weight, state, bitwidth)
    sinreq(grid).backward()
    return -math.pi * weight.grad / grid.step


@every_quantizer
@every_bitwidth
def test_grid_tells_the_level_that_a_weight_is_rounded_to(quantizer, bitwidth):
    weight = gaussian(4, 300)
    state = quantizer.init(weight / 2, bitwidth)
    grid = quantizer.grid(weight, state, bitwidth)
    codes = quantizer.encode(weight, state, bitwidth).codes.int()
    if squashes(quantizer, bitwidth) or half_of(quantizer) or bitwidth == 1:
        codes, levels = (codes + 2**bitwidth - 1) // 2, 2**bitwidth
    else:
        codes, levels = codes + 2 ** (bitwidth - 1) - 1, 2**bitwidth - 1
    assert grid.levels == levels
    assert (grid.position.clamp(0, levels - 1) - codes).abs().max() < 0.5 + 1e-4
    assert not grid.step.requires_grad and (grid.step > 0).all()


@every_quantizer
@every_bitwidth
def test_sinreq_leaves_weights_on_the_levels_alone(quantizer, bitwidth):
    weight, state = beside_the_levels(quantizer, bitwidth, offset=0)
    assert pull(quantizer, weight, state, bitwidth).abs().max() < 1e-3


@every_quantizer
@every_bitwidth
@pytest.mark.parametrize("offset", [-0.49, -0.1, 0.02, 0.3])
def test_sinreq_pulls_each_weight_to_the_nearest_level(quantizer, bitwidth, offset):
    weight, state = beside_the_levels(quantizer, bitwidth, offset)
    moves = pull(quantizer, weight, state, bitwidth)
    if squashes(quantizer, bitwidth):
        assert moves[:, -2:].abs().max() < 1e-3
        assert (moves[:, :-2] * offset < 0).all()
        return
    expected = torch.full_like(moves, -math.sin(2 * math.pi * offset))
    # Outside the outermost level the pull does not fall again.
    outermost = 0 if offset < 0 else -1
    expected[:, outermost] = -math.copysign(math.sin(2 * math.pi * min(abs(offset), 0.25)), offset)
    torch.testing.assert_close(moves, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("quantizer", [make_quantizer("wrpn"), *GRIDS], ids=str)
@every_bitwidth
def test_sinreq_pulls_from_far_outside_to_the_outermost_level(quantizer, bitwidth):
    state = quantizer.init(gaussian(2, 500), bitwidth)
    weight = torch.tensor([[-30.0, 30.0]]).repeat(2, 1)
    if bitwidth == 1 and not state:
        weight = torch.cat([weight, torch.zeros(2, 100)], 1)  # a mean magnitude far below 30
    moves = pull(quantizer, weight, state, bitwidth)[:, :2]
    torch.testing.assert_close(moves, torch.tensor([[1.0, -1.0]]).repeat(2, 1))


def test_sinreq_is_the_squared_distance_near_a_level():
    grid = make_quantizer("wrpn").grid(torch.tensor([1 / 3 + 0.01, -0.02]), {}, 3)
    assert sinreq(grid).item() == pytest.approx(0.01**2 + 0.02**2, rel=2e-2)


def test_learned_steps_are_left_to_the_loss():
    step = torch.tensor(0.1, requires_grad=True)
    grid = make_quantizer("lsq").grid(gaussian(3, 4), {"step": step}, 4)
    assert not sinreq(grid).requires_grad


@pytest.fixture(scope="module")
def digits():
    return load_splits("digits")


@pytest.fixture(scope="module")
def module():
    built = resolve_network("digits").build()
    load_weights(built, find_weights("digits"))
    return built


def train(module, digits, quantizer, recipe, layers=LAYERS, bitwidths=(4, 3, 2, 1)):
    train = digits.train
    arguments = (make_quantizer(quantizer), recipe, train.images, train.labels, 0)
    return retrain(module, layers, bitwidths[: len(layers)], *arguments).module


def distance(module):
    """Mean distance to the levels, in steps, of the layers one after the other."""
    distances = []
    for layer, fake in fake_quantizers(module).items():
        with torch.no_grad():
            weight = module.get_submodule(layer).parametrizations.weight.original
            grid = fake.grid(weight)
            nearest = grid.position.round().clamp(0, grid.levels - 1)
            distances.append((grid.position - nearest).abs().mean().item())
    return distances


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_retraining_with_sinreq_brings_weights_to_their_levels(module, digits, name):
    drawn = dataclasses.replace(RECIPE, regularizer="sinreq", regularizer_weight=1.0)
    plain, ours = (distance(train(module, digits, name, recipe)) for recipe in (RECIPE, drawn))
    assert all(near < far for near, far in zip(ours, plain, strict=True))


def test_regularizer_without_quantized_layers_changes_nothing(module, digits):
    drawn = dataclasses.replace(RECIPE, regularizer="sinreq", regularizer_weight=1.0)
    plain, ours = (train(module, digits, "wrpn", recipe, ()) for recipe in (RECIPE, drawn))
    for left, right in zip(plain.parameters(), ours.parameters(), strict=True):
        assert torch.equal(left, right)


def test_penalty_is_a_sum_over_layers(module):
    quantizer = make_quantizer("wrpn")
    quantized = quantize_network(module, ("fc1", "fc2"), (3, 2), quantizer)
    expected = sum(
        sinreq(quantizer.grid(weight, {}, bitwidth))
        for weight, bitwidth in ((module.fc1.weight, 3), (module.fc2.weight, 2))
    )
    assert torch.allclose(Penalty("sinreq", quantized)(), expected)
    assert not Penalty("none", quantized) and not Penalty("sinreq", module)


@pytest.mark.parametrize("layers", [LAYERS, ()])
def test_misspelt_regularizer_names_the_nearest(module, digits, layers):
    recipe = dataclasses.replace(RECIPE, regularizer="sinrec")
    with pytest.raises(UnknownNameError, match="Did you mean 'sinreq'"):
        train(module, digits, "wrpn", recipe, layers)


def test_quantizer_without_a_grid_says_so(module, digits):
    class Coarse(Quantizer):
        name = "coarse"

        def scaled_codes(self, weight, state, bitwidth):
            return weight.round(), weight.new_ones(())

    recipe = dataclasses.replace(RECIPE, regularizer="sinreq")
    with pytest.raises(ValueError, match="'coarse' does not say where its levels lie"):
        retrain(
            *(module, LAYERS, (4, 4, 4, 4), Coarse(), recipe),
            *(digits.train.images, digits.train.labels, 0),
        )
