import dataclasses
import json
from importlib.resources import files
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toys import ToyEvaluator

from releq_gym.costs import make_cost
from releq_gym.layers import BITWIDTHS
from releq_gym.networks.profile import network_layers

TABLES = Path(str(files("releq_gym"))) / "data" / "hardware" / "tvm_cpu"
NETS = ("lenet", "resnet20", "vgg11")


@pytest.mark.parametrize("net", NETS)
def test_a_shipped_table_serves_its_network(net):
    milliseconds = make_cost("tvm_cpu")(network_layers(net), BITWIDTHS)["milliseconds"]
    assert np.isfinite(milliseconds).all()
    # Bit-serial: about twice the time for twice the bits.
    total = milliseconds.sum(axis=0)
    assert (np.diff(total) > 0).all() and 1.7 < total[7] / total[3] < 2.3


@pytest.mark.parametrize("net", NETS)
def test_a_shipped_table_says_how_it_came_about(net):
    table = json.loads((TABLES / f"{net}.json").read_text())
    assert table["command"] == f"releq hardware measure {net}"
    assert table["cpu"] and table["threads"] == 1 and table["activation_bitwidth"] == 8
    assert len(table["rows"]) == 8 * len(network_layers(net))
    assert all(row["operator"].startswith("bitserial") for row in table["rows"])
    spreads = [row["spread"] / row["value"] for row in table["rows"]]
    assert np.median(spreads) < 0.1


def test_a_budget_in_milliseconds_holds():
    env = gym.make(
        "releq/QuantizeNet-v0", net="lenet", cost="tvm_cpu", cost_budget={"milliseconds": 0.06}
    )
    env.reset(seed=0)
    for _ in range(4):
        *_, info = env.step(7)
    assert info["milliseconds"] <= 0.06 and info["bitwidths"] != (8, 8, 8, 8)


def test_layers_without_a_table_get_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"there are lenet \(.*releq hardware measure NET"):
        make_cost("tvm_cpu")(ToyEvaluator.layers, BITWIDTHS)
    changed = [dataclasses.replace(layer, macs=1) for layer in network_layers("lenet")]
    with pytest.raises(ValueError, match="No measured table is about these layers"):
        make_cost("tvm_cpu")(changed, BITWIDTHS)
    # Nor does a table of another network with the same names serve.
    own = make_cost("tvm_cpu", table=str(TABLES / "lenet.json"))
    with pytest.raises(ValueError, match=r"is about another 'conv1', .*\[20, 1, 5, 5\]"):
        own(network_layers("digits"), BITWIDTHS)
    with pytest.raises(ValueError, match="has no row for 'first'"):
        own(ToyEvaluator.layers, BITWIDTHS)
    renamed = tmp_path / "table.csv"
    renamed.write_text("layer,bitwidth,value\nfirst,8,1\nmiddle,8,1\nlast,8,1\n")
    with pytest.raises(ValueError, match="goes with cost='lookup'"):
        make_cost("tvm_cpu", table=str(renamed))(ToyEvaluator.layers, [8])
