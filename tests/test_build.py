import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from releq_gym.cli import main
from releq_gym.tasks import TaskError, find_task, load_task
from releq_gym.tasks.build import Plan, build_task
from releq_gym.tasks.verify import check_files, verify_cells

TASK = "digits-digits-wrpn-short-w2to8"
OPTIONS = ["digits", "--bitwidths", "7", "8", "--repeats", "2", "--workers", "1"]


def cells(memo):
    """Finished cells in the file that an unfinished build keeps."""
    try:
        with sqlite3.connect(f"file:{memo}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM results").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_a_killed_build_goes_on_and_loses_no_finished_cell(tmp_path, capsys):
    command = [sys.executable, "-m", "releq_gym.cli", "task", "build", *OPTIONS]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    memo = tmp_path / "killed" / "digits-digits-wrpn-short-w7to8-1.0.0.partial.sqlite"
    while process.poll() is None and cells(memo) < 10:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = cells(memo)
    assert 10 <= finished < 64
    assert not list(tmp_path.glob("killed/*/*/card.json"))

    with sqlite3.connect(memo) as connection:
        before = dict(connection.execute("SELECT key, value FROM results"))
    assert main(["task", "build", *OPTIONS, "--output", str(tmp_path / "killed")]) == 0
    resumed = load_task(tmp_path / "killed" / "digits-digits-wrpn-short-w7to8" / "1.0.0")
    assert not list(tmp_path.glob("killed/*.sqlite*"))
    # A cell that was finished keeps its time, which no second measurement would hit again.
    known = sorted(round(float(value.split(",")[2])) for value in before.values())
    measured = [resumed.measurements(split).milliseconds.ravel() for split in ("search", "report")]
    left = np.concatenate(measured).tolist()
    for milliseconds in known:
        assert milliseconds in left
        left.remove(milliseconds)
    assert resumed.configurations == 16 and resumed.card["max_loss_points"] == 1.5
    assert "--bitwidths 7 8" in resumed.card["generator"]["command"]

    shipped, corner = find_task(TASK), np.ix_(*[[5, 6]] * 4)
    for split in ("search", "report"):
        again = resumed.measurements(split).correct
        grid = shipped.measurements(split).correct.reshape(7, 7, 7, 7, 10)[corner]
        # The same seeds on another machine may round differently.
        assert abs(again.astype(int) - grid.reshape(16, 10)[:, :2]).mean() < 2


def test_a_task_is_not_built_over_another(tmp_path):
    plan = Plan("digits", "uniform", "ptq", bitwidths=(8,))
    task = build_task(plan, tmp_path, workers=1)
    assert task.card["repeats"] == {"search": 1, "report": 1}
    assert task.card["noise_points"]["search"] == 0
    check_files(task)
    assert verify_cells(task, 5).holds
    with pytest.raises(TaskError, match="needs a new version"):
        build_task(plan, tmp_path)


def test_the_shipped_digits_task_agrees_with_measurements_made_now():
    agreement = verify_cells(find_task(TASK), 24)
    assert agreement.cells == 24 and agreement.within >= 22
    assert abs(agreement.bias_points) <= 4 * agreement.bias_error_points


def test_a_task_about_other_weights_is_refused(tmp_path):
    task = find_task(TASK)
    task.card["full_precision"]["weights_sha256"] = "0"
    with pytest.raises(TaskError, match="measured on other weights"):
        verify_cells(task, 1)
