import csv
import dataclasses
import itertools
import re
import subprocess
import sys

import numpy
import pytest
import torch
from torch import nn

import releq_gym
from releq_gym import mixed_precision, search_display
from releq_gym.datasets import Split, Splits, load_splits
from releq_gym.evaluators.forward import SharedForward
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.layers import FULL_PRECISION
from releq_gym.networks import NETWORKS, Network, Recipe, network_layers
from releq_gym.networks.profile import unquantized_parameters
from releq_gym.quantized import load_weights, read_header
from releq_gym.report import evaluate_run
from releq_gym.result import read_result
from releq_gym.training.weights import find_weights


def labelled(module, shape, images=64, name="own", report=True):
    """Random inputs that the full-precision module classifies without a mistake."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((2 * images, *shape), generator=generator)
    with torch.no_grad():
        labels = module.eval()(inputs).argmax(1)
    search, held = (Split(inputs[i::2], labels[i::2]) for i in range(2))
    return Splits(name, None, search, (lambda: held) if report else None)


def toy_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Flatten()),
            nn.Linear(32, 5),
        )
        for parameter in module.parameters():
            # Around 0 and large, so that the inputs decide the class.
            parameter.data = torch.randn_like(parameter) if parameter.ndim > 1 else 0 * parameter
        return module


@pytest.fixture
def toy():
    module = toy_net()
    return module, labelled(module, (1, 8, 8), images=200)


OPTIONS = {
    "max_loss_points": 8.0,
    "bitwidths": (2, 3, 4, 8),
    "evaluation_budget": 20,
    "progress": False,
    "quantizer_kwargs": {},
}


def all_assignments(module, splits):
    """Every assignment's loss and cost, by a fresh evaluator that remembers nothing."""
    live = LiveEvaluator(
        module, data=splits, quantizer="uniform", recipe="ptq", bitwidths=(2, 3, 4, 8), memo=False
    )
    return live, {
        bitwidths: live.evaluate(bitwidths, 0).accuracy
        for bitwidths in itertools.product(live.bitwidths, repeat=len(live.layers))
    }


def test_its_figures_are_those_of_a_fresh_evaluator_and_nothing_beats_its_pareto_set(toy):
    module, splits = toy
    result = releq_gym.search(module, splits, **OPTIONS)
    live, accuracies = all_assignments(module, splits)
    points = result.pareto
    assert len(points) > 3
    for point in points:
        assert point.accuracy == accuracies[point.bitwidths]
        lost = 100 * (live.full_precision_accuracy - point.accuracy)
        assert point.loss_points == pytest.approx(lost)
    for one, other in itertools.permutations(points, 2):
        assert not (one.cost <= other.cost and one.loss_points <= other.loss_points)
    assert result.record.evaluations == 20


def test_report_images_that_are_searched_on_are_warned_of(toy):
    module, splits = toy
    both = Splits("own", None, splits.search, lambda: splits.search)
    with pytest.warns(
        UserWarning, match="200 of the 200 report images of 'own' are among its search"
    ):
        releq_gym.search(module, both, **{**OPTIONS, "evaluation_budget": 2})


def test_a_full_budget_finds_the_optimum(toy):
    module, splits = toy
    result = releq_gym.search(module, splits, **{**OPTIONS, "evaluation_budget": 64})
    live, accuracies = all_assignments(module, splits)
    floor = mixed_precision.QuantizeNetEnv(
        evaluator=live, reward_kwargs={"max_loss_points": 8.0}
    ).problem

    def worth(item):
        return floor.objective(item[0], item[1] - floor.caution(item[1]))

    best = max(accuracies.items(), key=worth)
    assert result.record.evaluations == 64
    assert worth((result.chosen.bitwidths, result.chosen.accuracy)) == worth(best)
    assert result.tolerable and "may be lost" in str(result)


def test_a_result_states_the_figures_of_its_cost_model(toy, tmp_path):
    module, splits = toy
    hardware = {"cost": "weight_serial", "cost_budget": {"microjoules": 1e3}}
    result = releq_gym.search(module, splits, folder=tmp_path, **OPTIONS | hardware)
    record = read_result(tmp_path)
    assert record == result.record and "WeightSerial" in record.cost_model
    assert record.provenance["quantizer"] == "uniform"
    assert record.provenance["recipe"]["images"] == 0
    assert list(record.figures) == ["cycles", "milliseconds", "microjoules"]
    assert f"{record.figures['microjoules']:,.4g} of at most 1,000" in str(result)
    (row, *_) = csv.DictReader((tmp_path / "pareto.csv").read_text().splitlines())
    assert float(row["microjoules"]) == result.pareto[0].figures["microjoules"] > 0


def test_the_same_seed_gives_the_same_result(toy):
    module, splits = toy
    first, second = (releq_gym.search(module, splits, memo=False, **OPTIONS) for _ in range(2))
    assert (first.chosen, first.pareto) == (second.chosen, second.pareto)


def test_an_interrupted_search_goes_on_without_measuring_anything_again(
    toy, tmp_path, monkeypatch, capfd
):
    module, splits = toy
    options = {**OPTIONS, "memo": tmp_path / "memo.sqlite3"}
    whole = releq_gym.search(module, splits, **OPTIONS)
    measured, scores, limit = [], SharedForward.scores, 12

    def counted(self, assignments, *arguments):
        assignments = [tuple(one) for one in assignments]
        searched = [one for one in assignments if FULL_PRECISION not in one]
        if len(measured) + len(searched) > limit:
            raise KeyboardInterrupt
        measured.extend(searched)
        return scores(self, assignments, *arguments)

    monkeypatch.setattr(SharedForward, "scores", counted)
    with pytest.raises(KeyboardInterrupt):
        releq_gym.search(module, splits, **options | {"progress": True})
    assert re.search(r"best of 1[0-2] assignments: [\d ]+, cost [01]\.\d+", capfd.readouterr().err)
    before, limit = list(measured), 100
    assert len(before) == len(set(before)) == 12
    measured.clear()
    resumed = releq_gym.search(module, splits, report=False, **options)
    assert (resumed.chosen, resumed.pareto) == (whole.chosen, whole.pareto)
    # One of the twelve was measured beforehand, to tell how long it takes.
    assert len(measured) == 9 and not set(measured) & set(before)


def test_the_network_is_what_the_saved_file_holds(toy, tmp_path):
    module, splits = toy
    result = releq_gym.search(module, splits, folder=tmp_path / "new" / "folder", **OPTIONS)
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        "pareto.csv",
        "pareto.png",
        "quantized.safetensors",
        "result.json",
    ]
    loaded = releq_gym.load_quantized(folder / "quantized.safetensors", module)
    images = splits.search.images
    assert torch.equal(loaded(images), result.network(images))
    assert not result.network.training
    for name, bitwidth in zip(result.layers, result.chosen.bitwidths, strict=True):
        assert len(result.network.get_submodule(name).weight.unique()) < 2**bitwidth
    right = (result.network(images).argmax(1) == splits.search.labels).float().mean()
    assert float(right) == pytest.approx(result.chosen.accuracy)
    rows = list(csv.DictReader((folder / "pareto.csv").read_text().splitlines()))
    listed = [" ".join(map(str, point.bitwidths)) for point in result.pareto]
    assert [row["bitwidths"] for row in rows] == listed
    assert read_result(folder) == result.record
    header = read_header(folder / "quantized.safetensors")
    assert (header["mean"], header["std"]) == ([0.0], [1.0]) and "its inputs" not in str(result)
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_split_is_opened_once_for_the_answer_or_not_at_all(toy):
    module, splits = toy
    opened = []
    held = splits.read_report
    watched = Splits("own", None, splits.search, lambda: opened.append(None) or held())
    assert releq_gym.search(module, watched, report=False, **OPTIONS).record.report is None
    assert not opened
    report = releq_gym.search(module, watched, **OPTIONS).record.report
    assert len(opened) == 1 and report.images == 200
    without = Splits("own", None, splits.search)
    assert releq_gym.search(module, without, **OPTIONS).record.report is None
    with pytest.raises(ValueError, match="no report split; pass read_report="):
        _ = without.report


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (lambda: None, "ValueError: read_report of 'own' returned a NoneType"),
        (lambda: open("there is none"), "FileNotFoundError"),
        (lambda: Split(torch.rand(9, 1, 4, 4), torch.zeros(9, dtype=torch.int64)), "(1, 4, 4)"),
    ],
    ids=["nothing", "missing", "another shape"],
)
def test_a_report_split_that_cannot_be_used_loses_no_answer(toy, tmp_path, held, why):
    module, splits = toy
    with pytest.warns(UserWarning, match="The answer is not tested on the report split"):
        result = releq_gym.search(
            module, Splits("own", None, splits.search, held), folder=tmp_path, **OPTIONS
        )
    assert why in result.untested and result.record.report is None
    assert (tmp_path / "quantized.safetensors").is_file()


def test_a_loss_on_few_images_carries_its_margin(toy):
    module, splits = toy
    result = releq_gym.search(module, splits, **OPTIONS)
    lost = result.chosen.loss_points / 100
    # Full precision is always right here, so that the pairs are a plain share; two more count.
    wrong = (200 * lost, 1)
    expected = 196 * ((sum(wrong) / 202 - (wrong[0] / 202) ** 2) / 201) ** 0.5
    assert result.record.margin_points == pytest.approx(expected, abs=1e-3)
    assert f"± {expected:.2f} points" in str(result)


def test_it_says_so_where_nothing_keeps_the_loss(toy):
    module, splits = toy
    options = {**OPTIONS, "max_loss_points": 0.0, "bitwidths": (1, 2)}
    result = releq_gym.search(module, splits, **options)
    assert not result.tolerable
    assert "Nothing that was measured keeps the loss within that" in str(result)
    assert result.chosen.loss_points == min(point.loss_points for point in result.pareto)
    assert "raise cost_budget" not in str(result)


@pytest.mark.parametrize("per_channel", [False, True])
def test_where_scales_spend_a_budget_of_bytes_the_advice_names_them(toy, per_channel):
    module, splits = toy
    options = {**OPTIONS, "max_loss_points": 0.0, "cost": "model_size"}
    options["quantizer_kwargs"] = {"per_channel": per_channel}
    fewest = releq_gym.search(module, splits, **options | {"bitwidths": (2,)}).chosen
    budget = {"bytes": fewest.figures["bytes"]}
    result = releq_gym.search(module, splits, **options, cost_budget=budget)
    assert "raise cost_budget" in str(result)
    assert ("--per-layer" in str(result)) == per_channel


def test_a_retraining_may_make_better_what_a_metric_measures(regression):
    module, splits = regression
    with torch.no_grad():
        module[2].bias += 1.0  # badly trained
    train = Split(splits.search.images.clone() * 0.9, splits.search.labels.clone())
    retrained = {"recipe": Recipe(images=3_200, learning_rate=0.1), "loss": nn.functional.mse_loss}
    with pytest.warns(UserWarning, match="points better than full precision. Is 1 perfect"):
        releq_gym.search(
            module,
            dataclasses.replace(splits, train=train),
            max_loss_points=5.0,
            **{**METRIC, **retrained, "evaluation_budget": 2},
        )


def test_layers_can_be_fixed_and_costs_limited(toy):
    module, splits = toy
    result = releq_gym.search(
        module, splits, fixed_bitwidths={"0": 8}, cost_budget={"cost": 0.45}, **OPTIONS
    )
    assert all(point.bitwidths[0] == 8 and point.cost <= 0.45 + 1e-9 for point in result.pareto)


def test_a_fixed_layer_may_have_bits_that_no_other_one_is_offered(toy):
    module, splits = toy
    options = {**OPTIONS, "bitwidths": (3, 4), "fixed_bitwidths": {"0": 8}}
    result = releq_gym.search(module, splits, **options)
    assert {point.bitwidths[0] for point in result.pareto} == {8}
    assert {bits for point in result.pareto for bits in point.bitwidths[1:]} <= {3, 4}
    assert result.record.evaluations == 4


def test_one_bitwidth_alone_is_measured_without_a_warning(toy):
    module, splits = toy
    result = releq_gym.search(module, splits, **{**OPTIONS, "bitwidths": [3]})
    assert result.chosen.bitwidths == (3, 3, 3) and result.record.evaluations == 1


def test_full_precision_near_chance_is_warned_of(toy):
    module, splits = toy
    shuffled = Split(splits.search.images, splits.search.labels[torch.randperm(200)])
    with pytest.warns(UserWarning, match=r"hardly more than always naming one.* does it need mean"):
        releq_gym.search(module, Splits("own", None, shuffled), **OPTIONS)


def test_the_network_equals_the_loaded_one_to_the_bit_where_channels_last_is_faster(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            *(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)),
        )
    splits = labelled(module, (3, 20, 20), images=40)
    result = releq_gym.search(module, splits, folder=tmp_path, **OPTIONS)
    loaded = releq_gym.load_quantized(tmp_path / "quantized.safetensors", module)
    images = splits.search.images
    assert torch.equal(loaded(images), result.network(images))
    assert result.network[2].weight.is_contiguous()


def test_it_says_which_images_are_which(toy, tmp_path, capfd):
    module, splits = toy
    options = {**OPTIONS, "progress": True}
    releq_gym.search(module, splits, **options)
    assert "own: search is 200 images, report is opened in the end" in capfd.readouterr().err
    arrays = {}
    for part, place in (("val", slice(150)), ("test", slice(150, None))):
        arrays[f"{part}_images"] = splits.search.images[place].numpy()
        arrays[f"{part}_labels"] = splits.search.labels[place].numpy()
    numpy.savez(tmp_path / "mine.npz", **arrays)
    releq_gym.search(module, tmp_path / "mine.npz", **options)
    said = capfd.readouterr().err
    assert "mine: search is val (150 images), report is test (50)" in said


def test_swapped_arguments_and_other_data_are_a_sentence(toy):
    module, splits = toy
    with pytest.raises(ValueError, match="the network comes first, then the data"):
        releq_gym.search(splits, module)
    pairs = torch.utils.data.TensorDataset(splits.search.images, splits.search.labels)
    with pytest.raises(ValueError, match=r"data= is a TensorDataset; .*Splits\(name, train"):
        releq_gym.search(module, pairs)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"searcher": "inteer_program"}, "Did you mean 'integer_program'"),
        ({"max_loss_points": -1.0}, "max_loss_points=-1.0 has to be a number of points, 0 or"),
        ({"max_loss_points": float("nan")}, "max_loss_points=nan has to be a number of points"),
        ({"max_loss_points": "a"}, "max_loss_points='a' has to be a number of points"),
        ({"bitwidths": 4}, "bitwidths=4 has to be a list for all layers, such as [2, 4, 8]"),
        ({"bitwidths": [2.5]}, "bitwidths=[2.5]; give one or more of 1 to 8"),
        ({"bitwidths": {"0": [4, 8]}}, "fixed_bitwidths={layer: bitwidth} says what one layer"),
        ({"loss": print}, "recipe='ptq' retrains nothing"),
        ({"loss": "mse"}, "loss= is 'mse'; it has to be a function"),
        ({"quantizer_kwargs": ["x"]}, "quantizer_kwargs=['x'] has to be a dict"),
        ({"memo": 5}, "memo=5 has to be True, False, the path of a file, or a Memo"),
        ({"evaluation_budget": 0}, "evaluation_budget=0 must be a whole number"),
        ({"evaluation_budget": 2.5}, "evaluation_budget=2.5 must be a whole number"),
        ({"quantizer": "unifrom"}, "Did you mean 'uniform'"),
        ({"fixed_bitwidths": {"9": 8}}, "Unknown layer in fixed_bitwidths '9'"),
        ({"fixed_bitwidths": {"9": 8}}, "Known: 0, 2.0, 3."),
        ({"fixed_bitwidths": {"0": 9}}, "fixed_bitwidths['0'] = 9 is not among"),
        ({"cost": "weighted_bitwith"}, "Did you mean 'weighted_bitwidth'"),
    ],
    ids=str,
)
def test_mistakes_are_a_sentence_before_anything_is_measured(toy, options, sentence, monkeypatch):
    module, splits = toy
    monkeypatch.setattr(LiveEvaluator, "_retrain", lambda *a: pytest.fail("was measured"))
    with pytest.raises(ValueError) as caught:
        releq_gym.search(module, splits, **{**OPTIONS, **options})
    assert sentence in str(caught.value)


def test_too_few_images_to_tell_what_may_be_lost_are_warned_of(toy):
    module, splits = toy
    options = {**OPTIONS, "searcher": "uniform", "max_loss_points": 0.3}
    with pytest.warns(UserWarning, match=r"One of 200 search images is 0\.5 points, more than"):
        releq_gym.search(module, splits, **options)


def test_labels_from_1_and_images_without_channels_are_explained(toy):
    module, splits = toy
    images, labels = splits.search.images, splits.search.labels
    with pytest.raises(ValueError, match=r"6 classes; .*Its labels begin at 1"):
        releq_gym.search(module, Splits("own", None, Split(images, labels + 1)), **OPTIONS)
    flat = Split(images[:, 0], labels)
    with pytest.raises(ValueError, match=r"an image of shape \(8, 8\).*images\[:, None"):
        releq_gym.search(nn.Sequential(nn.BatchNorm2d(1), module), Splits("own", None, flat))


def test_a_folder_that_is_a_file_is_refused(toy, tmp_path):
    module, splits = toy
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        releq_gym.search(module, splits, folder=tmp_path / "file", **OPTIONS)
    with pytest.raises(ValueError, match="cannot be written"):
        releq_gym.search(module, splits, folder=tmp_path / "file" / "below", **OPTIONS)


def test_it_announces_time_and_what_is_not_quantized(capfd):
    module = Attention()
    found = releq_gym.search(module, labelled(module, (4, 8)), **{**OPTIONS, "progress": True})
    captured = capfd.readouterr()
    assert captured.out == ""
    left = r"not quantized: [\d,]+ weights, [\d,]+ bytes in float32, which no figure counts"
    assert re.search(left + ", of tokens.weight, attention.in_proj_weight", captured.err)
    assert re.search(left, str(found))
    assert found.record.unquantized == found.unquantized
    assert found.record.full_precision_accuracy == found.full_precision_accuracy
    assert "16 assignments at " in captured.err  # all there are
    assert captured.err.count("in_proj_weight") == 1


class Attention(nn.Module):
    """Holds weights that belong to no quantizable layer."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.tokens = nn.Embedding(4, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.between = nn.Linear(8, 8)
            self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = inputs + self.tokens.weight
        hidden = hidden + self.attention(hidden, hidden, hidden)[0]
        return self.head(self.between(hidden).relu().mean(1))


def test_unquantized_parameters_are_those_of_no_quantized_layer():
    module = Attention()
    layers = network_layers(module, (4, 8))
    names = unquantized_parameters(module, layers)
    assert {"tokens.weight", "attention.in_proj_weight"} <= set(names)
    assert not {"head.weight", "between.weight", "head.bias"} & set(names)
    assert unquantized_parameters(toy_net(), network_layers(toy_net(), (1, 8, 8))) == ()


class Twice(nn.Module):
    """Uses one layer twice."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, inputs):
        hidden = self.first(inputs).relu()
        return self.last(self.shared(self.shared(hidden).relu()).relu())


def sequence_net():
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(8, 8, 5, padding=2, groups=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(32, 6),
    )


def resnet18():
    torchvision = pytest.importorskip("torchvision")
    return torchvision.models.resnet18(num_classes=10)


def mobilenet_v3_small():
    torchvision = pytest.importorskip("torchvision")
    return torchvision.models.mobilenet_v3_small(num_classes=10)


def vit_tiny():
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=10)


@pytest.mark.parametrize(
    ("build", "shape", "layers"),
    [
        (sequence_net, (3, 40), 3),
        (Twice, (12,), 3),
        (resnet18, (3, 32, 32), 21),
        (mobilenet_v3_small, (3, 32, 32), 54),
        (vit_tiny, (3, 32, 32), 50),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_any_module_with_convolutions_or_linear_layers_is_searched(build, shape, layers):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build()
    splits = labelled(module, shape, images=16, report=False)
    result = releq_gym.search(
        module,
        splits,
        max_loss_points=20.0,
        quantizer="wrpn",  # needs no fit, which takes seconds on millions of weights
        bitwidths=(4, 8),
        evaluation_budget=6,
        progress=False,
        memo=False,
    )
    assert len(result.layers) == len(result.chosen.bitwidths) == layers
    assert result.record.evaluations == 6
    right = result.network(splits.search.images).argmax(1) == splits.search.labels
    assert right.double().mean().item() == pytest.approx(result.chosen.accuracy)


def test_importing_the_name_loads_no_torch():
    code = (
        "import sys, releq_gym; assert 'search' in releq_gym.__all__; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_groups_share_a_bitwidth(toy):
    module, splits = toy
    names = [layer.name for layer in network_layers(module, splits.search.images.shape[1:])]
    result = releq_gym.search(module, splits, groups=[[names[0], names[2]]], memo=False, **OPTIONS)
    for point in result.pareto:
        assert point.bitwidths[0] == point.bitwidths[2]


def closeness(outputs, targets):
    return 1 / (1 + 10 * (outputs - targets).abs().squeeze(1))


@pytest.fixture
def regression():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
        inputs, held = torch.rand(200, 6), torch.rand(100, 6)
    with torch.no_grad():
        search, report = (Split(one, module(one)) for one in (inputs, held))
    return module, Splits("regression", None, search, lambda: report)


METRIC = {"metric": closeness, "progress": False, "quantizer_kwargs": {}, "evaluation_budget": 20}


def test_a_metric_of_ones_own_is_searched_on(regression):
    module, splits = regression
    found = [
        releq_gym.search(module, splits, max_loss_points=limit, **METRIC) for limit in (5.0, 30.0)
    ]
    assert all(result.tolerable for result in found)
    assert found[0].chosen.cost > found[1].chosen.cost


@pytest.mark.parametrize("scale", [1e-3, 0.1, 100.0])
def test_an_error_for_a_metric_is_refused(regression, scale):
    module, splits = regression

    def error(outputs, targets):
        return (outputs - targets).abs().mean(1) * scale + 1e-4 * scale

    with pytest.raises(ValueError, match=r"all layers at 1 bits are worth .* Is 1 perfect"):
        releq_gym.search(module, splits, max_loss_points=5.0, **METRIC | {"metric": error})


def test_a_metric_by_which_full_precision_is_worthless_is_refused(regression):
    module, splits = regression

    def flat(outputs, targets):
        return outputs[:, 0] * 0

    with pytest.raises(ValueError, match="full precision is worth 0"):
        releq_gym.search(module, splits, max_loss_points=5.0, **METRIC | {"metric": flat})


def test_a_metric_is_reported_with_its_paired_margin_and_can_be_evaluated(regression, tmp_path):
    module, splits = regression
    result = releq_gym.search(module, splits, max_loss_points=20.0, folder=tmp_path, **METRIC)
    report, record = result.record.report, result.record
    for held, measured, margin in (
        (splits.report, report.chosen, report.chosen.margin_points),
        (splits.search, result.chosen, record.margin_points),
    ):
        # Full precision is always perfect here.
        lost = 1 - closeness(result.network(held.images), held.labels).detach().double()
        assert measured.loss_points == pytest.approx(100 * float(lost.mean()), abs=1e-3)
        assert margin == pytest.approx(196 * float(lost.std()) / len(lost) ** 0.5, abs=1e-3)
    assert "report split: mean score" in str(result)
    with pytest.raises(ValueError, match=r"by the metric 'closeness', a function that the folder"):
        evaluate_run(tmp_path, data=splits, net=module)
    again = evaluate_run(tmp_path, data=splits, net=module, metric=closeness)
    assert again.agrees and "mean closeness" in str(again)
    other = evaluate_run(tmp_path, data=splits, net=module, metric=lambda *a: closeness(*a) / 2)
    assert not other.agrees


def test_without_a_report_split_the_result_and_evaluate_say_so(regression, tmp_path):
    module, splits = regression
    without = Splits("regression", None, splits.search)
    result = releq_gym.search(module, without, max_loss_points=20.0, folder=tmp_path, **METRIC)
    assert "report split: there is none" in str(result)
    unasked = releq_gym.search(module, splits, max_loss_points=20.0, report=False, **METRIC)
    assert "report split: not opened (report=False)" in str(unasked)
    with pytest.raises(ValueError, match="has tested nothing on a report split"):
        evaluate_run(tmp_path, data=splits, net=module, metric=closeness)


def test_it_says_why_nothing_is_kept(regression, capfd):
    module, splits = regression
    stream = iter(())
    options = {**METRIC, "progress": True, "max_loss_points": 20.0}
    releq_gym.search(module, splits, **options)
    assert "what is measured is kept" in capfd.readouterr().err
    options["metric"] = lambda *a: closeness(*a) if stream is not None else None
    releq_gym.search(module, splits, **options)
    said = capfd.readouterr().err
    assert "nothing is kept: metric= uses an object of the type tuple_iterator" in said
    assert "what is measured is kept" not in said and "measured before" not in said
    releq_gym.search(module, splits, **{**options, "metric": closeness, "memo": False})
    assert "nothing is kept: memo=False" in capfd.readouterr().err


def test_the_answer_is_said_to_keep_a_standard_error_away_only_where_it_does(toy):
    module, splits = toy
    result = releq_gym.search(module, splits, **OPTIONS)
    lost = result.chosen.loss_points
    error = 100 * (lost / 100 / 200) ** 0.5
    assert lost + error <= 8.0
    away = f"stays a standard error or more below that ({error:.2f} points)"
    assert f"8.00 points may be lost; the answer {away}" in str(result)
    near = dataclasses.replace(
        result, record=dataclasses.replace(result.record, max_loss_points=lost + error / 2)
    )
    assert f"nothing that was measured {away}" in str(near)


def test_the_result_of_a_command_is_not_replaced_from_python(toy, tmp_path):
    module, splits = toy
    options = {**OPTIONS, "folder": tmp_path, "report": False}
    for _ in range(2):  # a script may run again
        releq_gym.search(module, splits, **options)
    releq_gym.search(
        module, splits, **options | {"folder": tmp_path / "own"}, command="releq search"
    )
    with pytest.raises(ValueError, match="own holds the result of another search, which would be"):
        releq_gym.search(module, splits, **options | {"folder": tmp_path / "own"})


@pytest.mark.parametrize("lost", [8.0, 8.1])
def test_an_answer_that_loses_too_much_on_other_images_is_told(toy, lost):
    module, splits = toy
    result = releq_gym.search(module, splits, **OPTIONS)
    held = dataclasses.replace(result.record.report.chosen, loss_points=lost)
    report = dataclasses.replace(result.record.report, chosen=held)
    told = dataclasses.replace(result, record=dataclasses.replace(result.record, report=report))
    assert ("That is more than may be lost" in str(told)) == (lost > 8.0)


def test_the_progress_bar_ranks_as_the_answer_is_chosen(toy, monkeypatch):
    module, splits = toy
    shown = []
    update = search_display.ProgressBars.update

    def watched(self, task, **fields):
        shown.append(fields.get("description", ""))
        update(self, task, **fields)

    monkeypatch.setattr(search_display.ProgressBars, "update", watched)
    result = releq_gym.search(
        module, splits, **{**OPTIONS, "max_loss_points": 7.0, "evaluation_budget": 64}
    )
    within = [point for point in result.pareto if point.loss_points <= 7.0]
    assert within[0].cost < result.chosen.cost  # cheaper, but too close to the limit
    leaders = [one for one in shown if one.startswith("cost ")]
    assert leaders[-1] == f"cost {result.chosen.cost:.3f} loses {result.chosen.loss_points:.2f}"


class Retrained:
    """A search with a retraining behind every accuracy, and a longer one behind the answer."""

    def __init__(self, **options):
        digits = load_splits("digits")
        net = Network("own", digits_net, recipes=options.pop("recipes", RECIPES))
        data = Splits("digits", digits.train, digits.search, digits.read_report)
        self.result = releq_gym.search(
            net,
            data,
            max_loss_points=50.0,
            recipe="short",
            evaluation_budget=2,
            searcher="uniform",
            bitwidths=(4, 8),
            quantizer_kwargs={},
            **options,
        )


RECIPES = {"short": Recipe(images=64, learning_rate=1e-3), "long": Recipe(images=640)}


def digits_net():
    net = NETWORKS["digits"].build()
    load_weights(net, find_weights("digits"))
    return net


def test_the_last_retraining_is_announced_and_its_losses_are_labelled(capfd):
    text = str(Retrained().result)
    said = capfd.readouterr().err
    seconds = re.search(r"2 assignments at ([\d.e+-]+) s", said)
    more = re.search(r"retraining the answer: about (\d+) s more", said)
    # Three networks, ten times the images each.
    assert float(more[1]) == pytest.approx(30 * float(seconds[1]), abs=0.5 + 2 * float(seconds[1]))
    assert "retraining is done" in said
    assert re.search(r"search split: .* points against the checkpoint", text)
    assert re.search(r"report split: .* full precision retrained likewise .* loses", text)


def test_without_retraining_no_loss_has_another_reference(toy, capfd):
    module, splits = toy
    text = str(releq_gym.search(module, splits, **{**OPTIONS, "progress": True}))
    assert "against the checkpoint" not in text and "likewise" not in text
    assert "retraining the answer" not in capfd.readouterr().err


def test_activations_of_8_bits_are_searched_with(toy, tmp_path):
    module, splits = toy
    options = {**OPTIONS, "memo": False, "activation_bitwidth": 8}
    result = releq_gym.search(module, splits, folder=tmp_path, **options)
    loaded = releq_gym.load_quantized(tmp_path / "quantized.safetensors", module)
    images = splits.search.images
    assert torch.equal(loaded(images), result.network(images))
    assert any("input_quantizer" in name for name, _ in loaded.named_buffers())
