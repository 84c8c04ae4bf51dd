"""Environments that start from the memo, and what makes them build the network after all."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from safetensors.torch import load_file, save_file

import releq_gym
import releq_gym.report
from releq_gym.datasets import load_splits
from releq_gym.evaluators import remembered
from releq_gym.evaluators.base import Evaluator
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.evaluators.memo import Memo
from releq_gym.evaluators.remembered import RememberedEvaluator
from releq_gym.evaluators.resolve import make_evaluator
from releq_gym.networks import Recipe, register_network, resolve_network
from releq_gym.networks.base import NETWORKS
from releq_gym.quantizers.base import QUANTIZERS
from releq_gym.quantizers.uniform import Uniform
from releq_gym.training import weights as training_weights
from releq_gym.training.weights import default_weights_path

ID = "releq/QuantizeNet-v0"

EPISODE = """
import json, sys
import gymnasium as gym
import releq_gym
env = gym.make(
    "releq/QuantizeNet-v0", net="digits", evaluator="live", recipe="ptq", quantizer="uniform",
    reward_timing="every_step", evaluator_kwargs={"memo": sys.argv[1], "device": "cpu"},
)
seen = [env.reset(seed=0)] + [env.step(int(action)) for action in sys.argv[2]]
print(json.dumps({
    "observations": [one[0].tolist() for one in seen],
    "infos": [one[-1] for one in seen],
    "torch": "torch" in sys.modules,
}))
"""


@pytest.fixture
def weights(tmp_path):
    """The shipped weights, in a file of one's own."""
    return shutil.copy(default_weights_path("digits"), tmp_path / "own.safetensors")


def make(**options):
    """As `gym.make` with ``evaluator="live"`` makes it."""
    defaults = {"net": "digits", "quantizer": "uniform", "recipe": "ptq", "device": "cpu"}
    return make_evaluator("live", **{**defaults, **options})


def refuse(*arguments, **keywords):
    raise AssertionError("this should not have been called")


def play(memo, actions):
    done = subprocess.run(
        [sys.executable, "-c", EPISODE, str(memo), actions],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_second_start_imports_no_torch_until_something_new_is_asked(tmp_path):
    memo = tmp_path / "memo.sqlite3"
    first, again, other = (play(memo, actions) for actions in ("3152", "3152", "3151"))
    assert [one["torch"] for one in (first, again, other)] == [True, False, True]
    assert again["infos"] == first["infos"]
    assert again["observations"] == first["observations"]
    live = make(memo=False)
    for info in other["infos"][1:]:
        assert info["accuracy"] == live.evaluate(info["bitwidths"], 0).accuracy


def test_none_stands_for_the_default_place_of_the_memo():
    make(memo=None)
    assert isinstance(make(), RememberedEvaluator)


def test_it_states_what_the_live_one_states():
    live, known = make(), make()
    assert isinstance(live, LiveEvaluator) and isinstance(known, RememberedEvaluator)
    assert isinstance(known, Evaluator)
    stated = (*remembered.STATED, "full_precision_accuracy", "layers", "bitwidths")
    for attribute in stated:
        assert getattr(known, attribute) == getattr(live, attribute), attribute
    assert "live" not in vars(known)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "bfloat16"},
        {"quantizer": "wrpn", "recipe": "short", "repeats": 2},
        {"activation_bitwidth": 8},
        {"recipe": None, "quantizer": None, "bitwidths": (4, 8), "repeats": 2},
    ],
)
def test_answers_are_those_of_the_live_one(options, monkeypatch):
    live = make(**options)
    rows = np.array([[8, 4, 4, 8], [4, 4, 4, 8], [8, 4, 4, 8]])
    repeats = np.arange(3) % live.repeats
    single = [live.evaluate(row, repeat) for row in rows for repeat in range(-1, live.repeats)]
    many, mean = live.evaluate_many(rows, repeats), live.evaluate_many(rows, np.full(3, -1))
    known = make(**options)
    monkeypatch.setattr(remembered, "_build", refuse)
    assert single == [
        known.evaluate(row, repeat) for row in rows for repeat in range(-1, live.repeats)
    ]
    for left, right in (
        (many, known.evaluate_many(rows, repeats)),
        (mean, known.evaluate_many(rows, np.full(3, -1))),
    ):
        for ours, theirs in zip(left, right, strict=True):
            assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist()


def test_a_miss_builds_the_live_one_which_goes_on_from_there(monkeypatch):
    make().evaluate([8, 8, 8, 8], 0)
    known, fresh = make(), make(memo=False)
    known.evaluate([8, 8, 8, 8], 0)
    assert "live" not in vars(known)
    assert known.evaluate([2, 3, 2, 3], 0).accuracy == fresh.evaluate([2, 3, 2, 3], 0).accuracy
    assert isinstance(vars(known)["live"], LiveEvaluator)
    rows = np.array([[2, 3, 2, 3], [2, 2, 2, 2]])
    many = known.evaluate_many(rows, np.zeros(2, dtype=np.intp))
    assert many.accuracy.tolist() == [fresh.evaluate(row, 0).accuracy for row in rows]
    monkeypatch.setattr(LiveEvaluator, "evaluate", refuse)
    with pytest.raises(AssertionError, match="should not have been called"):
        known.evaluate([8, 8, 8, 8], 0)


def test_everything_else_is_that_of_the_live_one():
    live, known = make(), make()
    assert not hasattr(known, "measured") and not hasattr(known, "_memo_of_old")
    assert "live" not in vars(known)
    assert known.weights_sha256 == live.weights_sha256
    assert known.measure([8, 8, 8, 8], 0, "report") == live.measure([8, 8, 8, 8], 0, "report")


@pytest.mark.parametrize(
    ("bitwidths", "repeat"), [([8, 8], 0), ([8, 8, 8, 9], 0), ([8, 8, 8, 8], 1)]
)
def test_what_cannot_be_asked_is_refused_in_the_same_words(bitwidths, repeat):
    live, known = make(), make()
    with pytest.raises(ValueError) as theirs:
        live.evaluate(bitwidths, repeat)
    with pytest.raises(ValueError) as ours:
        known.evaluate(bitwidths, repeat)
    assert str(ours.value) == str(theirs.value)
    assert "live" not in vars(known)


# What is recalled, and what is not


@pytest.mark.parametrize(
    "change",
    [
        {"quantizer": "wrpn"},
        {"quantizer_kwargs": {"per_channel": True}},
        {"recipe": "short"},
        {"bitwidths": [4, 8]},
        {"activation_bitwidth": 8},
        {"precision": "bfloat16"},
        {"repeats": 3},
        {"memory": 10**6},
        {"search_from_train": True},
        {"memo": False},
        {"memo": Memo},
    ],
)
def test_another_keyword_is_another_evaluator(change, tmp_path):
    make()
    if change.get("memo") is Memo:
        change = {"memo": Memo(tmp_path / "other.sqlite3")}
    assert isinstance(make(), RememberedEvaluator)
    assert isinstance(make(**change), LiveEvaluator)


@pytest.mark.parametrize("kind", [str, lambda path: path, Memo])
def test_the_card_lies_in_the_memo_that_is_named(kind, tmp_path, own_cache):
    memo = kind(tmp_path / "memo.sqlite3")
    make(memo=memo)
    assert not (own_cache / "memo.sqlite3").exists()
    assert isinstance(make(memo=memo), RememberedEvaluator)


def test_a_changed_weights_file_is_read_again(weights):
    options = {"weights": weights, "search_from_train": True}
    before = make(**options).weights_sha256
    assert isinstance(make(**options), RememberedEvaluator)
    os.utime(weights, ns=(1, 1))
    assert isinstance(make(**options), LiveEvaluator)
    assert isinstance(make(**options), RememberedEvaluator)
    halved = {name: tensor / 2 for name, tensor in load_file(weights).items()}
    save_file(halved, weights)
    after = make(**options)
    assert isinstance(after, LiveEvaluator) and after.weights_sha256 != before


def test_weights_that_come_to_lie_in_the_way_are_read(weights, tmp_path, monkeypatch):
    places = (tmp_path / "first.safetensors", weights)
    monkeypatch.setattr(training_weights, "weights_candidates", lambda name: places)
    make()
    assert isinstance(make(), RememberedEvaluator)
    shutil.copy(weights, places[0])
    assert isinstance(make(), LiveEvaluator)


def write_digits(path, seed):
    """The digits in another order, as a user's own file."""
    splits = load_splits("digits")
    order = np.random.default_rng(seed).permutation(len(splits.train))
    np.savez(
        path,
        train_images=splits.train.images.numpy()[order],
        train_labels=splits.train.labels.numpy()[order],
        val_images=splits.search.images.numpy(),
        val_labels=splits.search.labels.numpy(),
        test_images=splits.report.images.numpy(),
        test_labels=splits.report.labels.numpy(),
    )
    return path


def test_other_data_and_changed_data_are_read(tmp_path):
    left, right = (write_digits(tmp_path / f"{seed}.npz", seed) for seed in range(2))
    make(data=left)
    assert isinstance(make(data=left), RememberedEvaluator)
    assert isinstance(make(data=right), LiveEvaluator)
    assert isinstance(make(), LiveEvaluator)
    shutil.copy(right, left)
    assert isinstance(make(data=left), LiveEvaluator)


def test_relative_paths_hold_in_another_folder_too(tmp_path, monkeypatch):
    write_digits(tmp_path / "data.npz", 0)
    shutil.copy(default_weights_path("digits"), tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    files = {"data": "data.npz", "weights": "own.safetensors"}
    make(**files)
    known = make(**files)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert known.live.splits.name == "data"
    with pytest.raises(ValueError, match=r"data\.npz"):
        make(data="data.npz")


@pytest.mark.parametrize(
    ("what", "now"),
    [
        ("package_sha256", lambda: "another version"),
        ("_version", lambda package: "99.0"),
        ("_threads", lambda: 99),
        ("_processor", lambda: ["another one"]),
        ("PACKAGE", remembered.PACKAGE.parent),
    ],
)
def test_changed_code_or_surroundings_are_not_recalled(what, now, monkeypatch):
    make()
    assert isinstance(make(), RememberedEvaluator)
    monkeypatch.setattr(remembered, what, now)
    assert isinstance(make(), LiveEvaluator)


def test_every_source_file_of_the_package_counts(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one.py").write_text("one = 1")
    monkeypatch.setattr(remembered, "PACKAGE", tmp_path)
    seen = {remembered.package_sha256()}
    (tmp_path / "folder" / "one.py").write_text("one = 2")
    seen.add(remembered.package_sha256())
    (tmp_path / "two.py").write_text("")
    seen.add(remembered.package_sha256())
    (tmp_path / "notes.txt").write_text("no code")
    seen.add(remembered.package_sha256())
    assert len(seen) == 3


def test_another_data_folder_is_not_recalled(tmp_path, monkeypatch):
    make()
    monkeypatch.setenv("RELEQ_GYM_DATA", str(tmp_path))
    assert isinstance(make(), LiveEvaluator)


def test_where_a_gpu_may_be_only_the_cpu_is_remembered(monkeypatch):
    monkeypatch.setattr(remembered, "_gpu_possible", lambda: True)
    for _ in range(2):
        assert isinstance(make(device=None), LiveEvaluator)
    make()
    assert isinstance(make(), RememberedEvaluator)


def test_a_gpu_is_possible_where_its_device_file_is_and_it_is_not_hidden(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(remembered, "GPU_FILES", ("no-such-device*",))
    assert not remembered._gpu_possible()
    monkeypatch.setattr(remembered, "GPU_FILES", ("nul*",))
    assert remembered._gpu_possible()
    for visible, possible in (("0", True), ("", False), ("-1", False)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert remembered._gpu_possible() is possible


def test_what_was_written_while_it_was_read_is_not_remembered(weights):
    os.utime(weights, (2**32, 2**32))
    for _ in range(2):
        assert isinstance(make(weights=weights), LiveEvaluator)


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": Recipe()},
        {"quantizer": Uniform()},
        {"data": load_splits("digits")},
        {"net": "releq_gym.networks.digits:DigitsNet", "data": "digits", "search_from_train": True},
        {"net": resolve_network("digits")},
    ],
    ids=["recipe", "quantizer", "data", "factory", "network"],
)
def test_objects_are_not_remembered(options):
    for _ in range(2):
        assert isinstance(make(**options), LiveEvaluator)


def test_code_of_ones_own_is_not_remembered(weights, monkeypatch):
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS._entries))
    monkeypatch.setattr(QUANTIZERS, "_entries", dict(QUANTIZERS._entries))
    shipped = NETWORKS["digits"]

    @register_network("mine", input_shape=(1, 8, 8), dataset="digits")
    def build():
        return shipped.build()

    @QUANTIZERS.register("finer")
    class Finer(Uniform):
        name = "finer"

    for options in ({"net": "mine", "weights": weights}, {"quantizer": "finer"}):
        for _ in range(2):
            assert isinstance(make(**options), LiveEvaluator)


def test_data_that_changed_meanwhile_are_refused(tmp_path):
    path = write_digits(tmp_path / "own.npz", 0)
    make(data=path, recipe="short", repeats=1)
    known = make(data=path, recipe="short", repeats=1)
    write_digits(path, 1)
    with pytest.raises(ValueError, match=r"has changed since.*Make the environment anew"):
        known.evaluate([2, 2, 2, 2], 0)
    assert isinstance(make(data=path, recipe="short", repeats=1), LiveEvaluator)


def test_a_number_of_threads_set_meanwhile_is_no_change(monkeypatch):
    make()
    known = make()
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert known.evaluate([2, 2, 2, 2], np.int64(0)).accuracy > 0


def test_a_network_that_changed_meanwhile_is_refused(weights, monkeypatch):
    make(weights=weights)
    known = make(weights=weights)
    monkeypatch.setattr(LiveEvaluator, "_describe", lambda self, recipe: "live other")
    with pytest.raises(ValueError, match=r"has changed since: it is 'live other' now\. Make"):
        known.evaluate([2, 2, 2, 2], 0)
    assert isinstance(make(weights=weights), LiveEvaluator)


# With what stands on it


def environment(**options):
    keywords = {"evaluator_kwargs": {"device": "cpu"}, "recipe": "ptq", "quantizer": "uniform"}
    return gym.make(ID, net="digits", evaluator="live", **{**keywords, **options})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("built", [False, True])
def test_an_environment_survives_copying(copied, built):
    environment()
    env = environment()
    evaluator = env.unwrapped.problem.evaluator
    assert isinstance(evaluator, RememberedEvaluator)
    if built:
        assert evaluator.live is not None
    again = copied(env)
    for one in (env, again):
        one.reset(seed=0)
        seen = [one.step(action) for action in (0, 1, 2, 3)]
        assert seen[-1][2]
    assert seen[-1][4]["accuracy"] == evaluator.evaluate([1, 2, 3, 4], 0).accuracy


def test_an_environment_passes_the_checker():
    environment()
    env = environment()
    assert isinstance(env.unwrapped.problem.evaluator, RememberedEvaluator)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.unwrapped.task == environment().unwrapped.task


def test_a_vector_of_it_is_as_a_vector_of_the_live_one():
    live = make()
    vectors = [gym.make_vec(ID, 3, vectorization_mode="vector_entry_point", evaluator=live)]
    vectors.append(gym.make_vec(ID, 3, vectorization_mode="vector_entry_point", evaluator=make()))
    actions = np.random.default_rng(0).integers(0, 8, (8, 3))
    for vector in vectors:
        vector.reset(seed=0)
    for row in actions:
        left, right = (vector.step(row) for vector in vectors)
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])
    with pytest.raises(ValueError, match="vectorization_mode='sync'"):
        gym.make_vec(ID, 2, vectorization_mode="vector_entry_point", evaluator="live")


def test_the_report_is_that_of_the_live_one(tmp_path, monkeypatch):
    make()
    asked = []
    monkeypatch.setattr(
        releq_gym.report, "retrain_and_report", lambda evaluator, *_: asked.append(evaluator)
    )
    releq_gym.report.final_report(make(), [8, 8, 8, 8], tmp_path)
    assert isinstance(asked[0], LiveEvaluator)
