import gymnasium as gym
import numpy as np
import pytest

import releq_gym  # noqa: F401
from releq_gym.costs import make_cost
from releq_gym.layers import Layer

ID = "releq/QuantizeNet-v0"
SQNR = (0.0,) * 8
CONV = Layer("conv", "conv", (32, 20, 3, 3), 1, 100, 100 * 32 * 180, 0.1, SQNR)
DEPTHWISE = Layer("deep", "depthwise", (40, 1, 3, 3), 1, 100, 100 * 40 * 9, 0.1, SQNR, 40)
LINEAR = Layer("linear", "linear", (10, 1000), 1, 1, 10_000, 0.1, SQNR)
FAST = {"weight_bits_per_cycle": 1e9}


def test_weight_serial_takes_a_cycle_per_bit_of_a_filling():
    cycles = make_cost("weight_serial", **FAST)([CONV, DEPTHWISE, LINEAR], [1, 3, 8])["cycles"]
    # 32 filters fit into 16 tiles of 16; 180 inputs in steps of 16; 100 positions in steps of 16.
    assert cycles[0].tolist() == [12 * 7 * bits for bits in (1, 3, 8)]
    # 40 groups on 16 tiles, 9 of 16 inputs in use.
    assert cycles[1].tolist() == [3 * 1 * 7 * bits for bits in (1, 3, 8)]
    assert cycles[2].tolist() == [63 * bits for bits in (1, 3, 8)]


def test_a_layer_takes_what_takes_longer_its_products_or_its_weights():
    cycles = make_cost("weight_serial", weight_bits_per_cycle=64)([LINEAR], [1, 8])["cycles"]
    assert cycles[0].tolist() == [np.ceil(10_000 / 64), 10_000 * 8 / 64]
    slow = make_cost("stripes", weight_bits_per_cycle=1)([CONV], [2])["cycles"]
    assert slow[0, 0] == 32 * 180 * 2


def test_weight_serial_energy_by_hand():
    found = make_cost("weight_serial", megahertz=500)([LINEAR], [4])
    picojoules = (
        10_000 * 0.3 / 2  # half of an 8-bit multiplication
        + (1_000 + 10) * 8 * 20 / 64  # activations in and out
        + 10_000 * 4 * (20 / 64 + 100 / 64)  # weights from their memory, through the buffer
    )
    assert found["microjoules"][0, 0] == pytest.approx(picojoules / 1e6)
    assert found["milliseconds"][0, 0] == pytest.approx(found["cycles"][0, 0] / 500e3)


def test_only_the_groups_that_are_worked_on_read_inputs():
    def activations(groups, filters, inputs):
        shape = (groups * filters, inputs, 1, 1)
        weights = groups * filters * inputs
        layer = Layer("one", "conv", shape, 1, 1, weights, 0.1, SQNR, groups)
        none = {"weight_picojoules_per_bit": 1e-9}
        picojoules = 1e6 * make_cost("weight_serial", **none)([layer], [8])["microjoules"][0, 0]
        return (picojoules - weights * 0.3) / (20 / 64) / 8 - weights  # without products, weights

    # 17 groups take two rounds of 16 tiles, but each is worked on once.
    assert activations(17, 1, 9) == pytest.approx(17 * 9 + 17)
    # 3 groups of 19 tiles' work each take two rounds each: 0-1, 1-2 and 2-3.
    assert activations(3, 19 * 16, 9) == pytest.approx(6 * 9 + 3 * 19 * 16)


def test_stripes_is_serial_in_the_activations():
    found = make_cost("stripes", **FAST)([CONV], [1, 8])
    assert list(found) == ["microjoules", "cycles", "milliseconds"]
    assert found["cycles"].tolist() == [[12 * 7 * 8, 12 * 7 * 8]]
    fewer = make_cost("stripes", activation_bitwidth=4, **FAST)([CONV], [1, 8])
    assert fewer["cycles"].tolist() == [[12 * 7 * 4, 12 * 7 * 4]]
    assert found["microjoules"][0, 0] < found["microjoules"][0, 1]


def test_bit_fusion_fills_up_to_whole_bricks():
    cycles = make_cost("bit_fusion", **FAST)([CONV], range(1, 9))["cycles"][0]
    # 16 rows take 16, 32 or 64 of the 180 inputs at 8, 4 and 2 bits; 100 positions, 32 filters.
    assert cycles.tolist() == [300, 300, 600, 600, 1200, 1200, 1200, 1200]
    quick = make_cost("bit_fusion", activation_bitwidth=2, **FAST)([CONV], [8, 2])["cycles"][0]
    assert quick.tolist() == [300, 100]
    energy = make_cost("bit_fusion")([CONV], [5, 8, 3, 4])["microjoules"][0]
    assert energy[0] == energy[1] > energy[2] == energy[3]


@pytest.mark.parametrize("name", ["weight_serial", "stripes", "bit_fusion"])
def test_arrays_refuse_what_they_cannot_be(name):
    for tiles in (0, np.inf):
        with pytest.raises(ValueError, match=f"tiles={tiles} must be a number above 0"):
            make_cost(name, tiles=tiles)
    if name == "bit_fusion":
        with pytest.raises(ValueError, match="activations of 2, 4 or 8 bits"):
            make_cost(name, activation_bitwidth=16)


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("digits-digits-wrpn-short-w2to8", "bit_fusion"),
        ("lenet-mnist-uniform-ptq-w1to8", "tvm_cpu"),
        ("svhn10-mnistm-uniformpc-ptq-w1to8", "weight_serial"),
        ("synthetic-12-0", "stripes"),
    ],
)
@pytest.mark.parametrize("reward", ["accuracy_floor", "releq"])
def test_no_agent_exceeds_a_budget_on_any_figure(task, model, reward):
    free = gym.make(ID, task=task, cost=model).unwrapped.problem
    most, least = free.totals((8,) * len(free.layers)), free.economics(0, free.at_start)
    ended = 0
    for number, figure in enumerate(free.figures):
        share = least.least_cost if number == 0 else 0.0
        limit = (share + 0.3 * (1 - share)) * most[number]
        options = {"task": task, "cost": model, "reward": reward, "cost_budget": {figure: limit}}
        try:
            envs = gym.make_vec(ID, 32, vectorization_mode="vector_entry_point", **options)
        except ValueError as error:
            assert "cannot be met: the least reachable" in str(error)
            continue
        envs.reset(seed=0)
        envs.action_space.seed(0)
        for _ in range(3 * len(free.layers)):
            *_, infos = envs.step(envs.action_space.sample())
            if "final_info" in infos:
                ended += len(infos["final_info"][figure])
                assert (infos["final_info"][figure] <= limit * (1 + 1e-9)).all()
    assert ended >= 3 * 32
