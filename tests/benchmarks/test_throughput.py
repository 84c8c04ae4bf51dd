import time

import gymnasium as gym
import pytest

from benchmarks.throughput import __main__ as command
from benchmarks.throughput import pace, start, training
from benchmarks.throughput.sweep import AGENTS, SETTINGS, tasks
from releq_gym.tasks.catalog import shipped_tasks

TASK = "synthetic-4-0"


@pytest.mark.parametrize("setting", SETTINGS)
def test_paces_are_of_the_setting_asked_for(setting):
    row = pace.measure_single(TASK, setting, rounds=1, steps=20)
    assert tuple(row) == pace.SINGLE_COLUMNS and (row["task"], row["setting"]) == (TASK, setting)
    assert row["ratio"] == pytest.approx(row["steps_per_s"] / row["cartpole_steps_per_s"])
    row = pace.measure_vector(TASK, setting, 3, rounds=1, steps=5)
    assert tuple(row) == pace.VECTOR_COLUMNS and row["copies"] == 3
    assert row["ratio"] == pytest.approx(row["steps_per_s"] / row["cartpole_steps_per_s"])


def test_two_walks_are_taken_in_turns_and_the_first_round_is_dropped():
    walked = []

    def walk(name, seconds):
        walked.append(name)
        return seconds.pop(0)

    first, second = [99.0, 2.0, 4.0, 3.0], [1.0, 4.0, 2.0, 6.0]
    walks = [lambda: walk("one", first), lambda: walk("other", second)]
    assert pace.in_turns(walks, rounds=3) == (3.0, 4.0, 0.5)
    assert walked == ["one", "other"] * 4


@pytest.mark.parametrize("agent", AGENTS)
def test_the_environments_part_of_training_is_its_own_time(agent):
    row = training.measure("digits", agent, steps=training.COPIES)
    assert tuple(row) == training.COLUMNS
    assert 0 < row["environment_s"] < row["training_s"]
    assert row["percent"] == pytest.approx(100 * row["environment_s"] / row["training_s"])


def test_a_stopwatch_times_nothing_but_the_environment():
    watch = training.Stopwatch(gym.make("CartPole-v1"))
    watch.reset(seed=0)
    watch.step(0)
    inside = watch.seconds
    started = time.process_time()
    while time.process_time() - started < 0.02:
        pass
    assert 0 < watch.seconds == inside


def test_the_start_is_measured_in_a_fresh_interpreter():
    row = start.measure(TASK, runs=1)
    assert tuple(row) == start.COLUMNS
    assert row["wall_s"] > 0 and row["process_s"] > 0
    # This process has imported torch; a child that counted it in would be several times as large.
    assert row["torch"] == "no" and 10 < row["peak_mib"] < 150


def test_every_shipped_task_is_measured():
    assert set(tasks()) == {*shipped_tasks(), "synthetic-20-0"}
    parts = command._parts("digits")
    assert set(parts) == set(command.TITLES)
    for name in ("single", "vector", "start"):
        assert {key[0] for key in parts[name].jobs} >= set(tasks())
    assert len(parts["training"].jobs) == 3
    for part in parts.values():
        assert set(part.key) <= set(part.columns)
        assert all(len(key) == len(part.key) for key in part.jobs)


def test_rows_are_written_and_printed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(
        start, "measure", lambda task: dict.fromkeys(start.COLUMNS, 1) | {"task": task}
    )
    monkeypatch.setattr("sys.argv", ["throughput", "--part", "start", "--task", "synthetic-20-0"])
    assert command.main() == 0
    assert (tmp_path / "start.csv").read_text().splitlines()[1].startswith("synthetic-20-0,")
    assert "| synthetic-20-0 | 1 |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["throughput", "--part", "speed"])
    assert command.main() == 2
    assert "--part speed: there are single, vector, training, start" in capsys.readouterr().err
