"""Activations of 8 bits: the grid, its gradient, and what becomes of a network with it."""

import copy

import pytest
import torch
from torch import nn

from releq_gym.activations import (
    SAMPLE,
    QuantizeActivation,
    activation_bitwidth,
    with_quantized_activations,
)
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.networks import Recipe
from releq_gym.quantized import bake, load_quantized, quantize_network, save_quantized
from releq_gym.quantizers import make_quantizer

LAYERS = ["0", "3"]


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def some_images(count=40):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("offset", "levels"), [(0.0, 255), (1.0, 256)])
def test_inputs_lie_on_at_most_256_equidistant_levels(offset, levels):
    inputs = torch.linspace(-1, 1, 4001) + offset
    quantizer = QuantizeActivation.fit(inputs)
    rounded = quantizer(inputs)
    codes = rounded / quantizer.step
    assert (codes - codes.round()).abs().max() < 1e-3
    assert 200 < len(codes.round().unique()) <= levels
    assert (rounded - inputs).abs().max() <= 2 * quantizer.step  # the ends are clipped


def test_the_step_has_less_error_than_its_neighbours():
    inputs = torch.randn(20_000, generator=torch.Generator().manual_seed(2)).relu()
    quantizer = QuantizeActivation.fit(inputs)
    assert quantizer.lowest == 0 and quantizer.highest == 255

    def error(factor):
        other = copy.deepcopy(quantizer)
        other.step *= factor
        return float((other(inputs) - inputs).square().sum())

    assert error(1.0) < min(error(0.9), error(1.1))


def test_padding_does_not_hide_what_a_step_is_fitted_to():
    inputs = torch.rand(64, 64, 16, 4, generator=torch.Generator().manual_seed(0))
    inputs[..., 0] = 0
    assert inputs.numel() == 4 * SAMPLE  # every fourth one is a zero
    quantizer = QuantizeActivation.fit(inputs)
    assert 0.9 < quantizer.step * quantizer.highest < 1.1


def test_the_gradient_passes_inside_and_stops_outside():
    quantizer = QuantizeActivation(step=0.1, signed=False)
    inputs = torch.tensor([-1.0, 0.04, 20.0, 30.0], requires_grad=True)
    quantizer(inputs).sum().backward()
    assert inputs.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_only_the_inputs_of_the_named_layers_are_rounded():
    module, images = small_net(), some_images()
    before = copy.deepcopy(module.state_dict())
    quantized = with_quantized_activations(module, LAYERS, images)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    first, last = quantized[0].input_quantizer, quantized[3].input_quantizer
    assert first.lowest == -127 and last.lowest == 0  # behind a ReLU
    by_hand = module[2](module[1](module[0](first(images))))
    assert torch.equal(quantized(images), module[3](last(by_hand)))
    assert not torch.equal(quantized(images), module(images))


def test_a_layer_that_is_called_by_keyword_is_rounded_too():
    class ByKeyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = small_net()[0]

        def forward(self, images):
            return self.conv(input=images)

    module, images = ByKeyword(), some_images()
    quantized = with_quantized_activations(module, ["conv"], images)
    assert torch.equal(quantized(images), module(quantized.conv.input_quantizer(images)))
    assert not torch.equal(quantized(images), module(images))


def test_a_file_keeps_the_rounding_of_activations(tmp_path):
    module, images = small_net(), some_images()
    activations = with_quantized_activations(module, LAYERS, images)
    quantized = quantize_network(activations, LAYERS, [4, 2], make_quantizer("uniform"))
    save_quantized(tmp_path / "net.safetensors", quantized, {})
    loaded = load_quantized(tmp_path / "net.safetensors", small_net)
    assert activation_bitwidth(loaded, LAYERS) == 8
    assert torch.equal(loaded(images), bake(quantized)(images))
    with pytest.raises(ValueError, match="does not fit Linear, which has no layer"):
        load_quantized(tmp_path / "net.safetensors", torch.nn.Linear(2, 2))
    plain = quantize_network(module, LAYERS, [4, 2], make_quantizer("uniform"))
    save_quantized(tmp_path / "plain.safetensors", plain, {})
    assert (
        activation_bitwidth(load_quantized(tmp_path / "plain.safetensors", small_net), LAYERS) == 32
    )


def test_layers_are_all_rounded_or_none():
    quantized = with_quantized_activations(small_net(), LAYERS[:1], some_images())
    with pytest.raises(ValueError, match="on all of them, or on none"):
        activation_bitwidth(quantized, LAYERS)


@pytest.mark.parametrize("recipe", ["ptq", Recipe(images=256, learning_rate=1e-2)])
def test_live_measures_with_activations_of_8_bits(recipe):
    options = {"recipe": recipe, "quantizer": "uniform", "repeats": 1, "memo": False}
    full, rounded = (LiveEvaluator("digits", activation_bitwidth=b, **options) for b in (32, 8))
    assert " a8 " in rounded.name and " a8 " not in full.name
    assert rounded.full_precision_accuracy == full.full_precision_accuracy
    left, right = (one.train((8, 8, 8, 8), 0, recipe) for one in (full, rounded))
    images = rounded.normalise(rounded.splits.search.images)
    assert not torch.equal(left(images), right(images))
    assert rounded.evaluate((8, 8, 8, 8), 0).accuracy == pytest.approx(
        full.full_precision_accuracy, abs=0.02
    )
    right_now = (bake(right)(images).argmax(1) == rounded.splits.search.labels).sum()
    assert abs(int(right_now) - round(450 * rounded.evaluate((8, 8, 8, 8), 0).accuracy)) <= 1


def test_layers_that_share_a_weight_are_refused():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    with pytest.raises(ValueError, match="Other layers share the weight of '0'"):
        with_quantized_activations(module, ["0"], torch.rand(8, 4))
