import copy
import dataclasses
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.networks import NETWORKS
from releq_gym.quantized import (
    bake,
    fake_quantizers,
    load_quantized,
    load_weights,
    quantize_network,
    read_header,
    save_quantized,
    save_weights,
)
from releq_gym.quantizers import QUANTIZERS, make_quantizer
from releq_gym.quantizers.uniform import Uniform
from releq_gym.registry import UnknownNameError

DIGITS_LAYERS = ["conv1", "conv2", "fc1", "fc2"]


class Mixed(nn.Module):
    """A transposed and a grouped convolution, batch norm, a fully connected layer."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        features = torch.relu(self.grouped(self.norm(self.up(images))))
        return self.head(features.mean((2, 3)))


MIXED_LAYERS = ["up", "grouped", "head"]


class Tied(nn.Module):
    """Two layers share a weight, an embedding and the head another; one layer has two names."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(torch.rand(5, 6) - 0.5, freeze=False)
        self.first, self.again, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 5)
        self.again.weight = self.first.weight
        self.head.weight = self.embed.weight
        self.once = self.alias = nn.Linear(6, 6)

    def forward(self, features):
        features = torch.relu(self.first(features)) + self.embed.weight[3]
        return self.head(self.once(self.again(features)))


TIED_LAYERS = ["first", "once", "head"]


def quantizer_of(name):
    return (
        make_quantizer(name, per_channel=True)
        if name in ("uniform", "lsq", "lsq_midrise")
        else make_quantizer(name)
    )


@pytest.fixture
def images():
    return torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def digits():
    torch.manual_seed(0)
    return NETWORKS["digits"].build()


def train_a_little(module, images):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    module.train()
    for _ in range(3):
        optimizer.zero_grad()
        module(images).square().mean().backward()
        optimizer.step()
    return module


def test_named_layers_are_quantized_and_the_rest_is_untouched(images):
    module = Mixed()
    before = copy.deepcopy(module.state_dict())
    quantized = quantize_network(module, ["up", "head"], [3, 2], make_quantizer("uniform"))
    assert quantized.up.weight.unique().numel() <= 7
    assert quantized.head.weight.unique().numel() <= 3
    assert torch.equal(quantized.grouped.weight, module.grouped.weight)
    assert torch.equal(quantized.up.bias, module.up.bias)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert type(module.up) is nn.ConvTranspose2d
    quantized(images)


def test_per_channel_steps_lie_along_the_output_axis():
    quantizer = make_quantizer("uniform", per_channel=True)
    quantized = quantize_network(Mixed(), MIXED_LAYERS, [4, 4, 4], quantizer)
    shapes = [
        tuple(quantized.get_submodule(name).parametrizations.weight[0].step.shape)
        for name in MIXED_LAYERS
    ]
    assert shapes == [(1, 4, 1, 1), (4, 1, 1, 1), (3, 1)]


def test_learned_tensors_are_parameters_and_fixed_ones_buffers():
    for name, parameters, buffers in (("lsq", 1, 0), ("uniform", 0, 1), ("wrpn", 0, 0)):
        quantized = quantize_network(Mixed(), ["head"], [4], make_quantizer(name))
        fake = quantized.head.parametrizations.weight[0]
        assert len(list(fake.parameters())) == parameters
        assert len(list(fake.buffers())) == buffers


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_retraining_moves_the_weights_underneath_and_learned_steps_only(name, images):
    module = Mixed()
    quantized = quantize_network(module, MIXED_LAYERS, [4, 5, 1], quantizer_of(name))
    before = copy.deepcopy(quantized.state_dict())
    train_a_little(quantized, images)
    for key, tensor in quantized.state_dict().items():
        if key.endswith("original"):
            assert not torch.equal(tensor, before[key]), key
        if key.endswith(".step"):
            assert torch.equal(tensor, before[key]) == (name == "uniform"), key
    assert torch.equal(module.up.weight, before["up.parametrizations.weight.original"])


@pytest.mark.parametrize("name", QUANTIZERS.names())
def test_copies_and_baked_networks_compute_the_same(name, images):
    quantized = quantize_network(Mixed(), MIXED_LAYERS, [2, 8, 1], quantizer_of(name))
    train_a_little(quantized, images).eval()
    baked, copied = bake(quantized), copy.deepcopy(quantized)
    assert type(baked.up) is nn.ConvTranspose2d
    assert not any("parametrizations" in key for key in baked.state_dict())
    assert torch.equal(baked(images), quantized(images))
    assert torch.equal(baked(images), copied(images))
    assert set(baked.state_dict()) == set(Mixed().state_dict())
    train_a_little(copied, images)
    assert torch.equal(baked(images), quantized(images))


def test_baked_networks_can_be_exported():
    evaluator = LiveEvaluator("digits", quantizer="uniform", recipe="ptq", activation_bitwidth=8)
    baked = bake(evaluator.train([4, 3, 2, 8], 0, "ptq")).eval()
    images = torch.rand(2, *evaluator.splits.search.images.shape[1:])
    exported = torch.export.export(baked, (images,)).module()
    assert torch.equal(exported(images), baked(images))


@pytest.mark.parametrize("name", QUANTIZERS.names())
@pytest.mark.parametrize("bitwidth", [1, 3])
def test_shared_weights_stay_shared_through_quantization_and_export(name, bitwidth, tmp_path):
    torch.manual_seed(0)
    module, features = Tied(), torch.rand(4, 6)
    quantized = quantize_network(module, TIED_LAYERS, [bitwidth, 8, 4], quantizer_of(name))
    assert list(fake_quantizers(quantized)) == ["first", "head", "once"]
    train_a_little(quantized, features).eval()
    original = quantized.first.parametrizations.weight.original
    assert original.isfinite().all() and not torch.equal(original, module.first.weight)
    for one in (quantized, copy.deepcopy(quantized), bake(quantized)):
        assert torch.equal(one.first.weight, one.again.weight)
        assert torch.equal(one.head.weight, one.embed.weight)
        assert torch.equal(one(features), quantized(features))

    baked = bake(quantized)
    assert baked.again.weight is baked.first.weight and baked.embed.weight is baked.head.weight
    save_quantized(tmp_path / "net.safetensors", quantized, {})
    loaded = load_quantized(tmp_path / "net.safetensors", net=Tied)
    assert torch.equal(loaded(features), baked(features))
    assert loaded.again.weight is loaded.first.weight
    stored = load_file(tmp_path / "net.safetensors")
    assert {key.split(".")[0] for key in stored if "weight" in key} == {"first", "head", "once"}


def test_one_weight_has_one_bitwidth():
    with pytest.raises(ValueError, match=r"'again' shares its weight.*leave one of them out"):
        quantize_network(Tied(), ["first", "again"], [4, 4], make_quantizer("wrpn"))


def test_a_checkpoint_may_hold_a_shared_weight_once(tmp_path):
    module, other = Tied(), Tied()
    save_model(module, tmp_path / "net.safetensors")
    assert len(load_file(tmp_path / "net.safetensors")) < len(module.state_dict())
    load_weights(other, tmp_path / "net.safetensors")
    features = torch.randn(3, 6)
    assert torch.equal(other(features), module(features))


def test_channels_of_a_grouped_transposed_convolution_cannot_have_a_step_each():
    module = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2))
    with pytest.raises(ValueError, match=r"'0' is a transposed .* 2 channel groups.*: False"):
        quantize_network(module, ["0"], [4], make_quantizer("lsq", per_channel=True))
    quantized = quantize_network(module, ["0"], [2], make_quantizer("uniform"))
    assert quantized[0].weight.unique().numel() == 3


@pytest.mark.parametrize("name", QUANTIZERS.names())
@pytest.mark.parametrize("bitwidth", [1, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_quantized_weights_keep_the_memory_layout(name, bitwidth, channels):
    module = nn.Sequential(nn.Conv2d(channels, 4, 5)).to(memory_format=torch.channels_last)
    quantized = quantize_network(module, ["0"], [bitwidth], quantizer_of(name))
    strides = module[0].weight.stride()
    assert quantized[0].weight.stride() == bake(quantized)[0].weight.stride() == strides
    quantized[0].weight.sum().backward()
    assert quantized[0].parametrizations.weight.original.grad is not None


def test_layers_and_bitwidths_that_do_not_fit_are_refused(digits):
    wrpn = make_quantizer("wrpn")
    with pytest.raises(ValueError, match="2 layers need as many bitwidths"):
        quantize_network(digits, ["conv1", "conv2"], [4], wrpn)
    with pytest.raises(UnknownNameError, match="Did you mean 'conv1'"):
        quantize_network(digits, ["conv_1"], [4], wrpn)
    for bitwidth in (9, 4.0, True):
        with pytest.raises(ValueError, match=f"whole number from 1 to 8; got {bitwidth}"):
            quantize_network(digits, ["conv1"], [bitwidth], wrpn)
    with pytest.raises(ValueError, match="itself the layer, so that this has no name; wrap it"):
        quantize_network(nn.Linear(2, 2), [""], [4], wrpn)
    with pytest.raises(ValueError, match="parametrized already"):
        quantize_network(quantize_network(digits, ["conv1"], [4], wrpn), ["conv1"], [4], wrpn)
    normed = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="a weight norm; take that off first"):
        quantize_network(normed, ["0"], [4], wrpn)


@pytest.mark.parametrize("name", QUANTIZERS.names())
@pytest.mark.parametrize("bitwidth", range(1, 9))
def test_export_gives_the_same_logits_to_the_bit(name, bitwidth, images, tmp_path):
    quantized = quantize_network(Mixed(), MIXED_LAYERS, [bitwidth, 8, 3], quantizer_of(name))
    train_a_little(quantized, images)
    path = tmp_path / "folder" / "net.safetensors"
    save_quantized(path, quantized, {"net": "mixed"})
    loaded = load_quantized(path, net=Mixed)
    assert not loaded.training
    assert torch.equal(loaded(images), bake(quantized).eval()(images))
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_export_stores_integers_and_what_was_done(digits, tmp_path):
    path = tmp_path / "digits.safetensors"
    quantizer = make_quantizer("uniform", per_channel=True)
    quantized = quantize_network(digits, DIGITS_LAYERS, [8, 4, 2, 1], quantizer)
    save_quantized(path, quantized, {"net": "digits", "accuracy": 0.97})
    assert read_header(path) == {
        "format": "releq-quantized/1",
        "net": "digits",
        "accuracy": 0.97,
        "bitwidths": {"conv1": 8, "conv2": 4, "fc1": 2, "fc2": 1},
        "quantizer": {"name": "uniform", "per_channel": True},
        "activation_bitwidth": 32,
    }
    tensors = load_file(path)
    assert tensors["fc1.weight.codes"].dtype == torch.int8
    assert tensors["fc1.weight.codes"].unique().tolist() == [-1, 0, 1]
    assert tensors["fc1.weight.scale"].shape == (32, 1)
    assert torch.equal(tensors["fc1.bias"], digits.fc1.bias)
    image = torch.rand(2, 1, 8, 8)
    assert torch.equal(load_quantized(path)(image), quantized(image))


def test_export_refuses_what_it_cannot_describe(digits, tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(ValueError, match="call quantize_network first"):
        save_quantized(path, digits, {})
    quantized = quantize_network(digits, ["fc1"], [4], make_quantizer("wrpn"))
    with pytest.raises(ValueError, match="meta may not hold bitwidths"):
        save_quantized(path, quantized, {"bitwidths": [4]})
    both = quantize_network(quantized, ["fc2"], [4], make_quantizer("uniform"))
    with pytest.raises(ValueError, match="one quantizer"):
        save_quantized(path, both, {})
    assert not path.exists()


def test_a_file_cannot_name_code_to_import(tmp_path):
    path = tmp_path / "net.safetensors"
    quantized = quantize_network(Mixed(), ["head"], [4], make_quantizer("wrpn"))
    for meta in ({}, {"net": "os:getcwd"}):
        save_quantized(path, quantized, meta)
        with pytest.raises(ValueError, match=r"not registered, .* pass the module or its factory"):
            load_quantized(path)


@pytest.mark.parametrize(
    ("header", "tensors", "sentence"),
    [
        ("{", {}, "its header is not JSON"),
        ("[]", {}, "its header is no JSON object"),
        ({"bitwidths": None}, {}, "every quantized layer a bitwidth from 1 to 8"),
        ({"bitwidths": {"fc1": 9}}, {}, "every quantized layer a bitwidth from 1 to 8"),
        ({"bitwidths": {"fc1": "4"}}, {}, "every quantized layer a bitwidth from 1 to 8"),
        ({}, {"fc1.weight.codes": None}, r"it lacks 'fc1\.weight\.codes'"),
        ({}, {"fc1.weight.scale": None}, r"it lacks 'fc1\.weight\.scale'"),
        ({}, {"fc1.weight.codes": torch.zeros(32, 144)}, "codes of torch.float32"),
        ({}, {"fc1.weight.scale": torch.ones(7)}, "a scale that does not fit its codes"),
        (
            {},
            {"fc1.weight.codes": torch.arange(32 * 144).remainder(17).to(torch.int8).view(32, 144)},
            "'fc1' has 17 different codes, but 4 bits",
        ),
    ],
)
def test_damaged_export_is_a_sentence_that_names_the_file(
    digits, tmp_path, header, tensors, sentence
):
    path = tmp_path / "net.safetensors"
    save_quantized(
        path, quantize_network(digits, ["fc1"], [4], make_quantizer("wrpn")), {"net": "digits"}
    )
    text = header if isinstance(header, str) else json.dumps(read_header(path) | header)
    changed = {k: v for k, v in (load_file(path) | tensors).items() if v is not None}
    save_file(changed, path, {"releq": text})
    with pytest.raises(ValueError, match=rf"net\.safetensors is damaged: .*{sentence}"):
        load_quantized(path)


def test_full_precision_checkpoint_is_no_quantized_network(digits, tmp_path):
    path = tmp_path / "digits.safetensors"
    save_weights(digits, path)
    with pytest.raises(ValueError, match="is no quantized network"):
        load_quantized(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_survive_a_checkpoint(dtype, digits, tmp_path):
    path = tmp_path / "digits.safetensors"
    save_weights(digits, path, dtype)
    assert load_file(path)["conv1.weight"].dtype == dtype
    assert load_file(path)["conv1.bias"].dtype == torch.float32
    other = NETWORKS["digits"].build()
    load_weights(other, path)
    for name, tensor in digits.state_dict().items():
        expected = tensor.to(dtype).float() if tensor.dim() > 1 else tensor
        assert other.state_dict()[name].dtype == torch.float32
        assert torch.equal(other.state_dict()[name], expected)


def test_batch_norm_counters_and_tied_weights_survive_a_checkpoint(images, tmp_path):
    module, other = Mixed(), Mixed()
    for net in (module, other):
        net.tied = nn.Linear(4, 3)
        net.tied.weight = net.head.weight
    module(images)
    save_weights(module, tmp_path / "net.safetensors", torch.float32)
    load_weights(other, tmp_path / "net.safetensors")
    assert other.norm.num_batches_tracked.item() == 1
    assert torch.equal(module.eval()(images), other.eval()(images))


class Masked(nn.Module):
    """With a mask, and a state that is no tensor."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("mask", torch.tensor([[0.0, -torch.inf, -1e9, 0.0]]))

    def forward(self, inputs):
        return self.fc(inputs) + self.mask

    def get_extra_state(self):
        return {"step": 1}

    def set_extra_state(self, state):
        raise AssertionError("no file holds it")


def test_masks_are_kept_as_they_are_and_extra_state_is_left_out(tmp_path):
    module, path = Masked(), tmp_path / "masked.safetensors"
    save_weights(module, path)
    load_weights(other := Masked(), path)
    assert torch.equal(other.mask, module.mask)
    quantized = quantize_network(module, ["fc"], [8], make_quantizer("uniform"))
    save_quantized(path, quantized, {})
    before = torch.get_rng_state()
    loaded = load_quantized(path, Masked)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(loaded.mask, module.mask)
    module.fc.weight.data[0, 0] = torch.inf
    save_weights(module, path)
    with pytest.raises(ValueError, match=r"NaN or infinity in fc\.weight"):
        load_weights(Masked(), path)


@pytest.mark.parametrize("load", [lambda p: load_weights(nn.Linear(2, 2), p), load_quantized])
def test_missing_files_and_pickles_are_refused(load, tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        load(tmp_path / "absent.safetensors")

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    torch.save({"weight": Trap()}, tmp_path / "net.pt")
    (tmp_path / "net.safetensors").write_bytes(pickle.dumps(Trap()))
    for name in ("net.pt", "net.safetensors"):
        with pytest.raises(ValueError, match=r"not a safetensors file.*never opened.*save_file"):
            load(tmp_path / name)


def test_a_file_that_was_not_written_to_its_end_is_told(tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(nn.Linear(100, 3), path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load_weights(nn.Linear(100, 3), path)


def test_of_many_names_that_do_not_fit_five_are_listed(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({f"extra{number}": torch.ones(1) for number in range(9)}, path)
    with pytest.raises(ValueError, match=r"extra3, extra4 and 4 more in excess"):
        load_weights(nn.Linear(2, 2), path)


def test_checkpoints_that_do_not_fit_are_explained(tmp_path):
    path = tmp_path / "net.safetensors"
    good = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    for tensors, message in (
        ({"weight": good["weight"]}, "lacks bias and has nothing in excess"),
        ({**good, "extra": torch.ones(1)}, "lacks nothing and has extra in excess"),
        (
            {**good, "bias": torch.ones(3)},
            r"bias has the shape \(3,\) where .* has \(2,\)",
        ),
        ({**good, "weight": torch.full((2, 2), torch.nan)}, "NaN or infinity in weight"),
    ):
        save_file(tensors, path)
        with pytest.raises(ValueError, match=message):
            load_weights(nn.Linear(2, 2), path)


class Versioned(nn.Linear):
    """Refuses a state without its version, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *others):
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)


def test_modules_that_load_by_their_version_are_loaded(tmp_path):
    save_weights(nn.Sequential(Versioned(4, 3)), tmp_path / "net.safetensors")
    load_weights(nn.Sequential(Versioned(4, 3)), tmp_path / "net.safetensors")


def test_one_tensor_that_a_file_holds_twice_has_to_be_the_same(tmp_path):
    path, tied = tmp_path / "net.safetensors", nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    save_weights(tied, path)
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"0.weight and 1.weight are one tensor"):
        load_weights(tied, path)
    with torch.no_grad():
        tied[0].weight[0, 0] = torch.nan
    save_weights(tied, path)
    with pytest.raises(ValueError, match=r"holds NaN or infinity in 0.weight"):
        load_weights(tied, path)


@dataclasses.dataclass(frozen=True)
class TwosComplement(Uniform):
    """Uses the lowest code, too."""

    name = "twos_complement_of_a_test"

    def scaled_codes(self, weight, state, bitwidth):
        half = 2 ** (bitwidth - 1)
        step = state["step"]
        return (weight / step).round().clamp(-half, half - 1), step

    def quantize(self, weight, state, bitwidth):
        codes, step = self.scaled_codes(weight, state, bitwidth)
        return codes * step


def test_codes_of_ones_own_quantizer_are_as_many_as_the_bitwidth_affords(tmp_path):
    module = nn.Sequential(nn.Linear(40, 30))
    quantized = quantize_network(module, ["0"], [2], TwosComplement())
    assert len(bake(quantized)[0].weight.unique()) == 4
    save_quantized(tmp_path / "net.safetensors", quantized, {})
    loaded = load_quantized(tmp_path / "net.safetensors", nn.Sequential(nn.Linear(40, 30)))
    assert torch.equal(loaded[0].weight, bake(quantized)[0].weight)
