import copy
import dataclasses
import pickle
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import nn
from torch.nn import functional
from toys import unseen_digits

from releq_gym.datasets import Split, Splits, load_splits
from releq_gym.evaluators.base import Evaluator
from releq_gym.evaluators.identity import hash_weights
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.evaluators.memo import Memo
from releq_gym.networks import Recipe, resolve_network
from releq_gym.quantized import load_weights, quantize_network
from releq_gym.quantizers.base import Quantizer, symmetric_grid
from releq_gym.registry import UnknownNameError
from releq_gym.report import retrain_and_report
from releq_gym.training.device import packs_bfloat16
from releq_gym.training.weights import find_weights

QUICK = Recipe(images=192, learning_rate=1e-2)


@pytest.fixture
def live():
    """The digits net with three steps of retraining, nothing remembered."""
    return LiveEvaluator("digits", recipe=QUICK, repeats=2, memo=False)


class Linear(nn.Sequential):
    """A net of one's own, with its own weights."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))


def refuse(*arguments, **keywords):
    raise AssertionError("this should not have been called")


def test_it_fulfils_the_protocol(live):
    assert isinstance(live, Evaluator)
    assert live.net == "digits" and live.images == 450
    assert [layer.name for layer in live.layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert live.bitwidths == (2, 3, 4, 5, 6, 7, 8)
    assert 0.97 <= live.full_precision_accuracy <= 1


def test_evaluate_is_a_function_of_bitwidths_and_repeat(live):
    other = LiveEvaluator("digits", recipe=QUICK, repeats=2, memo=False)
    other.evaluate([2, 2, 8, 8], 1)
    for repeat in (0, 1):
        left, right = (one.evaluate([3, 4, 3, 4], repeat) for one in (live, other))
        assert left.accuracy == right.accuracy


def test_mean_is_over_all_repeats(live):
    each = [live.evaluate([3, 3, 3, 3], repeat).accuracy for repeat in range(2)]
    assert live.evaluate([3, 3, 3, 3], -1).accuracy == pytest.approx(sum(each) / 2)
    assert each[0] != each[1]


def test_evaluate_never_opens_the_report_split(monkeypatch):
    splits = dataclasses.replace(load_splits("digits"), read_report=refuse)
    live = LiveEvaluator("digits", data=splits, recipe=QUICK, memo=False)
    assert live.evaluate([8, 8, 8, 8], 0).accuracy > 0.9
    with pytest.raises(AssertionError, match="should not"):
        live.measure([8, 8, 8, 8], REPORT_SEED, "report")


def test_report_counts_other_images(live):
    measured = live.measure([8, 8, 8, 8], REPORT_SEED, "report")
    assert measured.images == 449
    assert measured.accuracy > 0.9
    assert live.measure_full_precision("report").accuracy > 0.9


def test_diverged_retraining_counts_nothing(live):
    recipe = dataclasses.replace(QUICK, learning_rate=1e30)
    measured = live.measure([8, 8, 8, 8], 0, recipe=recipe)
    assert measured.diverged and measured.correct == 0 and measured.accuracy == 0.0
    with pytest.raises(ValueError, match="diverged; use more bits"):
        live.train([8, 8, 8, 8], 0, recipe)


def test_ptq_has_one_repeat_and_ignores_the_seed():
    live = LiveEvaluator("digits", recipe="ptq", quantizer="uniform", repeats=10, memo=False)
    assert live.repeats == 1 and live.bitwidths == tuple(range(1, 9))
    assert live.measure([4, 4, 4, 4], 0).correct == live.measure([4, 4, 4, 4], 9).correct


@pytest.mark.parametrize(("quantizer", "reason"), [("lsq", "uniform"), ("dorefa", "rescales")])
def test_quantizer_that_needs_retraining_refuses_ptq(quantizer, reason):
    with pytest.raises(ValueError, match=rf"without retraining.*{reason}"):
        LiveEvaluator("digits", recipe="ptq", quantizer=quantizer, memo=False)


def test_quantizer_arguments_arrive():
    options = {"quantizer": "uniform", "recipe": "ptq", "memo": False, "precision": "float32"}
    per_layer = LiveEvaluator("digits", **options)
    per_channel = LiveEvaluator("digits", quantizer_kwargs={"per_channel": True}, **options)
    assert per_channel.layers[1].sqnr_db[3] > per_layer.layers[1].sqnr_db[3]


def test_train_returns_a_quantized_network(live):
    module = live.train([2, 3, 4, 5], seed=0, recipe=QUICK)
    assert len(module.fc1.weight.unique()) <= 2**4
    measured = live.measure([2, 3, 4, 5], 0)
    images = live.splits.search

    logits = module(live.normalise(images.images))
    assert int((logits.argmax(1) == images.labels).sum()) == measured.correct


def test_memo_answers_without_measuring(tmp_path, monkeypatch):
    options = {"recipe": QUICK, "repeats": 2, "memo": tmp_path / "memo.sqlite3"}
    first = LiveEvaluator("digits", **options)
    measured = first.measure([4, 4, 4, 4], 0)
    full_precision = first.full_precision_accuracy
    again = LiveEvaluator("digits", **options)
    monkeypatch.setattr("releq_gym.evaluators.live.retrain", refuse)
    monkeypatch.setattr("releq_gym.evaluators.live.sum_scores", refuse)
    assert again.measure([4, 4, 4, 4], 0) == measured
    assert again.full_precision_accuracy == full_precision
    with pytest.raises(AssertionError):
        again.measure([4, 4, 4, 4], 1)


@pytest.mark.parametrize(
    "change",
    [
        {"quantizer": "uniform"},
        {"recipe": dataclasses.replace(QUICK, weight_decay=1e-4)},
        {"weights": "other"},
    ],
)
def test_memo_is_not_shared_where_a_value_can_differ(tmp_path, monkeypatch, change):
    memo = Memo(tmp_path / "memo.sqlite3")
    LiveEvaluator("digits", recipe=QUICK, memo=memo).measure([4, 4, 4, 4], 0)
    if "weights" in change:
        module = resolve_network("digits").build()
        options = {"net": module, "data": unseen_digits(), "recipe": QUICK}
    else:
        options = {"net": "digits", "recipe": QUICK} | change
    other = LiveEvaluator(memo=memo, **options)
    monkeypatch.setattr("releq_gym.evaluators.live.retrain", refuse)
    with pytest.raises(AssertionError):
        other.measure([4, 4, 4, 4], 0)


def test_memo_tells_nets_with_equal_weights_apart(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    twin = nn.Sequential(nn.Flatten(), net[1], nn.Tanh(), net[3])
    options = {"data": unseen_digits(), "recipe": "ptq", "memo": tmp_path / "memo.sqlite3"}
    left, right = (LiveEvaluator(one, **options) for one in (net, twin))
    assert left.weights_sha256 == right.weights_sha256
    assert left._identity != right._identity


def with_dropout(probability):
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(64, 32), nn.Dropout(probability), nn.Linear(32, 10)
    return nn.Sequential(*layers)


def with_frozen(share):
    net = with_dropout(0.0)
    net[1].weight.requires_grad_(share == 0)
    return net


def with_hook(share):
    def drop(module, inputs, output):
        return functional.dropout(output, share, module.training)

    net = with_dropout(0.0)
    net[1].register_forward_hook(drop)
    return net


class Forgetting(nn.Module):
    """Drops as many as a buffer says that is not saved."""

    def __init__(self, share):
        super().__init__()
        self.register_buffer("share", torch.tensor(share), persistent=False)

    def forward(self, inputs):
        return functional.dropout(inputs, float(self.share), self.training)


def with_buffer(share):
    net = with_dropout(0.0)
    net[2] = Forgetting(share)
    return net


@pytest.mark.parametrize("build", [with_dropout, with_frozen, with_hook, with_buffer])
def test_memo_tells_nets_apart_that_only_train_differently(tmp_path, build):
    options = {"data": unseen_digits(), "recipe": QUICK, "memo": tmp_path / "memo.sqlite3"}
    one, two, again = (LiveEvaluator(build(share), **options) for share in (0.0, 0.95, 0.0))
    assert not one.forgets
    assert one.weights_sha256 == two.weights_sha256
    assert one._identity["network"] == two._identity["network"]
    assert one.measure([8, 8], 0).correct != two.measure([8, 8], 0).correct
    assert one._identity == again._identity


class Parts(nn.Module):
    """What a module keeps beside its weights decides what it computes."""

    def __init__(self, act=torch.relu, share=0.0, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)
        self.act, self.share, self.scale = act, share, scale

    def forward(self, images):
        hidden = self.act(self.first(images.flatten(1)))
        return self.scale * self.second(functional.dropout(hidden, self.share, self.training))


def test_memo_knows_a_module_by_its_attributes_and_by_small_outputs():
    options = {"data": unseen_digits(), "recipe": "ptq", "memo": False}
    sines, again = ({"act": torch.sin, "scale": 1e-3} for _ in range(2))
    ways = [{}, {"share": 0.9}, {"act": torch.sin}, {"scale": 1e-3}, sines, again]
    found = [LiveEvaluator(Parts(**way), **options)._identity_sha256 for way in ways]
    assert len(set(found)) == len(ways) - 1 and found[-1] == found[-2]
    outputs = [
        LiveEvaluator(Parts(act, scale=1e-3), **options)._identity["network"]
        for act in (torch.relu, torch.sin)
    ]
    assert outputs[0] != outputs[1]


def test_memo_knows_a_quantizer_by_its_code(tmp_path):
    def make(factor):
        @dataclasses.dataclass(frozen=True)
        class Mine(Quantizer):
            name = "mine"

            def scaled_codes(self, weight, state, bitwidth):
                return weight, weight.new_full((), factor)

            def quantize(self, weight, state, bitwidth):
                return weight * factor

            def grid(self, weight, state, bitwidth):
                return symmetric_grid(weight, weight.new_full((), factor), bitwidth)

        return Mine()

    options = {"recipe": "ptq", "bitwidths": (2, 8), "precision": "float32"}
    memo = tmp_path / "memo.sqlite3"
    accuracies = []
    for factor in (1.0, -1.0):
        live = LiveEvaluator("digits", quantizer=make(factor), memo=memo, **options)
        assert not live.forgets
        accuracies.append(live.evaluate((8, 8, 8, 8), 0).accuracy)
    assert accuracies[0] > 0.9 > 0.5 > accuracies[1]


@pytest.mark.parametrize("order", [(32, 8), (8, 32)])
def test_full_precision_has_its_own_activations(tmp_path, order):
    options = {"quantizer": "uniform", "recipe": "ptq", "precision": "bfloat16"}
    memo = Memo(tmp_path / "memo.sqlite3")
    found = [
        LiveEvaluator("digits", activation_bitwidth=bits, memo=memo, **options) for bits in order
    ]
    # As the first would be alone, whatever was asked before.
    alone = LiveEvaluator("digits", memo=False, **options).full_precision_accuracy
    assert [one.full_precision_accuracy for one in found] == [alone, alone]
    rounded = found[order.index(8)]
    calls = []
    rounded._subject.register_forward_hook(lambda *_: calls.append(1))
    rounded._measure_full_precision("report", "bfloat16")
    assert not calls


def test_the_last_layer_of_a_sequence_is_shared_rightly():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 5)).eval()
    inputs = torch.rand(200, 8, 6)
    targets = net(inputs).argmax(-1)

    def share_right(outputs, targets):
        return (outputs.argmax(-1) == targets).float().mean(1)

    splits = Splits("mine", None, Split(inputs, targets))
    options = {"quantizer": "uniform", "recipe": "ptq", "memo": False, "precision": "float32"}
    many, alone = (LiveEvaluator(net, data=splits, metric=share_right, **options) for _ in range(2))
    assignments = [(8, bits) for bits in range(1, 9)]
    together = [one.accuracy for one in many.measure_many(assignments)]
    each = [alone.measure(assignment, 0).accuracy for assignment in assignments]
    assert together == pytest.approx(each) and min(each) < 0.95 < max(each)


def test_what_bfloat16_cannot_compute_is_measured_in_float32(monkeypatch):
    class Fourier(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(5 * 8, 10)

        def forward(self, images):
            return self.last(torch.fft.rfft(images).abs().flatten(1))

    monkeypatch.setattr("releq_gym.evaluators.live.runs_bfloat16", lambda device: True)
    live = LiveEvaluator(Fourier(), data=unseen_digits(), quantizer="uniform", memo=False)
    assert live.precision == "float32"


@pytest.mark.filterwarnings("ignore:Assignments of")
def test_parameters_with_five_axes_masks_and_extra_state_do_no_harm():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)
            self.place = nn.Parameter(torch.zeros(1, 1, 8, 1, 1))
            self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))

        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, state):
            pass

        def forward(self, images):
            return self.last((self.conv(images)[:, None] + self.place).mean((1, 3, 4)))

    splits = Splits("mine", None, Split(torch.rand(20, 3, 16, 16), torch.arange(20) % 4))
    live = LiveEvaluator(Odd(), data=splits, quantizer="uniform", recipe="ptq", memo=False)
    assert 0 <= live.evaluate((8, 8), 0).accuracy <= 1


def test_a_weight_norm_is_a_sentence():
    net = Linear()
    nn.utils.parametrizations.weight_norm(net[1])
    with pytest.raises(ValueError, match="The weight of layer '1' is parametrized already"):
        LiveEvaluator(net, data=unseen_digits(), recipe="ptq", memo=False)


def test_training_labels_have_to_fit_as_well():
    digits = unseen_digits()
    train = Split(digits.train.images, digits.train.labels + 1)
    splits = dataclasses.replace(digits, train=train)
    with pytest.raises(ValueError, match="'digits' has 11 classes"):
        LiveEvaluator(Linear(), data=splits, recipe=QUICK, memo=False)


def test_a_frozen_network_cannot_be_retrained_and_says_so():
    live = LiveEvaluator(Linear().requires_grad_(False), data=unseen_digits(), recipe=QUICK)
    with pytest.raises(ValueError, match="all of its parameters are frozen"):
        live.evaluate((4,), 0)


def test_the_name_tells_evaluators_apart():
    options = {"quantizer": "uniform", "recipe": "ptq", "memo": False, "precision": "float32"}
    kwargs = {"per_channel": True}
    name = LiveEvaluator("digits", **options).name
    assert re.fullmatch("live digits/digits uniform ptq [0-9a-f]{8}", name)
    channels = LiveEvaluator("digits", quantizer_kwargs=kwargs, **options)
    assert channels.name == name.replace("uniform", "uniform(per_channel=True)")
    data = unseen_digits()
    names = {
        LiveEvaluator("digits", memo=False, repeats=2).name,
        LiveEvaluator("digits", memo=False, repeats=3).name,
        LiveEvaluator("digits", memo=False, recipe=QUICK).name,
        LiveEvaluator("digits", memo=False, recipe=Recipe(images=64)).name,
        LiveEvaluator(resolve_network("digits").build(), data=data, **options).name,
        LiveEvaluator(resolve_network("digits").build(), data=data, **options).name,
    }
    assert len(names) == 6


def test_memo_lies_in_the_cache_by_default(own_cache):
    LiveEvaluator("digits", recipe="ptq").evaluate([8, 8, 8, 8], 0)
    assert (own_cache / "memo.sqlite3").exists()


def test_copies_share_what_is_heavy_and_agree(live):
    expected = live.evaluate([3, 4, 5, 6], 1).accuracy
    copied = copy.deepcopy(live)
    assert copied is not live
    assert copied.module is live.module and copied.splits is live.splits
    assert copied.evaluate([3, 4, 5, 6], 1).accuracy == expected


def test_pickled_evaluator_agrees(live):
    expected = live.evaluate([3, 4, 5, 6], 1).accuracy
    assert pickle.loads(pickle.dumps(live)).evaluate([3, 4, 5, 6], 1).accuracy == expected


def test_full_precision_is_measured_once(live, monkeypatch):
    accuracy = live.full_precision_accuracy
    monkeypatch.setattr("releq_gym.evaluators.live.sum_scores", refuse)
    assert live.full_precision_accuracy == accuracy


def test_evaluating_leaves_the_global_generator_alone(live):
    state = torch.random.get_rng_state()
    live.evaluate([4, 4, 4, 4], 0)
    assert torch.equal(state, torch.random.get_rng_state())


def test_net_of_ones_own_brings_its_weights():
    net = Linear()
    live = LiveEvaluator(net, data=unseen_digits(), recipe=QUICK, memo=False)
    assert live.net == "Linear" and not live.search_from_train
    assert live.weights_sha256 == hash_weights(net)
    again = LiveEvaluator(net, data=unseen_digits(), recipe=QUICK, memo=False)
    assert live.evaluate([8], 0).accuracy == again.evaluate([8], 0).accuracy
    assert live.weights_sha256 == hash_weights(net)


def test_net_trained_elsewhere_needs_held_out_images():
    with pytest.raises(ValueError, match="search_from_train=True"):
        LiveEvaluator(Linear(), data="digits", recipe="ptq", memo=False)
    accepted = LiveEvaluator(
        Linear(), data="digits", recipe="ptq", memo=False, search_from_train=True
    )
    assert accepted.search_from_train and "search images from train" in accepted.name


def test_splits_in_memory_are_asked_likewise():
    digits = load_splits("digits")
    with pytest.raises(ValueError, match=r"no search split of its own.* search_from_train=True"):
        LiveEvaluator(Linear(), data=digits, recipe="ptq", memo=False)
    options = {"data": digits, "recipe": "ptq", "memo": False, "quantizer": "uniform"}
    assert LiveEvaluator(Linear(), search_from_train=True, **options).search_from_train
    # The shipped weights know which images they were trained on.
    assert not LiveEvaluator("digits", **options).search_from_train


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_search_images_that_are_training_images_are_noticed(share, recwarn):
    digits = unseen_digits()
    count = int(share * len(digits.search))
    seen = (torch.cat([a[:count], b[count:]]) for a, b in (
        (digits.train.images, digits.search.images), (digits.train.labels, digits.search.labels)
    ))  # fmt: skip
    splits = Splits("mine", digits.train, Split(*seen))
    live = LiveEvaluator(Linear(), data=splits, recipe="ptq", quantizer="uniform", memo=False)
    warned = [str(one.message) for one in recwarn if "which flatters" in str(one.message)]
    assert live.search_from_train is bool(warned) is (share > 0)


def test_floats_like_bytes_are_noticed():
    digits = unseen_digits()
    search = Split(255 * digits.search.images.float(), digits.search.labels)
    with pytest.warns(UserWarning, match="floats up to .*; a network is shown floats as they are"):
        LiveEvaluator(
            Linear(),
            data=Splits("mine", None, search),
            recipe="ptq",
            quantizer="uniform",
            memo=False,
        )


def test_a_metric_is_tried_on_several_inputs_and_has_to_be_a_function():
    inputs = torch.rand(20, 6)
    splits = Splits("mine", None, Split(inputs, inputs[:, 0]))
    options = {"data": splits, "recipe": "ptq", "quantizer": "uniform", "memo": False}
    with pytest.raises(ValueError, match=r"a tensor of shape \(1, 1\) for 1 inputs, whose outputs"):
        # Targets [n] beside outputs [n, 1].
        LiveEvaluator(nn.Linear(6, 1), metric=lambda o, t: 1 / (1 + (o - t) ** 2), **options)
    with pytest.raises(ValueError, match=r"other scores together .* than one by one"):
        LiveEvaluator(nn.Linear(6, 1), metric=lambda o, t: 1 / (1 + (o - t)[:, 0] ** 2), **options)
    with pytest.raises(ValueError, match=r"metric= failed \(TypeError: .*2 were given"):
        LiveEvaluator(nn.Linear(6, 1), metric=lambda outputs: outputs, **options)
    with pytest.raises(ValueError, match="metric= is 'mse'; it has to be a function"):
        LiveEvaluator(nn.Linear(6, 1), metric="mse", **options)


def test_a_file_that_is_called_like_a_data_set_is_not_taken_for_it(tmp_path):
    digits, arrays = load_splits("digits"), {}
    for part, split in (("train", digits.train), ("test", digits.report)):
        arrays[f"{part}_images"] = split.images.numpy()
        arrays[f"{part}_labels"] = split.labels.numpy()
    np.savez(tmp_path / "digits.npz", **arrays)
    with pytest.raises(ValueError, match="trained on other images"):
        LiveEvaluator("digits", data=tmp_path / "digits.npz", memo=False)


def test_weights_trained_on_other_images_need_it_too(tmp_path):
    from releq_gym.training.weights import add_record, find_weights

    path = tmp_path / "digits.safetensors"
    path.write_bytes(find_weights("digits").read_bytes())
    add_record(path, {"train_sha256": "of other images"})
    with pytest.raises(ValueError, match="other images"):
        LiveEvaluator("digits", weights=path, memo=False)


def test_images_without_a_training_split_allow_ptq_only():
    digits = unseen_digits()
    held_out = Splits("sample", None, digits.search, digits.read_report)
    live = LiveEvaluator("digits", data=held_out, recipe="ptq", memo=False)
    assert live.evaluate([8, 8, 8, 8], 0).accuracy > 0.9
    with pytest.raises(ValueError, match="no training split"):
        LiveEvaluator("digits", data=held_out, recipe="short", memo=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"activation_bitwidth": 4}, "activation_bitwidth=4 has to be 32"),
        ({"repeats": 0}, "at least 1"),
        ({"bitwidths": [0, 4]}, "one or more of 1 to 8"),
        ({"bitwidths": []}, "one or more of 1 to 8"),
        ({"recipe": "shrt"}, "Did you mean 'short'"),
        ({"stack": 1.5}, "stack=1.5 has to be a whole number"),
        ({"quantizer": "wrnp"}, "Did you mean 'wrpn'"),
        ({"device": "gpu"}, "Unknown device"),
        ({"weights": "missing.safetensors"}, "no file"),
    ],
)
def test_mistakes_are_sentences(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        LiveEvaluator("digits", memo=False, **options)


@pytest.mark.parametrize(
    ("bitwidths", "repeat", "sentence"),
    [
        ([8, 8, 8], 0, "4 quantized layers; got 3"),
        ([8, 8, 8, 1], 0, "bitwidth of 1 is not among"),
        ([8, 8, 8, 8], 2, "Repeat 2 does not exist"),
        ([8, 8, 8, 8], -2, "Repeat -2 does not exist"),
    ],
)
def test_questions_that_cannot_be_answered(live, bitwidths, repeat, sentence):
    with pytest.raises(ValueError, match=sentence):
        live.evaluate(bitwidths, repeat)


def test_unknown_split_is_named(live):
    with pytest.raises(UnknownNameError, match="split 'test'"):
        live.measure([8, 8, 8, 8], 0, "test")


def test_nan_weights_are_a_sentence():
    net = Linear()
    net[1].bias.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinity in '1.bias'"):
        LiveEvaluator(net, data=unseen_digits(), memo=False)


def test_net_without_data_is_a_sentence():
    with pytest.raises(ValueError, match=r"no registered net.*digits"):
        LiveEvaluator(Linear(), memo=False)


def test_images_of_another_shape_are_a_sentence():
    search = Split(torch.zeros(4, 1, 9, 9), torch.zeros(4, dtype=torch.int64))
    splits = Splits("nines", None, search, refuse)
    with pytest.raises(ValueError, match=r"inputs of shape \(1, 8, 8\).*\(1, 9, 9\)"):
        LiveEvaluator("digits", data=splits, recipe="ptq", memo=False)
    with pytest.raises(ValueError, match="cannot take an image"):
        LiveEvaluator(Linear(), data=splits, recipe="ptq", memo=False)


def test_more_classes_than_the_net_has_are_a_sentence():
    search = Split(torch.zeros(4, 1, 8, 8), torch.tensor([0, 3, 7, 11]))
    with pytest.raises(ValueError, match="12 classes"):
        LiveEvaluator("digits", data=Splits("x", None, search, refuse), recipe="ptq", memo=False)


@pytest.mark.data
def test_shipped_lenet_passes_99_2_percent(data_root):
    live = LiveEvaluator("lenet", data=data_root, memo=False)
    assert live.measure_full_precision("report").accuracy >= 0.992


def test_full_precision_can_be_trained_on_by_the_same_recipe():
    evaluator = LiveEvaluator("digits", memo=False)
    trained = evaluator.train(None, seed=1, recipe="short")
    weights = evaluator.module.state_dict()
    assert trained.state_dict().keys() == weights.keys()
    assert not torch.equal(trained.state_dict()["fc1.weight"], weights["fc1.weight"])


LIVE = {
    "net": "digits",
    "evaluator": "live",
    "quantizer": "uniform",
    "recipe": "ptq",
    "evaluator_kwargs": {"memo": False},
}


def test_the_environment_runs_live():
    env = gym.make("releq/QuantizeNet-v0", **LIVE)
    check_env(env.unwrapped)
    env.reset(seed=0)
    for _ in range(4):
        _, _, terminated, _, info = env.step(7)
    assert terminated and info["bitwidths"] == (8, 8, 8, 8)
    assert info["accuracy"] == env.unwrapped.problem.evaluator.evaluate((8,) * 4, 0).accuracy
    assert env.unwrapped.task["evaluator"].startswith("live digits/digits uniform ptq")
    # Few images cannot resolve the usual 0.3 points.
    assert env.unwrapped.problem.max_loss_points == 1.5


def test_live_environments_vectorise_in_sync_wrappers_included():
    envs = gym.make_vec(
        "releq/QuantizeNet-v0",
        2,
        vectorization_mode="sync",
        wrappers=(gym.wrappers.RecordEpisodeStatistics,),
        **LIVE,
    )
    envs.reset(seed=0)
    for _ in range(4):
        _, _, terminated, _, infos = envs.step(np.array([3, 5]))
    assert terminated.all() and infos["episode"]["l"].tolist() == [4, 4]


def test_a_net_without_recipes_is_not_retrained_by_default():
    evaluator = LiveEvaluator(Linear(), data="digits", search_from_train=True, memo=False)
    assert evaluator.recipe.images == 0 and "ptq" in evaluator.name
    assert LiveEvaluator("digits", memo=False).recipe.images > 0


def test_a_net_without_recipes_has_generic_ones_that_are_asked_for_by_name():
    data = unseen_digits()
    options = {"data": data, "memo": False, "quantizer": "uniform", "repeats": 1}
    ours = nn.Sequential(resolve_network("digits").build())
    load_weights(ours[0], find_weights("digits"))
    short = LiveEvaluator(ours, recipe="short", **options)
    assert not short.states_recipes and set(short.recipes) == {"ptq", "short", "long"}
    assert 0 < short.recipe.images < short.recipes["long"].images
    untrained = LiveEvaluator(ours, **options)
    assert untrained.recipe.images == 0
    retrained, plain = (one.evaluate([3, 3, 3, 3], 0).accuracy for one in (short, untrained))
    assert retrained > plain


def test_the_report_of_a_net_without_recipes_retrains_only_after_a_search_that_did(tmp_path):
    options = {"data": unseen_digits(), "memo": False, "quantizer": "uniform"}
    plain = LiveEvaluator(Linear(), recipe="ptq", **options)
    assert retrain_and_report(plain, (8,), tmp_path).source == "quantized without retraining"
    quick = LiveEvaluator(Linear(), recipe="short", **options)
    assert retrain_and_report(quick, (8,), tmp_path).source == "retrained by the long recipe"


def test_a_module_of_ones_own_runs_live():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    env = gym.make(
        "releq/QuantizeNet-v0",
        **{**LIVE, "net": net, "evaluator_kwargs": {"memo": False, "search_from_train": True}},
        data="digits",
    )
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(0)
    assert terminated and info["bitwidths"] == (1,)


# What is measured together, and by another measure than top-1


@pytest.fixture
def untrained():
    """Builds an evaluator of the digits net that measures without retraining."""

    def build(**options):
        defaults = {"recipe": "ptq", "quantizer": "uniform", "memo": False, "precision": "float32"}
        return LiveEvaluator("digits", **{**defaults, **options})

    return build


def test_many_assignments_are_worth_what_each_is_worth(untrained):
    rows = np.random.default_rng(0).integers(1, 9, (40, 4))
    many = untrained().evaluate_many(rows, np.zeros(40, dtype=np.intp))
    single = untrained()
    assert many.accuracy.tolist() == [single.evaluate(row, 0).accuracy for row in rows]
    by_network = untrained()
    for row, accuracy in zip(rows[:5], many.accuracy[:5], strict=True):
        module = by_network.train(row, 0, "ptq")
        images = by_network.normalise(by_network.splits.search.images)
        right = module(images).argmax(1) == by_network.splits.search.labels
        assert float(right.double().mean()) == pytest.approx(accuracy)


def test_many_assignments_are_remembered_and_told(untrained, tmp_path, monkeypatch):
    rows, told = [[b, 8, 8, 8] for b in range(1, 9)], []
    first = untrained(memo=tmp_path / "memo.sqlite3")
    measured = first.measure_many(rows[:5])
    monkeypatch.setattr("releq_gym.evaluators.live.BLOCK_SECONDS", 0.0)
    again = untrained(memo=tmp_path / "memo.sqlite3")
    assert again.measure_many(rows, advance=told.append)[:5] == measured
    assert sum(told) == 8 and told[0] == 5
    monkeypatch.setattr("releq_gym.evaluators.live.SharedForward", refuse)
    third = untrained(memo=tmp_path / "memo.sqlite3")
    assert third.measure_many([rows[7], rows[0], rows[7]])[1] == measured[0]


def test_bfloat16_is_taken_only_where_accuracy_stays(untrained, monkeypatch):
    monkeypatch.setattr("releq_gym.evaluators.live.runs_bfloat16", lambda device: True)
    for tolerance, precision in ((100.0, "bfloat16"), (-1.0, "float32")):
        monkeypatch.setattr("releq_gym.evaluators.live.BFLOAT16_POINTS", tolerance)
        chosen = untrained(precision="auto")
        assert chosen.precision == precision
        assert ("bfloat16" in chosen.name) == (precision == "bfloat16")
    monkeypatch.setattr("releq_gym.evaluators.live.BFLOAT16_POINTS", 100.0)
    assert untrained(precision="auto", recipe=QUICK).precision == "float32"
    monkeypatch.setattr("releq_gym.evaluators.live.runs_bfloat16", lambda device: False)
    assert untrained(precision="auto").precision == "float32"


def test_a_training_in_emulated_bfloat16_is_warned_of(untrained, monkeypatch):
    slow = dataclasses.replace(QUICK, precision="bfloat16")
    monkeypatch.setattr("releq_gym.training.device.runs_bfloat16", lambda device: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        untrained(recipe=QUICK), untrained(precision="bfloat16")
        with pytest.raises(UserWarning, match=r"which this CPU emulates.*'precision': 'float32'"):
            untrained(recipe=slow)
        monkeypatch.setattr("releq_gym.training.device.runs_bfloat16", lambda device: True)
        untrained(recipe=slow)


@pytest.mark.parametrize("packs", [False, True])
def test_what_computes_fully_connected_layers_makes_no_difference(untrained, monkeypatch, packs):
    monkeypatch.setattr("releq_gym.evaluators.segments.packs_bfloat16", lambda device: packs)
    if packs and not packs_bfloat16(torch.device("cpu")):
        pytest.skip("this CPU has no such instructions")
    reduced = untrained(precision="bfloat16").measure([8, 8, 8, 8], 0)
    assert reduced.accuracy == pytest.approx(
        untrained().measure([8, 8, 8, 8], 0).accuracy, abs=0.02
    )


def test_reports_are_measured_in_float32(untrained):
    full, reduced = untrained(), untrained(precision="bfloat16")
    row = [4, 4, 4, 4]
    assert full.measure(row, 0, "report")[:2] == reduced.measure(row, 0, "report")[:2]
    assert full.measure_full_precision("report")[:2] == reduced.measure_full_precision("report")[:2]


def test_every_recipe_takes_options(untrained):
    options = {"recipe_kwargs": {"reestimate_batch_norm": 64, "regularizer": "sinreq"}}
    changed = untrained(**options)
    # Batch norm knows digits as full-precision training showed them.
    assert changed.recipe == Recipe(reestimate_batch_norm=64, regularizer="sinreq", augment="shift")
    plain = untrained(recipe_kwargs=options["recipe_kwargs"] | {"augment": "none"})
    assert plain.recipe == Recipe(reestimate_batch_norm=64, regularizer="sinreq")
    assert untrained().recipes["ptq"] == Recipe()
    assert changed.recipes["long"].regularizer == "sinreq"
    assert "ptq(regularizer='sinreq', reestimate_batch_norm=64)" not in untrained().name
    assert "ptq(reestimate_batch_norm=64, regularizer='sinreq')" in changed.name
    with pytest.raises(UnknownNameError, match="Did you mean 'regularizer'"):
        untrained(recipe_kwargs={"regulariser": "sinreq"})


class Regressor(nn.Sequential):
    """One number per input of 8 numbers."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


def closeness(outputs, targets):
    """1 where the output is the target, less with distance."""
    return 1 / (1 + (outputs - targets).abs().squeeze(1))


def squared(outputs, targets):
    return (outputs - targets).square().mean()


@pytest.fixture
def regression():
    inputs = torch.rand(300, 8, generator=torch.Generator().manual_seed(1))
    targets = Regressor()(inputs).detach()
    held = [Split(inputs[i::3].contiguous(), targets[i::3].contiguous()) for i in range(3)]
    return Splits("made up", held[0], held[1], lambda: held[2])


def test_any_metric_is_measured(regression):
    options = {"data": regression, "metric": closeness, "quantizer": "uniform", "memo": False}
    live = LiveEvaluator(Regressor(), recipe="ptq", **options)
    assert live.full_precision_accuracy == pytest.approx(1.0, abs=0.01)
    coarse, fine = (live.evaluate((b, b), 0).accuracy for b in (1, 8))
    assert coarse < fine < 1.0
    with torch.inference_mode():
        outputs = live.train((2, 2), 0, "ptq")(regression.search.images)
    by_hand = float(closeness(outputs, regression.search.labels).mean())
    assert live.evaluate((2, 2), 0).accuracy == pytest.approx(by_hand, abs=0.01)


def test_a_retraining_lowers_the_loss_that_is_given(regression):
    options = {"data": regression, "metric": closeness, "quantizer": "uniform", "memo": False}
    recipe = Recipe(images=6_400, learning_rate=1e-2)
    live = LiveEvaluator(Regressor(), recipe=recipe, loss=squared, repeats=1, **options)
    before = LiveEvaluator(Regressor(), recipe="ptq", precision="float32", **options)
    assert live.evaluate((2, 2), 0).accuracy > before.evaluate((2, 2), 0).accuracy


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda outputs, targets: squared(outputs.detach(), targets), "no gradient by the outputs"),
        (lambda outputs, targets: (outputs - targets).abs(), "has to be a scalar tensor"),
    ],
    ids=["detached", "one per input"],
)
def test_a_loss_that_cannot_be_trained_by_is_refused_at_once(regression, loss, sentence):
    options = {"data": regression, "metric": closeness, "quantizer": "uniform", "memo": False}
    with pytest.raises(ValueError, match=sentence):
        LiveEvaluator(Regressor(), recipe=Recipe(images=640), loss=loss, **options)


def test_metrics_are_remembered_by_what_they_do(regression, tmp_path):
    options = {"data": regression, "quantizer": "uniform", "memo": tmp_path / "memo.sqlite3"}

    def power(exponent):
        return lambda outputs, targets: closeness(outputs, targets) ** exponent

    one, two = (
        LiveEvaluator(Regressor(), metric=power(n), recipe="ptq", **options) for n in (1, 9)
    )
    assert one.name != two.name  # by which ledgers tell their answers apart
    assert one.evaluate((2, 2), 0).accuracy > two.evaluate((2, 2), 0).accuracy


EXPONENT = 1


def by_exponent(outputs, targets):
    return closeness(outputs, targets) ** EXPONENT


def test_a_metric_is_measured_again_after_a_global_of_it_has_changed(
    regression, tmp_path, monkeypatch
):
    options = {"data": regression, "quantizer": "uniform", "memo": tmp_path / "memo.sqlite3"}
    options |= {"metric": by_exponent, "recipe": "ptq"}
    before, again = (LiveEvaluator(Regressor(), **options).evaluate((2, 2), 0) for _ in range(2))
    assert again == before  # the time that it took included
    monkeypatch.setitem(globals(), "EXPONENT", 9)
    after = LiveEvaluator(Regressor(), **options)
    assert after.evaluate((2, 2), 0).accuracy < before.accuracy
    assert not after.forgets


def test_nothing_is_kept_of_a_metric_that_cannot_be_described(regression, tmp_path):
    stream = iter(())

    def opaque(outputs, targets):
        return closeness(outputs, targets) + (stream is None)

    options = {"data": regression, "quantizer": "uniform", "recipe": "ptq"}
    live = LiveEvaluator(Regressor(), metric=opaque, memo=tmp_path / "memo.sqlite3", **options)
    live.evaluate((2, 2), 0)
    assert live.forgets.startswith("metric= uses an object of the type tuple_iterator")
    assert (
        Memo(tmp_path / "memo.sqlite3").get(live.search_fields() | {"bitwidths": [2, 2], "seed": 0})
        is None
    )


def percentage(outputs, targets):
    return 100 * closeness(outputs, targets)


def negative_error(outputs, targets):
    return -(outputs - targets).square().squeeze(1) - 1e-3


def one_is_too_large(outputs, targets):
    """In range for the first input, which is looked at before anything is measured."""
    return torch.where(torch.arange(len(outputs)) == 7, 1.5, 0.0)


@pytest.mark.parametrize(
    ("metric", "scores"),
    [
        (percentage, "100 to 100"),
        (negative_error, "-0.001 to -0.001"),
        (one_is_too_large, "0 to 1.5"),
    ],
)
def test_a_metric_outside_0_to_1_is_refused(regression, metric, scores):
    options = {"data": regression, "recipe": "ptq", "quantizer": "uniform", "memo": False}
    with pytest.raises(ValueError, match=rf"scores from {scores} .*has to lie in 0 to 1"):
        _ = LiveEvaluator(Regressor(), metric=metric, **options).full_precision_accuracy


@pytest.mark.parametrize("part", ["train", "search"])
def test_labels_below_0_are_a_sentence(part):
    digits = unseen_digits()
    parts = {"train": digits.train, "search": digits.search}
    labels = parts[part].labels - 1
    parts[part] = Split(parts[part].images, labels)
    with pytest.raises(ValueError, match=r"a label of -1; classes are counted from 0"):
        LiveEvaluator("digits", data=Splits("mine", **parts), memo=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_net_of_another_precision_is_a_sentence(dtype):
    with pytest.raises(ValueError, match=rf"is {dtype}; parameters have.*call \.float\(\)"):
        LiveEvaluator(Linear().to(dtype), data=unseen_digits(), recipe="ptq", memo=False)


class Tuple(Linear):
    def forward(self, images):
        return super().forward(images), images


def test_a_net_that_returns_no_tensor_is_a_sentence():
    with pytest.raises(ValueError, match="Tuple answers with a tuple; one tensor is needed"):
        LiveEvaluator(Tuple(), data=unseen_digits(), memo=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "top-1 accuracy needs one int64 class per image.*pass metric="),
        ({"metric": squared}, "one finite score per input"),
        ({"metric": closeness, "recipe": Recipe(images=64)}, "are no classes.*pass loss="),
        ({"metric": closeness, "precision": "float16"}, "Unknown precision"),
    ],
)
def test_mistakes_about_metrics_are_sentences(regression, options, sentence):
    defaults = {"data": regression, "recipe": "ptq", "quantizer": "uniform", "memo": False}
    with pytest.raises(ValueError, match=sentence):
        LiveEvaluator(Regressor(), **{**defaults, **options})


def test_retrainings_in_stacks_give_what_single_ones_give(monkeypatch):
    options = {"recipe": QUICK, "repeats": 3, "memo": False}
    single, stacked = (LiveEvaluator("digits", stack=stack, **options) for stack in (1, 4))
    rows = np.array([[4, 4, 4, 4], [3, 8, 3, 8], [8, 8, 8, 8]])
    expected = single.evaluate_many(rows, np.array([0, 1, -1]))
    monkeypatch.setattr("releq_gym.evaluators.live.retrain", refuse)
    with pytest.raises(AssertionError, match="should not have been called"):
        stacked.evaluate_many(rows, np.array([0, 1, -1]))  # the fifth of them is alone
    monkeypatch.undo()
    found = stacked.evaluate_many(rows, np.array([0, 1, -1]))
    # Rounding noise may flip a weight to the next level.
    assert found.accuracy == pytest.approx(expected.accuracy, abs=0.01)
    assert stacked.evaluate(rows[2], -1).accuracy == pytest.approx(found.accuracy[2], abs=0.01)


def test_what_is_asked_for_several_times_is_retrained_once(live, monkeypatch):
    evaluator = LiveEvaluator("digits", recipe=QUICK, repeats=2, memo=False)
    begun = []
    before = evaluator._retrain
    monkeypatch.setattr(evaluator, "_retrain", lambda *args: (begun.append(args), before(*args))[1])
    rows = np.array([[4, 4, 4, 4], [8, 4, 4, 4], [4, 4, 4, 4]])
    found = evaluator.evaluate_many(rows, np.zeros(3, dtype=np.intp))
    assert len(begun) == 2
    assert found.accuracy[0] == found.accuracy[2] == evaluator.evaluate(rows[0], 0).accuracy


def test_one_cache_of_activations_is_kept_at_a_time(untrained):
    evaluator = untrained()
    for split in ("search", "report", "search"):
        evaluator.measure([4, 4, 4, 4], 0, split)
        assert len(evaluator._forwards) == 1


def test_stacks_are_remembered_apart(tmp_path, monkeypatch):
    options = {"recipe": QUICK, "repeats": 2, "memo": tmp_path / "memo.sqlite3"}
    LiveEvaluator("digits", stack=2, **options).evaluate([4, 4, 4, 4], -1)
    monkeypatch.setattr("releq_gym.evaluators.live.retrain_many", refuse)
    LiveEvaluator("digits", stack=2, **options).evaluate([4, 4, 4, 4], -1)
    with pytest.raises(AssertionError, match="should not have been called"):
        LiveEvaluator("digits", stack=4, **options).evaluate([4, 4, 4, 4], -1)


class Configured(Parts):
    """Its dropout comes from an object that nobody can tell from another."""

    def __init__(self, share):
        super().__init__()
        self.config = iter([share] * 1000)

    def forward(self, images):
        hidden = self.act(self.first(images.flatten(1)))
        return self.second(functional.dropout(hidden, next(self.config), self.training))


def test_a_network_that_cannot_be_told_from_others_is_not_remembered(tmp_path):
    options = {"data": unseen_digits(), "recipe": QUICK, "memo": tmp_path / "memo.sqlite3"}
    one, two = (LiveEvaluator(Configured(share), **options) for share in (0.0, 0.95))
    assert one.forgets.startswith("the network uses .config: an object of the type list_iterator")
    assert one.measure([8, 8], 0).correct != two.measure([8, 8], 0).correct
    # Without retraining its answers tell it, unless it is asked to retrain after all.
    one, two = (
        LiveEvaluator(Configured(share), **{**options, "recipe": "ptq"}) for share in (0.0, 0.95)
    )
    assert not one.forgets
    assert one.measure([8, 8], 0) == two.measure([8, 8], 0)
    found = [each.measure([8, 8], 0, recipe=QUICK).correct for each in (one, two)]
    assert found[0] != found[1]


def test_a_metric_tells_outputs_of_another_scale_apart():
    options = {"data": unseen_digits(), "recipe": "ptq", "memo": False}
    nets = [Parts(), Parts(), Parts()]
    nets[1].second.weight.data.mul_(2.0), nets[1].second.bias.data.mul_(2.0)
    scaled, plain = (
        [LiveEvaluator(net, metric=metric, **options)._identity["network"] for net in nets]
        for metric in (lambda outputs, targets: outputs.softmax(1).amax(1), None)
    )
    assert scaled[0] != scaled[1] and scaled[0] == scaled[2]
    assert plain[0] == plain[1]


def test_without_a_memo_nothing_is_measured_twice_either(live, monkeypatch):
    first = live.evaluate([4, 4, 4, 4], 0), live.evaluate([4, 4, 4, 4], -1)
    monkeypatch.setattr(LiveEvaluator, "_retrain", refuse)
    assert (live.evaluate([4, 4, 4, 4], 0), copy.deepcopy(live).evaluate([4, 4, 4, 4], -1)) == first


class Viewing(nn.Module):
    """Calls ``view`` on features, which channels-last ones refuse."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 3)

    def forward(self, images):
        features = torch.relu(self.norm(self.conv(images)))
        return self.fc(functional.max_pool2d(features, 7).view(-1, 16))


class Insisting(nn.Module):
    """Takes images of another size, whatever their memory layout."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1024, 3)

    def forward(self, images):
        assert images.shape[-1] == 32, "32 pixels"
        return self.fc(images.flatten(1))


def test_whatever_a_network_raises_is_a_sentence():
    splits = Splits("own", None, Split(torch.rand(40, 1, 16, 16), torch.arange(40) % 3))
    with pytest.raises(ValueError, match=r'cannot take an image of shape .*: "32 pixels'):
        LiveEvaluator(Insisting(), data=splits, quantizer="uniform", recipe="ptq", memo=False)


def test_a_network_that_works_in_one_memory_layout_alone_is_measured_in_that():
    torch.manual_seed(0)
    module = Viewing()
    module.norm.eval()
    images, labels = torch.rand(40, 1, 16, 16), torch.arange(40) % 3
    splits = Splits("own", None, Split(images, labels))
    options = {"data": splits, "quantizer": "uniform", "recipe": "ptq", "memo": False}
    live = LiveEvaluator(module, **options)
    quantized = quantize_network(module, ["conv", "fc"], [3, 2], live.quantizer).eval()
    right = (quantized(images).argmax(1) == labels).float().mean()
    assert live.evaluate([3, 2], 0).accuracy == pytest.approx(float(right))
