import json
import re

import gymnasium as gym
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from toys import unseen_digits

import releq_gym
from releq_gym.datasets import load_splits
from releq_gym.datasets.normalise import Normalise
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.networks import (
    NETWORKS,
    Network,
    Recipe,
    network_layers,
    register_network,
    resolve_network,
)
from releq_gym.quantized import load_weights, save_weights
from releq_gym.quantizers import make_quantizer
from releq_gym.registry import UnknownNameError
from releq_gym.training.accuracy import sum_scores
from releq_gym.training.weights import find_weights

FACTORY = "tests.test_networks:small_net"


def small_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def documented_table(build):
    """Rows of (layer, kind, weights, MACs) in a docstring; the last is the total."""
    rows = re.findall(
        r"^\| *([\w.]+) *\| *(\w*) *\| *([\d,]+) *\| *([\d,]+) *\|$",
        re.sub("^ +", "", build.__doc__, flags=re.MULTILINE),
        flags=re.MULTILINE,
    )
    return [(*row[:2], *(int(number.replace(",", "")) for number in row[2:])) for row in rows]


PUBLISHED = {
    "lenet": (4, 430_500, 2_293_000),
    "simplenet": (5, 61_770, 651_720),
    "resnet20": (22, 270_896, 40_813_184),
    "svhn10": (10, 1_763_680, 62_228_992),
    "vgg11": (9, 9_222_848, 152_769_536),
    "vgg16": (16, 15_239_872, 313_725_952),
    "alexnet": (8, 61_090_496, 714_188_480),
    "mobilenet": (28, 4_209_088, 568_740_352),
}
"""Layers, weights and MACs of the nets of the paper, rounded there."""


@pytest.mark.parametrize("name", ["digits", *PUBLISHED])
def test_layer_table_in_the_docstring_is_what_profiling_finds(name):
    network = NETWORKS[name]
    module = network.build()
    layers = network_layers(module, network.input_shape, make_quantizer("wrpn"))
    rows = [(layer.name, layer.kind, layer.weights, layer.macs) for layer in layers]
    weights, macs = (sum(row[column] for row in rows) for column in (2, 3))
    assert documented_table(network.build) == [*rows, ("total", "", weights, macs)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_paper_networks_have_the_published_size(name):
    layers, weights, macs = PUBLISHED[name]
    rows = documented_table(NETWORKS[name].build)
    assert len(rows) == layers + 1
    assert rows[-1] == ("total", "", weights, macs)


@pytest.mark.parametrize("name", ["digits", *PUBLISHED])
def test_networks_map_images_to_finite_logits(name):
    network = NETWORKS[name]
    logits = network.build().eval()(torch.rand(3, *network.input_shape))
    assert logits.shape == (3, network.classes)
    assert logits.isfinite().all()
    trained_here = {"pretrain"} if network.download is None else set()
    assert set(network.recipes) == {"short", "long"} | trained_here
    assert len(network.mean) == len(network.std) == network.input_shape[0]


def test_resolving_a_name_gives_the_registered_network():
    assert resolve_network("lenet") is NETWORKS["lenet"]
    assert resolve_network(NETWORKS["lenet"]) is NETWORKS["lenet"]


def test_resolving_a_factory_string_imports_and_builds_it():
    network = resolve_network(FACTORY)
    assert network.name == FACTORY
    assert isinstance(network.build(), nn.Sequential)


def test_resolving_a_module_copies_its_weights_at_each_build():
    module = small_net()
    network = resolve_network(module)
    first, second = network.build(), network.build()
    assert first is not module and first is not second
    assert torch.equal(first[1].weight, module[1].weight)


def test_resolving_a_factory_builds_a_new_module_each_time():
    network = resolve_network(small_net)
    assert network.name == "small_net"
    assert network.build() is not network.build()


def test_unknown_net_names_the_nearest_and_the_factory_form():
    with pytest.raises(UnknownNameError, match=r"'lenet'.*package\.module:factory"):
        resolve_network("lenett")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("no_such_package_here:net", "could not be imported"),
        ("tests.test_networks:no_such_net", "could not be imported"),
        (":net", "could not be imported"),
        ("tests.test_networks:FACTORY", "cannot be called"),
        (7, "A net is a name"),
        ("small.pt", "reads like a file of weights"),
    ],
)
def test_nets_that_cannot_be_resolved_are_explained(net, message):
    with pytest.raises(ValueError, match=message):
        resolve_network(net)


def test_factory_that_returns_no_module_is_refused():
    network = resolve_network(lambda: "weights")
    with pytest.raises(ValueError, match=r"returned str; it has to return a torch\.nn\.Module"):
        network.build()


def test_own_networks_register_under_a_new_name_only(monkeypatch):
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS._entries))
    decorated = register_network("mine", input_shape=(1, 8, 8), classes=10)(small_net)
    assert decorated is small_net
    assert resolve_network("mine") == Network("mine", small_net, (1, 8, 8), 10)
    with pytest.raises(ValueError, match="registered already"):
        register_network("lenet")(small_net)


@pytest.fixture
def registered(monkeypatch):
    """The factory below, registered under another name than its own."""
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS._entries))
    fields = {"input_shape": (1, 8, 8), "dataset": "digits", "mean": (0.5,), "std": (0.25,)}
    return register_network("trained_net", **fields)(trained_net)


def trained_net():
    """As a factory that loads its weights."""
    net = small_net()
    torch.nn.init.ones_(net[1].weight)
    return net


@pytest.mark.parametrize("net", [f"{__name__}:trained_net", trained_net])
def test_a_registered_factory_brings_what_it_states_and_its_own_weights(registered, net):
    network = resolve_network(net)
    assert (network.input_shape, network.dataset, network.mean) == ((1, 8, 8), "digits", (0.5,))
    live = LiveEvaluator(net, search_from_train=True, recipe="ptq", memo=False)
    assert (live.module[1].weight == 1).all() and live.normalise.std == (0.25,)


def test_the_name_of_a_registered_factory_alone_asks_for_weights(registered):
    with pytest.raises(ValueError, match=r"pass that factory itself, or as 'package\.module"):
        LiveEvaluator("trained_net", search_from_train=True, recipe="ptq", memo=False)


def test_a_net_of_ones_own_that_is_called_as_a_registered_one_keeps_its_weights():
    def digits():
        return trained_net()

    live = LiveEvaluator(digits, data=unseen_digits(), recipe="ptq", memo=False)
    assert live.net == "digits" and (live.module[1].weight == 1).all()


def described_net():
    """A factory of what it takes to be shown inputs as in training."""
    return Network("mine", trained_net, mean=(0.5,), std=(0.25,))


@pytest.mark.parametrize("net", [f"{__name__}:described_net", described_net])
def test_a_factory_may_return_a_network(net):
    network = resolve_network(net)
    assert (network.name, network.mean, network.std) == ("mine", (0.5,), (0.25,))
    live = LiveEvaluator(net, data=unseen_digits(), recipe="ptq", memo=False)
    assert live.normalise.std == (0.25,) and (live.module[1].weight == 1).all()


def test_mean_and_std_may_be_any_numbers():
    found = Network("mine", trained_net, mean=tuple(np.ones(1, np.float32)), std=(2,))
    assert json.dumps([found.mean, found.std]) == "[[1.0], [2.0]]"


def test_a_factory_is_called_once_per_network_that_is_built():
    made = []

    def factory():
        made.append(small_net())
        return made[-1]

    network = resolve_network(factory)
    assert [network.build(), network.build()] == made


def needs_width(width):
    return small_net()


def cannot_read():
    raise FileNotFoundError("no such file: missing.pt")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (needs_width, r"'needs_width', which is called without arguments, raised TypeError.*width"),
        (cannot_read, r"raised FileNotFoundError: no such file: missing.pt"),
    ],
)
def test_what_a_factory_raises_is_a_sentence(factory, message):
    with pytest.raises(ValueError, match=message):
        resolve_network(f"tests.test_networks:{factory.__name__}").build()


def test_a_module_that_cannot_be_executed_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "broken_net.py").write_text("open('missing.pt')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"could not be imported \(FileNotFoundError.*missing"):
        resolve_network("broken_net:net")


@pytest.mark.parametrize(
    "numbers",
    [{"mean": 0.5}, {"mean": ()}, {"mean": ("a",)}, {"std": (float("nan"),)}, {"std": (0,)}],
)
def test_what_inputs_are_normalised_by_has_to_be_numbers(numbers):
    (name,) = numbers
    with pytest.raises(ValueError, match=f"{name}=.* of the net 'mine' has to be"):
        Network("mine", small_net, **numbers)


def test_network_layers_takes_a_name_or_a_module():
    named = releq_gym.network_layers("simplenet")
    assert [layer.name for layer in named] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    (layer,) = releq_gym.network_layers(small_net(), (1, 8, 8), "wrpn")
    assert (layer.weights, layer.macs) == (640, 640)


def test_network_layers_of_a_net_that_states_no_input_shape_asks_for_it():
    with pytest.raises(ValueError, match=r"pass input_shape=.*\(3, 32, 32\)"):
        releq_gym.network_layers(small_net())


def random_timm_mobilenet():
    torch.manual_seed(0)
    module = timm.create_model("mobilenetv1_100", pretrained=False)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_var, norm.weight.data):
                tensor.uniform_(0.5, 1.5)
            for tensor in (norm.running_mean, norm.bias.data):
                tensor.uniform_(-0.1, 0.3)
    return module.eval()


def test_mobilenet_takes_the_checkpoint_of_timm(tmp_path):
    original, ours = random_timm_mobilenet(), NETWORKS["mobilenet"].build().eval()
    save_file(original.state_dict(), tmp_path / "timm.safetensors")
    load_weights(ours, tmp_path / "timm.safetensors")
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), original(images), rtol=0, atol=1e-5)
    copied = NETWORKS["mobilenet"].build().eval()
    copied.load_state_dict(ours.state_dict())  # which padding it needs goes with the weights
    assert torch.equal(copied(images), ours(images))


def test_another_network_of_timm_does_not_fit_mobilenet(tmp_path):
    save_file({"conv_stem.weight": torch.zeros(1), "bn1.weight": torch.zeros(1)}, tmp_path / "f")
    with pytest.raises(ValueError, match="does not fit MobileNet: it lacks"):
        load_weights(NETWORKS["mobilenet"].build(), tmp_path / "f")


def test_a_flag_of_a_recipe_is_true_or_false():
    with pytest.raises(ValueError, match="fold_batch_norm='no' has to be True or False"):
        Recipe(fold_batch_norm="no")


def test_mobilenet_pads_foreign_weights_with_folded_batch_norm_as_tensorflow_does(tmp_path):
    ours = NETWORKS["mobilenet"].build().eval()
    tensors = {key: value for key, value in ours.state_dict().items() if key != "same_padding"}
    save_file(tensors, tmp_path / "folded.safetensors")
    load_weights(ours, tmp_path / "folded.safetensors")
    image = torch.zeros(1, 3, 32, 32)
    image[..., -1, -1] = 1
    corner = ours.stem(ours.pad(image)) - ours.stem(ours.pad(torch.zeros_like(image)))
    # The last window begins at pixel 30: its middle is the last pixel.
    torch.testing.assert_close(corner[0, :, -1, -1], ours.stem.weight[:, :, 1, 1].sum(dim=1))


def test_weights_that_are_not_shipped_are_downloaded_once(tmp_path, monkeypatch):
    downloads = []

    def download():
        downloads.append(1)
        return small_net().state_dict()

    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS._entries))
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path)
    register_network("fetched", download=download)(small_net)
    first = find_weights("fetched")
    load_weights(small_net(), first)
    assert find_weights("fetched") == first and len(downloads) == 1


@pytest.mark.parametrize("name", ["alexnet", "mobilenet"])
def test_failed_download_of_weights_is_a_sentence(name, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path)
    monkeypatch.setattr("timm.create_model", no_network)
    monkeypatch.setattr("torchvision.models.AlexNet_Weights.get_state_dict", no_network)
    with pytest.raises(ValueError, match=r"cannot be downloaded \(Network.*weights=FILE"):
        find_weights(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.data
def test_mobilenet_scores_what_is_known_on_the_imagenet_sample(data_root):
    network = NETWORKS["mobilenet"]
    module = network.build()
    load_weights(module, data_root / "mobilenet_v1_1.0_224.safetensors")
    splits = load_splits("imagenet", data_root, search_from_train=False)
    assert splits.train is None and len(splits.search) == len(splits.report) == 500
    normalise = Normalise(network.mean, network.std)
    correct = sum(
        sum_scores(module, images, labels, normalise)
        for split in (splits.search, splits.report)
        for images, labels in zip(split.images.split(50), split.labels.split(50), strict=True)
    )
    assert abs(correct - 859) <= 2


@pytest.mark.data
def test_mobilenet_lives_through_an_episode_on_some_of_the_classes(data_root, tmp_path):
    (tmp_path / "val").mkdir()
    for folder in sorted((data_root / "imagenet_sample" / "val").iterdir())[-16:]:
        (tmp_path / "val" / folder.name).symlink_to(folder)
    names = [layer.name for layer in network_layers("mobilenet", quantizer="wrpn")]
    env = gym.make(
        "releq/QuantizeNet-v0",
        net="mobilenet",
        evaluator="live",
        quantizer="uniform",
        recipe="ptq",
        bitwidths=[2, 8],
        weights=str(data_root / "mobilenet_v1_1.0_224.safetensors"),
        data=str(tmp_path),
        groups=[[name for name in names if name.endswith(part)] for part in ("wise", "stem")],
        evaluator_kwargs={"memo": False},
    )
    accuracies = {}
    for action in (1, 0):
        env.reset(seed=0)
        for _ in range(3):
            _, _, terminated, _, info = env.step(action)
        assert terminated and len(set(info["bitwidths"])) == 1 and len(info["bitwidths"]) == 28
        accuracies[env.unwrapped.problem.bitwidths[action]] = info["relative_accuracy"]
    assert accuracies[8] > 0.8 > 0.2 > accuracies[2]


@pytest.mark.slow
def test_alexnet_is_measured_live_with_weights_from_a_file(tmp_path):
    (tmp_path / "val" / "n01443537").mkdir(parents=True)
    for place in range(4):
        photo = Image.new("RGB", (256, 256), (60 * place, 0, 0))
        photo.save(tmp_path / "val" / "n01443537" / f"{place}.png")
    save_weights(NETWORKS["alexnet"].build(), tmp_path / "weights.safetensors")
    evaluator = LiveEvaluator(
        "alexnet",
        data=tmp_path,
        weights=tmp_path / "weights.safetensors",
        quantizer="wrpn",
        recipe="ptq",
        memo=False,
    )
    assert [layer.name for layer in evaluator.layers][-1] == "classifier.6"
    assert evaluator.images == 2
    assert 0 <= evaluator.evaluate([8, 4, 4, 4, 4, 2, 2, 8], 0).accuracy <= 1
    bitwidths = [8] * 8
    trained = evaluator.train(bitwidths, 0, "ptq")
    assert trained.classifier[6].weight.unique().numel() <= 255
