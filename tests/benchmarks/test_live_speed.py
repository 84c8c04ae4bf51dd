import csv

import pytest

from benchmarks.live_speed import __main__ as command
from benchmarks.live_speed import exhaustive, memory, nets, searches
from benchmarks.live_speed.analysis import markdown
from benchmarks.live_speed.naive import Naive
from benchmarks.live_speed.sample import mixture
from benchmarks.live_speed.training_steps import measure_steps
from releq_gym.evaluators.live import LiveEvaluator


def test_training_steps_are_measured_for_every_quantizer():
    costs = measure_steps("digits", ("wrpn", "lsq"), rounds=2)
    assert [(cost.net, cost.quantizer, cost.batch_size) for cost in costs] == [
        ("digits", "wrpn", 64),
        ("digits", "lsq", 64),
    ]
    assert all(cost.ratio > 0 and cost.quantized_ms > 0 for cost in costs)


def test_memory_is_measured_with_and_without():
    for work in memory.WORK:
        row = memory.measure("digits", work, rounds=1)
        assert tuple(row) == memory.COLUMNS
        assert row["ratio"] == row["default_ms"] / row["kept_ms"] > 0


@pytest.mark.parametrize("keep", [False, True])
def test_memory_is_kept_where_it_is_told(keep, monkeypatch):
    kept = []
    monkeypatch.setattr(memory.device, "keep_freed_memory", lambda: kept.append(1) or True)
    monkeypatch.setattr(memory, "_work", lambda net, work: memory.device.keep_freed_memory())
    memory._time("digits", memory.WORK[0], keep)
    assert bool(kept) == keep


def test_the_loop_and_the_evaluator_agree():
    options = {"quantizer": "uniform", "recipe": "ptq", "precision": "float32", "memo": False}
    live = LiveEvaluator("digits", **options)
    naive = Naive(live)
    for assignment in ((2, 2, 2, 2), (1, 8, 3, 5)):
        assert naive.evaluate(assignment, 0).accuracy == live.evaluate(assignment, 0).accuracy
    assert naive.seconds > 0


def test_exhaustive_compares_predictions(monkeypatch):
    monkeypatch.setattr(exhaustive, "SAMPLED", 6)
    row = exhaustive.measure("digits", None)
    assert row["assignments"] == 8**4 and row["compared"] == 6 * 450
    assert row["different_no_tie"] == 0 and row["ratio"] > 0
    assert tuple(row) == exhaustive.COLUMNS


def test_the_sample_is_of_different_allowed_assignments():
    drawn = list(mixture(6, (2, 3, 4, 5, 6, 7, 8), 200, seed=0))
    assert len(set(drawn)) == 200 and list(mixture(6, (2, 3, 4, 5, 6, 7, 8), 200, seed=0)) == drawn
    assert {len(one) for one in drawn} == {6} and {b for one in drawn for b in one} == set(
        range(2, 9)
    )


def test_published_bitwidths_fit_their_networks():
    from releq_gym.networks import network_layers

    for net in ("lenet", "simplenet", "svhn10", "resnet20"):
        assert len(nets.PUBLISHED[net]) == len(network_layers(net))


def test_a_search_is_compared_with_the_optimum(monkeypatch):
    monkeypatch.setattr(searches, "MAX_LOSS", 2.0)
    row = searches.measure("digits", None)
    assert row["assignments"] == 8**4 and row["optimum_cost"] <= row["cost"] + 1e-9
    assert set(row) <= set(searches.COLUMNS)


def test_rows_are_measured_once(monkeypatch, tmp_path, capsys):
    calls = []

    def job():
        calls.append(1)
        yield {"net": "toy", "ratio": 2.5}

    part = command.Part(("net", "ratio"), ("net",), {("toy",): job})
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "_parts", lambda *arguments: {"episodes": part})
    for arguments in ([], [], ["--again"]):
        monkeypatch.setattr("sys.argv", ["live_speed", *arguments])
        assert command.main() == 0
    assert len(calls) == 2
    with (tmp_path / "episodes.csv").open() as stream:
        assert list(csv.DictReader(stream)) == [{"net": "toy", "ratio": "2.5"}]
    assert "| toy | 2.5 |" in capsys.readouterr().out


def test_tables_are_markdown():
    text = markdown({"episodes": [{"net": "lenet", "ratio": "1.23456"}], "sample": []})
    assert "| lenet | 1.235 |" in text and "sample" not in text.lower()


def test_what_cannot_be_measured_is_left_out(monkeypatch, tmp_path, capsys):
    def job():
        raise ValueError("no data")

    part = command.Part(("net",), ("net",), {("lenet",): job})
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "_parts", lambda *arguments: {"episodes": part})
    monkeypatch.setattr("sys.argv", ["live_speed"])
    assert command.main() == 0
    assert "episodes lenet is left out: no data" in capsys.readouterr().out
