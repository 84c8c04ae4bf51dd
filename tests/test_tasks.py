import json

import numpy as np
import pytest
from toys import toy_task

from releq_gym.evaluators.table import TableEvaluator
from releq_gym.noise import first_repeat, splitmix64
from releq_gym.registry import UnknownNameError
from releq_gym.tasks import DEFAULT_TASKS, FROZEN, TaskError, find_task, load_task, shipped_tasks
from releq_gym.tasks.format import (
    ARRAYS,
    MISSING,
    array_sha256,
    card_sha256,
    configuration,
    ordered,
    write_task,
)
from releq_gym.tasks.show import describe


def test_a_task_reads_back_what_was_written(tmp_path):
    task = load_task(toy_task(tmp_path / "task"))
    assert task.name == "toy-toy-wrpn-short-w2to8/1.0.0"
    assert [layer.weights for layer in task.layers] == [10, 30]
    assert task.configurations == 9
    assert task.full_precision_accuracy("search") == 0.9
    measured = task.measurements("search")
    assert measured.correct.shape == (9, 3)
    assert set(measured.seed) & set(task.measurements("report").seed) == set()


def test_the_first_layer_is_most_significant(tmp_path):
    evaluator = TableEvaluator(load_task(toy_task(tmp_path / "task")))
    assert evaluator.index((2, 8)) == 2
    assert evaluator.index((8, 2)) == 6
    assert evaluator.evaluate((8, 2), -1).accuracy == pytest.approx(0.81, abs=0.004)
    for index in range(9):
        digits = configuration(index, 3, 2)
        assert 3 * digits[0] + digits[1] == index


def test_the_mean_is_the_mean_of_the_repeats(tmp_path):
    evaluator = TableEvaluator(load_task(toy_task(tmp_path / "task")))
    repeats = [evaluator.evaluate((4, 4), k).accuracy for k in range(3)]
    assert evaluator.evaluate((4, 4), -1).accuracy == pytest.approx(np.mean(repeats))
    assert evaluator.evaluate((4, 4), 1).milliseconds == 7


def test_many_repeats_are_single_ones_or_all_the_mean(tmp_path):
    evaluator = TableEvaluator(load_task(toy_task(tmp_path / "task")))
    rows = np.array([[4, 4], [2, 8]])
    for repeats in ([0, 2], [-1, -1]):
        many = evaluator.evaluate_many(rows, np.array(repeats))
        pairs = zip(rows.tolist(), repeats, strict=True)
        assert many.accuracy.tolist() == [evaluator.evaluate(*pair).accuracy for pair in pairs]
    for repeats in ([0, -1], [-1, 0], [0, 3], [-2, 0]):
        with pytest.raises(ValueError, match="have to be from 0 to 2, or all -1"):
            evaluator.evaluate_many(rows, np.array(repeats))


def test_report_data_is_another_split(tmp_path):
    task = load_task(toy_task(tmp_path / "task"))
    report = TableEvaluator(task, "report")
    assert report.full_precision_accuracy == 0.905
    assert report.name != TableEvaluator(task).name


def test_an_existing_task_is_not_overwritten(tmp_path):
    task = load_task(toy_task(tmp_path / "task"))
    with pytest.raises(TaskError, match="needs a new version"):
        write_task(task.folder, task.card, {})


def test_a_truncated_file_is_refused_by_name(tmp_path):
    folder = toy_task(tmp_path / "task")
    path = folder / "search.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TaskError, match=r"search\.npz is damaged or truncated"):
        load_task(folder).measurements("search")


def test_an_altered_file_is_refused_by_name(tmp_path):
    folder = toy_task(tmp_path / "task")
    with np.load(folder / "search.npz") as archive:
        arrays = {name: archive[name] for name in ARRAYS}
    arrays["correct"][0, 0] += 1
    np.savez_compressed(folder / "search.npz", **arrays)
    with pytest.raises(TaskError, match=r"search\.npz has been altered: the sha256 of correct"):
        load_task(folder).measurements("search")


def test_wrong_shapes_and_missing_cells_are_refused(tmp_path):
    folder = toy_task(tmp_path / "task")
    with np.load(folder / "search.npz") as archive:
        arrays = {name: archive[name] for name in ARRAYS}
    np.savez_compressed(folder / "search.npz", **{**arrays, "correct": arrays["correct"][:4]})
    with pytest.raises(TaskError, match=r"correct is uint32 \(4, 3\), expected uint32 \(9, 3\)"):
        load_task(folder).measurements("search")
    arrays["status"][3, 1] = MISSING
    np.savez_compressed(folder / "search.npz", **arrays)
    card = json.loads((folder / "card.json").read_text())
    card["sha256"]["search"]["status"] = array_sha256(arrays["status"])
    card["card_sha256"] = card_sha256(card)
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(TaskError, match=r"search\.npz lacks 1 measurements"):
        load_task(folder).measurements("search")


def test_a_pickle_is_never_opened(tmp_path):
    folder = toy_task(tmp_path / "task")
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(
        folder / "search.npz", correct=objects, milliseconds=objects, status=objects, seed=objects
    )
    with pytest.raises(TaskError, match=r"search\.npz is damaged"):
        load_task(folder).measurements("search")


def test_wrong_cards_are_refused(tmp_path):
    with pytest.raises(TaskError, match=r"has no card\.json"):
        load_task(tmp_path)
    card = tmp_path / "card.json"
    card.write_text("{")
    with pytest.raises(TaskError, match=r"card\.json is damaged"):
        load_task(tmp_path)
    card.write_text("[]")
    with pytest.raises(TaskError, match="schema 'releq-task/1'"):
        load_task(tmp_path)
    card.write_text('{"schema": "releq-task/1"}')
    with pytest.raises(
        TaskError, match="lacks activation_bitwidth, bitwidths, card_sha256, completeness"
    ):
        load_task(tmp_path)


def test_an_altered_card_is_refused_by_name(tmp_path):
    path = toy_task(tmp_path / "task") / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card, sort_keys=True))
    assert load_task(path.parent).images("search") == 1000  # another layout is the same card
    card["splits"]["search"]["images"] = 1001
    path.write_text(json.dumps(card))
    with pytest.raises(TaskError, match=r"card\.json has been altered: its card_sha256"):
        load_task(path.parent)


@pytest.mark.parametrize(
    ("keys", "value", "sentence"),
    [
        (("bitwidths",), [], "bitwidths must ascend"),
        (("bitwidths",), [4, 2, 8], "bitwidths must ascend"),
        (("bitwidths",), [2, 2, 8], "bitwidths must ascend"),
        (("bitwidths",), [2, 4, 9], "bitwidths must ascend"),
        (("bitwidths",), ["2", 4, 8], "bitwidths must ascend"),
        (("bitwidths",), 8, "'int' object is not iterable"),
        (("layers",), [], "layers must not be empty"),
        (("layers", 0, "sqnr_db"), [1.0], "one finite sqnr_db per bitwidth"),
        (("layers", 0, "weight_shape"), [1, -1], "weight_shape must hold sizes"),
        (("layers", 0), {"name": "first"}, "missing 7 required"),
        (("layers", 0), 3, "has no attribute 'items'"),
        (("splits",), {}, "it lacks 'search'"),
        (("splits", "report", "images"), 0, r"splits\.report\.images must be positive, not 0"),
        (("splits", "report", "images"), "9", "must be positive, not '9'"),
        (("full_precision",), {}, "it lacks 'correct'"),
        (("full_precision", "correct", "search"), 1001, "within the 1000 images, not 1001"),
        (("repeats", "report"), 2.0, r"repeats\.report must be positive, not 2\.0"),
        (("sha256", "report"), {}, "it lacks 'correct'"),
        (("net",), None, "net must be text, not None"),
    ],
)
def test_malformed_cards_are_a_sentence(tmp_path, keys, value, sentence):
    path = toy_task(tmp_path / "task") / "card.json"
    card = record = json.loads(path.read_text())
    for key in keys[:-1]:
        record = record[key]
    record[keys[-1]] = value
    card["card_sha256"] = card_sha256(card)
    path.write_text(json.dumps(card))
    with pytest.raises(TaskError, match=rf"card\.json is malformed: .*{sentence}"):
        load_task(path.parent)


def test_missing_split_is_named(tmp_path):
    folder = toy_task(tmp_path / "task")
    (folder / "report.npz").unlink()
    with pytest.raises(TaskError, match=r"report\.npz is missing"):
        load_task(folder).measurements("report")


def test_tasks_are_found_by_name_version_and_folder(tmp_path):
    name = DEFAULT_TASKS["digits"]
    version = shipped_tasks()[name][-1]
    assert find_task(name).name == find_task(f"{name}/{version}").name == f"{name}/{version}"
    assert find_task(toy_task(tmp_path / "1.0.0")).card["net"] == "toy"
    assert find_task(tmp_path).card["net"] == "toy"  # the latest version in a folder of them
    with pytest.raises(UnknownNameError, match="Did you mean"):
        find_task(name[:-1])
    with pytest.raises(UnknownNameError):
        find_task(f"{name}/9.9.9")


@pytest.mark.parametrize("name", shipped_tasks())
def test_shipped_tasks_are_whole(name):
    task = find_task(name)
    for split in ("search", "report"):
        measured = task.measurements(split)
        assert (measured.correct <= task.images(split)).all()
        assert measured.seed.tolist() == task.card["seeds"][split]
        assert len(task.card["splits"][split]["sha256"]) == 64
    # Of the first images of a split, the hash stands with their number behind it.
    assert len(task.card["splits"]["search"]["index_sha256"].split("[")[0]) == 64
    seeds = [set(task.measurements(split).seed.tolist()) for split in ("search", "report")]
    assert not seeds[0] & seeds[1]


def test_frozen_ids_name_shipped_tasks_with_their_version():
    for settings in FROZEN.values():
        if not settings["task"].startswith("synthetic"):
            assert "/" in settings["task"]
            find_task(settings["task"])


def test_splitmix64_is_the_published_one():
    # First outputs of the reference generator with seed 1234567.
    golden = 0x9E3779B97F4A7C15
    state = 1234567
    outputs = []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state = (state + golden) % 2**64
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_first_repeats_are_spread_evenly():
    counts = np.bincount([first_repeat(0, index, 10) for index in range(10_000)], minlength=10)
    assert (abs(counts - 1000) < 150).all()


@pytest.mark.parametrize("version", ["1.0.0-beta", "", "one", "1..0"])
def test_a_version_without_an_order_is_never_written(tmp_path, version):
    card = {**load_task(toy_task(tmp_path / "task")).card, "version": version}
    with pytest.raises(TaskError, match=r"has to be numbers with dots"):
        write_task(tmp_path / "other", card, {})
    assert not (tmp_path / "other").exists()
    assert ordered("1.10.0") > ordered("1.9.3")


def test_a_damaged_stream_is_refused_by_name(tmp_path):
    folder = toy_task(tmp_path / "task")
    path = folder / "search.npz"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_task(folder).measurements("search")
        except TaskError as error:
            assert "search.npz" in str(error)


def test_a_task_in_the_folder_tasks_is_pointed_out(tmp_path, monkeypatch):
    toy_task(tmp_path / "tasks" / "mine" / "1.0.0")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"There is a folder of that name, tasks.mine"):
        find_task("mine")


@pytest.mark.parametrize(
    ("ranks", "evaluations", "verdict"),
    [
        (True, 120, "ranks searchers"),
        (False, 120, "easy: does not rank searchers"),
        (False, 99, "too small to say anything about searchers"),
    ],
)
def test_what_a_task_says_of_searchers_is_shown(ranks, evaluations, verdict):
    task = find_task("digits-digits-dorefa_scaled-short-w2to8")
    task.card["landscape"] |= {"ranks_searchers": ranks, "evaluations": evaluations}
    assert f"verdict     {verdict}" in describe(task)
