import re

import pytest
import torch
from torch import nn

from releq_gym.networks import (
    NETWORKS,
    Network,
    network_layers,
    register_network,
    resolve_network,
)
from releq_gym.quantizers import make_quantizer
from releq_gym.registry import UnknownNameError

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
    logits = network.build()(torch.rand(3, *network.input_shape))
    assert logits.shape == (3, network.classes)
    assert logits.isfinite().all()
    assert set(network.recipes) == {"pretrain", "short", "long"}
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
