"""What a run's result says of the report split, and how it is read back."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load, save

from agents.tables import print_report
from releq_gym.datasets import load_splits
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.evaluators.synthetic import make_synthetic
from releq_gym.evaluators.table import TableEvaluator
from releq_gym.quantized import QUANTIZED_FILE, read_header
from releq_gym.report import (
    Reproduction,
    _compare,
    evaluate_run,
    final_report,
    retrain_and_report,
    right_answers,
)
from releq_gym.result import OnReport, Report, Result, read_result, write_result
from releq_gym.tasks import TaskError, find_task, load_task
from releq_gym.tasks.format import OK, Measurements, write_task
from releq_gym.tasks.twin import live_twin

REPORT = Report(
    source="retrained by the long recipe",
    images=10,
    full_precision=OnReport(None, 0.9),
    checkpoint=OnReport(None, 0.9, 0.0, 0.0),
    uniform=OnReport((8, 8), 0.9, 0.0, 0.0),
    chosen=OnReport((4, 2), 0.8, 10.0, 19.6),
)
RESULT = Result(
    finished=True,
    task="toy",
    net="toy",
    data=None,
    searcher="nobody",
    seed=0,
    layers=("first", "last"),
    bitwidths=(4, 2),
    objective=0.5,
    accuracy=0.8,
    loss_points=10.0,
    max_loss_points=0.3,
    cost=0.4,
    weighted_bitwidth=2.5,
    average_bitwidth=3.0,
    evaluations=7,
    fresh=9,
    seconds=1.5,
    version="0",
    command="nothing",
    report=REPORT,
)


def digits_task(folder, weights_sha256=None):
    """A made-up task about the shipped digits net at 6 or 8 bits."""
    evaluator = LiveEvaluator("digits", recipe="ptq", bitwidths=(6, 8))
    correct = np.full((16, 1), 440, np.uint32)
    measured = Measurements(
        correct=correct,
        milliseconds=np.ones_like(correct),
        status=np.full(correct.shape, OK, np.uint8),
        seed=np.zeros(1, np.uint32),
    )
    card = {
        "id": "digits-digits-wrpn-ptq-w6to8",
        "version": "1.0.0",
        "net": "digits",
        "quantizer": "wrpn",
        "recipe": "ptq",
        "activation_bitwidth": 32,
        "completeness": "exhaustive",
        "bitwidths": [6, 8],
        "layers": [layer.to_dict() for layer in evaluator.layers],
        "full_precision": {
            "weights_sha256": weights_sha256 or evaluator.weights_sha256,
            "correct": {"search": 441, "report": 442},
        },
        "splits": {"search": {"images": 450}, "report": {"images": 449}},
    }
    write_task(folder, card, {"search": measured, "report": measured})
    return TableEvaluator(load_task(folder))


@pytest.mark.parametrize("trained", [False, True])
def test_the_table_says_whether_full_precision_was_trained_on(trained):
    console = Console(file=io.StringIO(), width=200)
    full = dataclasses.replace(REPORT.full_precision, accuracy=0.9 + 0.01 * trained)
    print_report(console, dataclasses.replace(REPORT, full_precision=full))
    assert ("trained on likewise" in console.file.getvalue()) == trained


def test_result_is_read_back_as_written(tmp_path):
    for result in (RESULT, dataclasses.replace(RESULT, report=None, data="somewhere")):
        write_result(tmp_path, result)
        assert read_result(tmp_path) == result


def test_margin_pairs_the_images():
    reference = torch.tensor([True] * 9 + [False])
    right = torch.tensor([True] * 8 + [False] * 2)
    measured = _compare((4, 2), right, reference)
    assert measured.accuracy == 0.8
    assert measured.loss_points == pytest.approx(10.0)
    # One image of ten differs, and half an image each way of two more.
    margin = 196 * ((2 / 12 - (1 / 12) ** 2) / 11) ** 0.5
    assert measured.margin_points == pytest.approx(margin)
    # No difference among ten images is no proof that there is none among others.
    assert _compare((8, 8), reference, reference).margin_points == pytest.approx(196 / 132**0.5)
    scores = torch.tensor([0.5, 0.75])
    assert _compare((4, 2), scores, torch.ones(2)).margin_points == pytest.approx(12.5 * 1.96)


def test_one_image_more_or_less_is_not_as_reported():
    assert Reproduction((4, 2), 0.8, 0.8, 10, 10).agrees
    fewer = Reproduction((4, 2), 0.8, 0.8, 10, 15)
    assert not fewer.agrees and "80.00 % of 15 was reported" in str(fewer)
    other = Reproduction((4, 2), 0.9, 0.8, 10, 10)
    assert not other.agrees
    assert str(other) == "4 2: 90.00 % of 10 report images, but 80.00 % was reported"


def test_damaged_or_missing_result_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no run folder: it has no result\.json"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"finished": tr')
    with pytest.raises(ValueError, match=r"result\.json is damaged"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"report": null}')
    with pytest.raises(ValueError, match=r"result\.json is damaged"):
        read_result(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bitwidths": ["a"]}, "bitwidths=.* have to be a whole number for each layer"),
        ({"bitwidths": [8]}, "have to be a whole number for each layer"),
        ({"newer": 1, "version": "9.9"}, "it has newer, which this version .* written by 9.9"),
    ],
)
def test_results_that_no_run_writes_are_refused(tmp_path, change, sentence):
    write_result(tmp_path, RESULT)
    record = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(record | change))
    with pytest.raises(ValueError, match=sentence):
        read_result(tmp_path)


def test_unfinished_run_is_not_evaluated(tmp_path):
    write_result(tmp_path, dataclasses.replace(RESULT, finished=False))
    with pytest.raises(ValueError, match="is not finished; continue it with --resume"):
        evaluate_run(tmp_path)


def test_invented_landscape_has_no_report(tmp_path):
    assert final_report(make_synthetic("synthetic-4-0"), (8, 8, 8, 8), tmp_path) is None


def test_answer_of_a_table_is_retrained(tmp_path):
    task = digits_task(tmp_path / "task")
    report = final_report(task, (6, 8, 6, 6), tmp_path)
    assert report is not None
    assert report.source == "retrained by the long recipe"
    assert report.images == 449
    assert report.uniform.bitwidths == (8, 8, 8, 8)
    assert report.chosen.accuracy > 0.95
    names = tuple(layer.name for layer in task.layers)
    result = dataclasses.replace(
        RESULT, net="digits", layers=names, bitwidths=(6, 8, 6, 6), report=report
    )
    write_result(tmp_path, result)
    assert evaluate_run(tmp_path).agrees
    path = tmp_path / QUANTIZED_FILE
    header = json.dumps(read_header(path) | {"data": "mine"})
    path.write_bytes(save(load(path.read_bytes()), {"releq": header}))
    with pytest.raises(ValueError, match="tested 'mine', data of its own"):
        evaluate_run(tmp_path)
    assert evaluate_run(tmp_path, data=load_splits("digits")).agrees


def test_other_weights_than_the_tasks_are_not_retrained(tmp_path):
    task = digits_task(tmp_path / "task", weights_sha256="0" * 64)
    with pytest.raises(TaskError, match="with what is at hand: the weights of digits are others"):
        live_twin(task.task)
    report = final_report(task, (6, 8, 6, 6), tmp_path)
    assert report is not None
    assert report.chosen == OnReport((6, 8, 6, 6), 440 / 449, pytest.approx(100 * 2 / 449))
    assert "the weights of digits are others" in report.source


@pytest.mark.parametrize(
    ("keys", "value", "sentence"),
    [
        (("recipe_fields", "learning_rate"), 0.5, "learning_rate 0.015 instead of 0.5"),
        (("splits", "report", "sha256"), "0", "the report images of digits are others"),
        (("splits", "train", "sha256"), "0", "the train images of digits are others"),
    ],
)
def test_a_twin_with_another_recipe_or_other_images_is_refused(keys, value, sentence):
    task = find_task("digits-digits-wrpn-short-w2to8")
    assert live_twin(task).weights_sha256 == task.card["full_precision"]["weights_sha256"]
    record = task.card
    for key in keys[:-1]:
        record = record[key]
    record[keys[-1]] = value
    with pytest.raises(TaskError, match=sentence):
        live_twin(task)


def test_a_net_that_a_card_names_is_not_imported(tmp_path):
    task = digits_task(tmp_path / "task").task
    task.card["net"] = "releq_gym.networks.digits:digits"
    with pytest.raises(TaskError, match=r"what a file names is not imported; .*--net releq_gym"):
        live_twin(task)
    assert live_twin(task, net="digits").net == "digits"
    report = final_report(TableEvaluator(task), (6, 8, 6, 6), tmp_path)
    assert report is not None and "what a file names is not imported" in report.source


def test_without_retraining_the_report_says_so(tmp_path):
    evaluator = LiveEvaluator("digits", quantizer="uniform", recipe="ptq")
    report = retrain_and_report(evaluator, (6, 6, 6, 6), tmp_path, evaluator.recipe)
    assert report.source == "quantized without retraining"
    assert report.chosen.accuracy == evaluator.measure((6, 6, 6, 6), 0, "report").accuracy
    assert report.full_precision.accuracy == evaluator.measure_full_precision("report").accuracy
    assert report.checkpoint.accuracy == report.full_precision.accuracy


def test_losses_are_against_full_precision_trained_on_by_the_same_recipe(tmp_path):
    evaluator = LiveEvaluator("digits", recipe="short", memo=False)
    report = retrain_and_report(evaluator, (4, 4, 4, 4), tmp_path, "short")
    trained = evaluator.train(None, REPORT_SEED, "short")
    right = right_answers(trained, evaluator.splits.report, evaluator.device, evaluator.normalise)
    assert report.full_precision.accuracy == int(right.sum()) / len(right)
    lost = report.full_precision.accuracy - report.chosen.accuracy
    assert report.chosen.loss_points == pytest.approx(100 * lost)
    assert report.checkpoint.accuracy == evaluator.measure_full_precision("report").accuracy
