import numpy as np
import pytest

from benchmarks.hardware import pace, published, ranks, searches
from benchmarks.hardware.pictures import draw_fronts
from benchmarks.live_speed.nets import PUBLISHED
from releq_gym.networks.profile import network_layers


def test_published_assignments_are_as_long_as_their_networks():
    for net, bitwidths in PUBLISHED.items():
        assert len(bitwidths) == len(network_layers(net))


def test_speed_ups_and_their_means():
    row = published.measure("lenet", "weight_serial")
    assert row["bitwidths"] == "2 2 3 2"
    assert 8 / 3 < row["speed_up"] < 4  # between the fewest and the most bits
    assert 8 / 3 < row["energy_saving"] < 4
    rows = [{"speed_up": "2", "energy_saving": ""}, {"speed_up": "8", "energy_saving": ""}]
    (mean,) = published.means("device", rows)
    assert mean["arithmetic_mean"] == 5 and mean["geometric_mean"] == pytest.approx(4)
    assert mean["nets"] == 2 and mean["figure"] == "speed_up"


def test_ranks_compare_with_what_was_measured(monkeypatch):
    real = ranks.make_cost
    # A device on which only the number of bits counts, whatever the layer.
    monkeypatch.setattr(
        ranks, "make_cost", lambda name: real("average_bitwidth" if name == "tvm_cpu" else name)
    )
    found = {row["model"]: row["spearman"] for row in ranks.measure("lenet")}
    assert found["average_bitwidth"] == pytest.approx(1)
    assert 0 < found["model_size"] < 0.99


@pytest.mark.parametrize("player", ["local_search", "recurrent_ppo"])
def test_a_search_exceeds_no_budget(monkeypatch, player):
    monkeypatch.setitem(searches.EVALUATIONS, "lenet", 12)
    monkeypatch.setattr(searches, "SEEDS", range(2))
    rows = searches.measure("lenet", "weight_serial", 0.25, player)
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert row["cost"] <= row["most_expensive"] <= row["limit"] + 1e-9 < 0.5
        assert row["evaluations"] == 12


def test_differences_between_seeds_and_devices():
    def row(device, bitwidths):
        shared = {"net": "lenet", "player": "random", "budget": "0.5"}
        return {**shared, "device": device, "bitwidths": bitwidths}

    rows = [row("one", "2 2"), row("one", "2 4"), row("other", "8 8")]
    (found,) = searches.differences(rows)
    assert found["between_seeds"] == 1
    assert found["between_devices"] == np.mean([6, 5])


def test_losses_are_medians_per_device_and_player():
    row = {"net": "lenet", "budget": "0.1", "device": "tvm_cpu", "player": "local_search"}
    rows = [{**row, "loss_points": lost} for lost in ("1.0", "5.0", "2.0")]
    rows.append({**row, "player": "recurrent_ppo", "loss_points": "0.5"})
    assert searches.losses(rows) == [
        {
            "net": "lenet",
            "budget": "0.1",
            "device": "tvm_cpu",
            "local_search": 2.0,
            "recurrent_ppo": 0.5,
        }
    ]


def test_the_pace_under_a_budget(monkeypatch):
    monkeypatch.setattr(pace, "ROUNDS", 1)
    monkeypatch.setattr(pace, "COPIES", 8)
    row = pace.measure("digits-digits-wrpn-short-w2to8", "weight_serial, budget")
    assert row["ratio"] > 0 and row["steps_per_s"] > 0


def test_the_picture_of_the_fronts(tmp_path):
    row = {"net": "lenet", "player": "local_search", "cost": "0.5", "loss_points": "0.2"}
    rows = [{**row, "device": device} for device in searches.DEVICES]
    draw_fronts(rows, tmp_path / "fronts.png")
    assert (tmp_path / "fronts.png").stat().st_size > 1_000
