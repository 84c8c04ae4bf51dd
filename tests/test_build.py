import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from releq_gym.cli import main
from releq_gym.datasets import Split, load_splits
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.tasks import Task, TaskError, find_task, load_task
from releq_gym.tasks.build import build_task
from releq_gym.tasks.derive import derive_task
from releq_gym.tasks.measure import Measurer
from releq_gym.tasks.plan import Plan, task_id
from releq_gym.tasks.proxy import SEED
from releq_gym.tasks.verify import Agreement, cell_sd_points, check_files, verify_cells

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
    options = [*OPTIONS, "--known-issue", "Few.", "--output", str(tmp_path / "killed")]
    assert main(["task", "build", *options]) == 0
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
    assert resumed.card["known_issues"] == ["Few."]

    shipped, corner = find_task(TASK), np.ix_(*[[5, 6]] * 4)
    for split in ("search", "report"):
        again = resumed.measurements(split).correct
        grid = shipped.measurements(split).correct.reshape(7, 7, 7, 7, 10)[corner]
        # The same seeds on another machine may round differently.
        assert abs(again.astype(int) - grid.reshape(16, 10)[:, :2]).mean() < 2


@pytest.mark.parametrize("recipe", ["ptq", "short"])
def test_what_searchers_measure_is_not_measured_again(tmp_path, recipe):
    plan = Plan("digits", "uniform", recipe, repeats=1, bitwidths=(3, 8))
    memo, threads = tmp_path / "memo.sqlite3", torch.get_num_threads()
    measurer = Measurer(plan, "mine", None, memo, workers=1)
    torch.set_num_threads(2)
    try:
        measurer.evaluator.measure((8, 8, 8, 8), 0)
        with measurer.like_workers() as evaluator:
            evaluator.measure((8, 3, 3, 8), 0)
        known = cells(memo)
        measurer.measure("search", [(8, 3, 3, 8)])
        assert (cells(memo), torch.get_num_threads()) == (known, 2)
    finally:
        torch.set_num_threads(threads)


def test_a_task_is_not_built_over_another(tmp_path):
    plan = Plan("digits", "uniform", "ptq", bitwidths=(8,))
    task = build_task(plan, tmp_path, workers=1)
    assert task.card["repeats"] == {"search": 1, "report": 1}
    assert task.card["noise_points"]["search"] == 0
    check_files(task)
    assert verify_cells(task, 5).holds
    with pytest.raises(TaskError, match="needs a new version"):
        build_task(plan, tmp_path)


def test_a_task_is_derived_under_another_tolerated_loss(tmp_path, capsys):
    words = ["task", "derive", TASK, "--max-loss-points", "0.5", "--output", str(tmp_path)]
    assert main(words) == 0
    assert "objective   at most 0.5 points lost" in capsys.readouterr().out
    shipped, derived = find_task(TASK), load_task(tmp_path / f"{TASK}-loss0.5" / "1.0.0")
    assert derived.card["sha256"] == shipped.card["sha256"]
    assert derived.card["derived_from"] == shipped.name
    strict, lax = (task.card["landscape"]["search_optimum"]["cost"] for task in (derived, shipped))
    assert strict > lax  # it tolerates 0.5 points instead of 1.5
    check_files(derived)
    assert main(words) == 2
    assert "needs a new version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "points", "message"),
    [(TASK, -1.0, "0 or more points"), ("svhn10-mnistm-uniformpc-ptq-w1to8", 1.0, "no table")],
)
def test_what_cannot_be_derived_is_refused(tmp_path, task, points, message):
    with pytest.raises(ValueError, match=message):
        derive_task(find_task(task), tmp_path, points)
    assert not list(tmp_path.iterdir())


def test_a_build_that_was_stopped_behind_its_measurements_goes_on(tmp_path, monkeypatch):
    plan = Plan("digits", "uniform", "ptq", bitwidths=(7, 8))

    def stop(task):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("releq_gym.tasks.build.add_landscape", stop)
        with pytest.raises(KeyboardInterrupt):
            build_task(plan, tmp_path, workers=1)
    (card,) = tmp_path.glob("*/*/card.json")
    assert "landscape" not in load_task(card.parent).card
    other = dataclasses.replace(plan, search_images=50)
    with pytest.raises(TaskError, match=r"made otherwise \(another search_images\)"):
        build_task(other, tmp_path, workers=1)
    known = dataclasses.replace(plan, known_issues=("None.",))
    with pytest.raises(TaskError, match="was measured with other known issues; a changed task"):
        build_task(known, tmp_path, workers=1)
    with monkeypatch.context() as elsewhere:
        known = load_splits("digits")
        fewer = Split(known.train.images[1:], known.train.labels[1:])
        changed = dataclasses.replace(known, train=fewer)
        elsewhere.setattr("releq_gym.evaluators.arguments.load_splits", lambda *_: changed)
        with pytest.raises(TaskError, match="was measured with other training images"):
            build_task(plan, tmp_path, workers=1)
    assert "landscape" in build_task(plan, tmp_path, workers=1).card
    assert not list(tmp_path.glob("*.sqlite*"))
    with pytest.raises(TaskError, match="needs a new version"):
        build_task(plan, tmp_path)


def test_the_shipped_digits_task_agrees_with_measurements_made_now():
    agreement = verify_cells(find_task(TASK), 20)
    assert agreement.cells == 20 and agreement.noisy
    assert agreement.holds, str(agreement)


@pytest.mark.parametrize(("splits", "cells"), [(("search", "report"), 20), (("report",), 40)])
def test_good_cells_shifted_by_two_points_are_found_out(monkeypatch, splits, cells):
    read = Task.measurements

    def shifted(self, name):
        measured = read(self, name)
        if name in splits:
            images = self.images(name)
            good = measured.correct.mean(axis=1, keepdims=True) > 0.9 * images
            measured.correct[:] -= (good * round(0.02 * images)).astype(np.uint32)
        return measured

    monkeypatch.setattr(Task, "measurements", shifted)
    agreement = verify_cells(find_task(TASK), cells)
    assert not agreement.holds, str(agreement)
    assert agreement.good_bias > 3 / np.sqrt(cells / 2)


def test_a_cell_far_outside_is_one_cell_and_no_bias(monkeypatch):
    read, moved = Task.measurements, []

    def with_an_outlier(self, name):
        measured = read(self, name)
        if name == "search":
            chosen = np.random.default_rng(0).choice(len(measured.correct), 20, replace=False)
            moved.append(chosen[0])
            measured.correct[chosen[0]] = 0  # all repeats alike, as those of a dead cell
        return measured

    monkeypatch.setattr(Task, "measurements", with_an_outlier)
    agreement = verify_cells(find_task(TASK), 40)
    assert moved and agreement.within == 39 and abs(agreement.bias) < 3 / np.sqrt(40)
    assert agreement.holds, str(agreement)


def test_noise_is_a_cells_own_or_that_of_cells_alike():
    quiet = np.tile([400, 400], (60, 1))
    loud = np.tile([100, 140], (60, 1))
    sd = cell_sd_points(np.concatenate([quiet, loud]), 500)
    # One image of 500 is 0.2 points; 100 and 140 have the sd sqrt(800), 5.66 points.
    assert sd[59] == pytest.approx(0.2)
    assert sd[60] == pytest.approx(100 / 500 * np.sqrt(800))
    quiet[30] = [390, 410]
    assert cell_sd_points(quiet, 500)[30] == pytest.approx(100 / 500 * np.sqrt(200))
    # Two repeats that agree by chance have what the 51 cells around them have together.
    loud[30] = [120, 120]
    assert cell_sd_points(loud, 500)[30] == pytest.approx(100 / 500 * np.sqrt(800 * 50 / 51))


def test_agreement_asks_for_95_percent_of_the_cells_and_no_bias():
    agrees = Agreement(20, 19, True, 0.1, 0.6, 0.9)
    assert agrees.holds and "19 of 20" in str(agrees)
    assert not agrees._replace(within=18).holds
    assert not agrees._replace(bias=-0.7).holds  # 3 / sqrt(20) = 0.67
    assert not agrees._replace(good_bias=1.0).holds  # 3 / sqrt(10) = 0.95
    assert not agrees._replace(noisy=False).holds
    assert agrees._replace(noisy=False, within=20, bias=1.0).holds


@pytest.mark.parametrize(
    ("stated", "ending"),
    [
        ({}, "-w2to8"),
        ({"bitwidths": (2, 4, 8)}, "-w2-4-8"),
        ({"bitwidths": (8, 7)}, "-w7to8"),
        ({"max_loss_points": 1.5}, "-w2to8"),  # what digits has anyway
        ({"max_loss_points": 0.0}, "-w2to8-loss0"),
        ({"max_loss_points": 0.5, "activation_bitwidth": 8}, "-w2to8-a8-loss0.5"),
    ],
)
def test_a_task_is_named_by_a_loss_that_is_not_the_networks_own(stated, ending):
    plan = Plan("digits", **stated)
    assert task_id(plan.evaluator(None, memo=False), plan) == f"digits-digits-wrpn-short{ending}"


@pytest.mark.parametrize("cells", [1, -3])
def test_too_few_cells_to_verify_are_refused(cells):
    with pytest.raises(ValueError, match=rf"cells={cells}; at least 2"):
        verify_cells(find_task(TASK), cells)


def test_a_task_about_other_weights_is_refused():
    task = find_task(TASK)
    task.card["full_precision"]["weights_sha256"] = "0"
    with pytest.raises(TaskError, match="the weights of digits are others"):
        verify_cells(task, 2)


@pytest.mark.data
@pytest.mark.parametrize(
    ("task", "cells"),
    [
        ("lenet-mnist-wrpn-short-w2to8", 6),
        ("lenet-mnist-uniform-ptq-w1to8", 6),
        ("lenet-mnist-uniform-ptq-w1to8-loss0", 6),
        ("simplenet-cifar10-uniform-ptq-w1to8", 6),
        ("svhn10-mnistm-uniformpc-ptq-w1to8", 3),
        ("resnet20-cifar10-uniformpc-ptqbn-w1to8", 3),
        ("vgg11-cifar10-uniformpc-ptq-w1to8", 2),
        # Of vgg16 a cell takes a minute and more: `releq task verify` measures it.
    ],
)
def test_shipped_tasks_on_real_images_agree_with_measurements_made_now(task, cells, data_root):
    agreement = verify_cells(find_task(task), cells, data=data_root)
    assert agreement.holds, str(agreement)


@pytest.mark.data
def test_the_task_of_mobilenet_agrees_with_measurements_made_now(data_root):
    weights = data_root / "mobilenet_v1_1.0_224.safetensors"
    task = find_task("mobilenet-imagenet-uniformpc-ptq-w1to8")
    agreement = verify_cells(task, 2, data=data_root, weights=weights)
    assert agreement.holds, str(agreement)


def test_the_proxy_is_compared_with_long_retraining(tmp_path, capsys):
    shutil.copytree(find_task(TASK).folder, tmp_path / "task")
    assert main(["task", "proxy", str(tmp_path / "task"), "--assignments", "5"]) == 0
    found = load_task(tmp_path / "task").card["proxy"]
    assert found["assignments"] == 5 and found["near_assignments"] >= 3
    assert f"Spearman with accuracy after long retraining {found['spearman']:.2f}" in (
        capsys.readouterr().out
    )
    table = find_task(TASK).measurements("search").correct.mean(axis=1) / 450
    for bitwidths, before, after in found["pairs"]:
        index = np.ravel_multi_index(
            [bitwidth - 2 for bitwidth in bitwidths], (7,) * len(bitwidths)
        )
        assert before == pytest.approx(table[index])
        assert 0 < after <= 1
    order = np.argsort([pair[1] for pair in found["pairs"]])
    assert found["pairs"][order[-1]][2] > found["pairs"][order[0]][2] - 0.05


def test_the_long_retraining_of_the_proxy_may_differ_from_the_task(tmp_path):
    folder = shutil.copytree(find_task(TASK).folder, tmp_path / "task")
    options = "--assignments 3 --quantizer lsq --recipe-kwargs images=640 distillation=0.5".split()
    assert main(["task", "proxy", str(folder), *options]) == 0
    found = load_task(folder).card["proxy"]
    assert found["quantizer"] == "lsq" and found["search_images"] == 450
    assert (
        found["recipe_fields"]["images"] == 640 and found["recipe_fields"]["schedule"] == "cosine"
    )
    assert "--quantizer lsq" in found["command"]
    evaluator = LiveEvaluator(
        "digits", quantizer="lsq", recipe="long", recipe_kwargs={"images": 640, "distillation": 0.5}
    )
    for bitwidths, _, after in found["pairs"]:
        assert after == evaluator.measure(bitwidths, SEED).accuracy


def test_the_proxy_says_which_field_a_recipe_does_not_have(tmp_path, capsys):
    folder = shutil.copytree(find_task(TASK).folder, tmp_path / "task")
    assert main(["task", "proxy", str(folder), "--recipe-kwargs", "image=640"]) == 2
    assert "Did you mean 'images'?" in capsys.readouterr().err


def test_a_table_of_too_many_assignments_is_refused_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("releq_gym.tasks.build.MOST_ASSIGNMENTS", 15)
    command = ["task", "build", *OPTIONS, "--output", str(tmp_path / "tasks")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "2 bitwidths in 4 layers are 16 assignments; a table holds 15 at most" in error
    assert not (tmp_path / "tasks").exists()


def test_a_build_by_no_process_is_refused(tmp_path, capsys):
    command = ["task", "build", *OPTIONS[:-1], "0", "--output", str(tmp_path / "tasks")]
    assert main(command) == 2
    assert "workers=0 has to be 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "tasks").exists()
