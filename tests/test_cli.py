import csv
import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.validate.__main__ import main as validate
from releq_gym.cli import main
from releq_gym.commands.pairs import name_and_value
from releq_gym.commands.tasks import without_places
from releq_gym.costs import COSTS
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.evaluators.synthetic import SyntheticEvaluator
from releq_gym.ledger import Ledger
from releq_gym.networks import NETWORKS
from releq_gym.quantized import load_quantized, save_weights
from releq_gym.quantizers import QUANTIZERS
from releq_gym.report import retrain_and_report
from releq_gym.result import Result, read_result, write_result
from releq_gym.searchers import SEARCHERS, confirm
from releq_gym.tasks import find_task, load_task
from releq_gym.tasks.landscape import GATE, GATE_REGRET
from releq_gym.tasks.score import make_scorer

TASK = "digits-digits-wrpn-short-w2to8"


class Unstated(torch.nn.Sequential):
    """A network that says nothing of its input."""

    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.Linear(4, 2))


def trained():
    """It comes with its weights."""
    net = Unstated()
    for parameter in net.parameters():
        torch.nn.init.ones_(parameter)
    return net


def printed(capsys, *arguments, code=0):
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_nets_lists_layers_weights_and_macs(capsys):
    assert "lenet: mnist, input 1x28x28, 4 layers, 430,500 weights" in printed(capsys, "nets")
    assert "conv2" in printed(capsys, "nets", "lenet")


def test_tasks_lists_what_is_shipped(capsys):
    out = printed(capsys, "tasks")
    assert f"{TASK}: 1.0.0 (default of net 'digits')" in out
    assert f"releq/DigitsWRPN-v0: {TASK}/1.0.0" in out


def test_show_prints_what_the_card_says(capsys, tmp_path):
    card = json.loads(printed(capsys, "task", "show", TASK, "--json"))
    assert card["quantizer"] == "wrpn" and card["completeness"] == "exhaustive"
    picture = tmp_path / "task.png"
    out = printed(capsys, "task", "show", TASK, "--picture", str(picture))
    assert out.startswith(f"{TASK}/1.0.0\n  net         digits, 4 layers, digits")
    assert "2,401 assignments, all measured, 10 times each" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_show_describes_what_is_generated(capsys):
    out = printed(capsys, "task", "show", "synthetic-6-3")
    assert out.startswith("synthetic-6-3, generated\n  space       7^6 assignments")
    evaluator = SyntheticEvaluator(6, 3)
    (found,) = re.findall(r"^  ([2-8 ]+): optimum", out, re.M)
    lost = (
        evaluator.full_precision_accuracy
        - evaluator.evaluate(tuple(map(int, found.split())), 0).accuracy
    )
    assert 0 <= 100 * lost <= evaluator.max_loss_points + 1e-9


def test_a_network_of_ones_own_is_imported_with_its_input_shape(capsys, tmp_path):
    rows = [f"{a} {b},{0.8 + a / 100}" for a in (2, 8) for b in (2, 8)]
    (tmp_path / "mine.csv").write_text("\n".join(["bitwidths,accuracy", *rows]))
    words = ("--full-precision", "0.9", "--input-shape", "3", "2", "2", "--output", str(tmp_path))
    file = str(tmp_path / "mine.csv")
    command = ("task", "import", file, "--net")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*command, "test_cli:Unstated", *words]) == 0
    said = capsys.readouterr()
    assert "2 layers" in said.out and "4 assignments, all measured" in said.out
    assert said.err.startswith("warning: test_cli:Unstated has other weights each time that it is")
    weights = str(tmp_path / "mine.safetensors")
    save_weights(Unstated(), tmp_path / "mine.safetensors")
    for told in (("test_cli:Unstated", "--weights", weights), ("test_cli:trained",)):
        printed(capsys, *command, *told, *words, "--version", f"1.0.{len(told)}")


def test_landscape_facts_go_into_the_card(capsys, tmp_path):
    shutil.copytree(find_task(TASK).folder, tmp_path / "task")
    out = printed(capsys, "task", "landscape", str(tmp_path / "task"))
    facts = load_task(tmp_path / "task").card["landscape"]
    for name, title in (("search_optimum", "search data"), ("optimum", "report data")):
        optimum = " ".join(map(str, facts[name]["bitwidths"]))
        assert f"{optimum}: optimum, on {title}, cost {facts[name]['cost']:.3f}" in out
    assert facts["evaluations"] == 120
    assert facts["ranks_searchers"] == (
        min(facts["search_regret"][name] for name in GATE) > GATE_REGRET
    )
    # Whoever has seen less of the space is not ahead of who has seen all of it.
    assert min(facts["search_regret"].values()) >= 0


def test_verify_checks_the_files(capsys):
    assert "agrees with its hash" in printed(capsys, "task", "verify", TASK, "--cells", "0")


def test_evaluate_measures_a_network_on_its_report_split(capsys):
    assert "% of 449 report images, full precision" in printed(capsys, "evaluate", "digits")


def imagenet_of(folder, wnids, per_class=2):
    """Photos of some of the classes, below ``val``."""
    for place, wnid in enumerate(wnids):
        (folder / "val" / wnid).mkdir(parents=True)
        for number in range(per_class):
            colour = (40 * place, 40 * number, 0)
            Image.new("RGB", (300, 256), colour).save(folder / "val" / wnid / f"{number}.png")
    return str(folder)


def test_evaluate_takes_a_checkpoint_and_some_of_the_classes(capsys, tmp_path):
    module = NETWORKS["mobilenet"].build()
    with torch.no_grad():
        module.classifier.weight.zero_()
        module.classifier.bias.copy_((torch.arange(1000) == 2).float())
    save_weights(module, tmp_path / "weights.safetensors")
    # The third, the second and the last of the 1,000: the net answers the third alone.
    data = imagenet_of(tmp_path / "some", ["n01484850", "n01443537", "n15075141"])
    data_of_one = imagenet_of(tmp_path / "one", ["n01484850"])
    options = ["evaluate", "mobilenet", "--weights", str(tmp_path / "weights.safetensors")]
    out = printed(capsys, *options, "--data", data_of_one)
    assert "mobilenet: 100.00 % of 1 report images, full precision" in out
    out = printed(capsys, *options, "--data", f"{data}/val")
    assert "of 3 report images" in out and "100.00 %" not in out


OWN_NET = """
from torch import nn
from releq_gym.networks import Network
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
small = Network("small", build, input_shape=(1, 8, 8))
"""


@pytest.fixture
def net_here(tmp_path, monkeypatch):
    """A net in the current folder, which Python does not look into."""
    (tmp_path / "net_here.py").write_text(OWN_NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield "net_here:small"
    sys.modules.pop("net_here", None)


def test_a_net_in_the_current_folder_is_found(capsys, net_here):
    before = list(sys.path)
    assert "net_here:small: own data" in printed(capsys, "nets", net_here)
    assert sys.path == before
    sys.modules.pop("net_here")
    error = printed(capsys, "evaluate", "net_here:no", code=2)
    assert "net_here has no 'no'" in error


REGISTERED_NET = """
from torch import nn
from releq_gym.networks import register_network
@register_network("net_of_a_test", input_shape=(1, 8, 8), dataset="digits")
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def test_nets_shows_what_a_factory_is_registered_with(capsys, tmp_path, monkeypatch):
    (tmp_path / "registered_net.py").write_text(REGISTERED_NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS._entries))
    out = printed(capsys, "nets", "registered_net:build")
    assert "registered_net:build: digits, input 1x8x8, 1 layers" in out
    sys.modules.pop("registered_net")


def test_help_lists_every_searcher_cost_and_quantizer(capsys):
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    words = re.findall(r"\w+", capsys.readouterr().out)
    assert {*SEARCHERS.names(), *COSTS.names(), *QUANTIZERS.names()} <= set(words)


@pytest.mark.parametrize(("module", "cure"), [("torch", "[live]"), ("sb3_contrib", "[agents]")])
def test_a_missing_package_of_ours_names_its_extra(capsys, monkeypatch, module, cure):
    def missing(*arguments):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("releq_gym.networks.resolve_network", missing)
    assert cure in printed(capsys, "nets", "digits", code=2)
    module = "a_package_of_theirs"
    error = printed(capsys, "nets", "digits", code=2)
    assert (
        "needs 'a_package_of_theirs', which is not installed." in error
        and "releq_gym[" not in error
    )


def test_warnings_are_one_line(capsys, tmp_path, own_net):
    options = ["--data", "digits", "--search-from-train", "--evaluation-budget", "1"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        main(["search", "--net", own_net, *options, "--folder", str(tmp_path / "found")])
    said = capsys.readouterr().err
    assert "\nwarning: In full precision own_net:build gets" in f"\n{said}"
    assert "UserWarning" not in said


@pytest.fixture
def own_net(tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(OWN_NET)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_net:build"
    sys.modules.pop("own_net", None)


def test_nets_takes_a_factory_that_knows_its_input(capsys, own_net):
    out = printed(capsys, "nets", "own_net:small")
    assert "own_net:small: own data, input 1x8x8, 1 layers, 640 weights, 640 MACs" in out
    error = printed(capsys, "nets", own_net, code=2)
    assert "'own_net:build' does not state what it takes" in error and "--input-shape 3" in error
    out = printed(capsys, "nets", own_net, "--input-shape", "1", "8", "8")
    assert "own_net:build: own data, input 1x8x8, 1 layers, 640 weights, 640 MACs" in out


def test_nets_names_what_is_not_quantized(capsys, tmp_path, own_net):
    (tmp_path / "own_net.py").write_text(
        "import torch\n\n"
        "class Tuned(torch.nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(torch.nn.Flatten(), torch.nn.Linear(12, 4))\n"
        "        self.shift = torch.nn.Parameter(torch.zeros(2, 3))\n"
    )
    out = printed(capsys, "nets", "own_net:Tuned", "--input-shape", "3", "2", "2")
    assert "not quantized: 6 weights, 24 bytes in float32, which no figure counts, of shift" in out
    assert "not quantized" not in printed(capsys, "nets", "lenet")


def test_hints_are_about_arguments_of_ours_alone(capsys, tmp_path, own_net):
    np.savez(
        tmp_path / "colour.npz",
        val_images=np.zeros((20, 3, 8, 8), np.float32),
        val_labels=np.arange(20) % 2,
    )
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))\n"
    )
    words = ("search", "--net", own_net, "--data", str(tmp_path / "colour.npz"))
    error = printed(capsys, *words, code=2)
    assert "groups=1" in error and "--groups" not in error  # it is torch that has said so


def test_a_search_does_not_replace_another_ones_result(capsys, tmp_path):
    words = ("search", "--net", "digits", "--search-from-train", "--evaluation-budget", "2")
    printed(capsys, *words, "--folder", str(tmp_path / "out"))
    printed(capsys, *words, "--folder", str(tmp_path / "out"))  # the same again
    before = (tmp_path / "out" / "result.json").read_bytes()
    out = printed(capsys, *words, "--seed", "1", "--folder", str(tmp_path / "out"), code=2)
    assert "holds the result of another search" in out
    assert (tmp_path / "out" / "result.json").read_bytes() == before


def test_evaluate_takes_the_net_of_a_run_of_ones_own(capsys, tmp_path, own_net):
    live = LiveEvaluator(
        own_net,
        data="digits",
        quantizer="uniform",
        recipe="ptq",
        memo=False,
        search_from_train=True,
    )
    report = retrain_and_report(live, (8,), tmp_path)
    result = Result(
        finished=True,
        task=live.name,
        net=live.net,
        data="digits",
        searcher="nobody",
        seed=0,
        layers=("1",),
        bitwidths=(8,),
        objective=0.0,
        accuracy=0.1,
        loss_points=0.0,
        max_loss_points=0.3,
        cost=1.0,
        weighted_bitwidth=8.0,
        average_bitwidth=8.0,
        evaluations=1,
        fresh=1,
        seconds=1.0,
        version="0",
        command="",
        report=report,
    )
    write_result(tmp_path, result)
    # A net that only a file names is never imported.
    error = printed(capsys, "evaluate", str(tmp_path), code=2)
    assert f"if you trust it: releq evaluate {tmp_path} --net own_net:build" in error
    out = printed(capsys, "evaluate", str(tmp_path), "--net", own_net)
    assert "of 449 report images, " in out
    # The weights come from the file, and the factory's are random: only those agree.
    assert "as reported" in out
    write_result(tmp_path, dataclasses.replace(result, data=None))
    error = printed(capsys, "evaluate", str(tmp_path), "--net", own_net, code=2)
    assert "Nothing says which data own_net:build is for" in error


SEARCH = ["search", "--net", "digits", "--max-loss-points", "1.5", "--evaluation-budget", "12"]


def test_search_finds_bitwidths_and_its_folder_can_be_evaluated(capsys, tmp_path):
    folder = tmp_path / "found"
    options = [
        "--bitwidths",
        "2",
        "4",
        "8",
        "--fixed-bitwidths",
        "fc2=8",
        "--cost",
        "weighted_bitwidth",
    ]
    out = printed(capsys, *SEARCH, *options, "--per-layer", "--folder", str(folder))
    assert "uniform ptq" in out and "per_channel" not in out
    assert f"written to {folder}" in out
    result = read_result(folder)
    assert result.bitwidths[-1] == 8 and result.evaluations == 12
    assert result.command.startswith("releq search --net digits --max-loss-points 1.5")
    assert "as reported" in printed(capsys, "evaluate", str(folder))
    assert (
        load_quantized(folder).state_dict().keys() == NETWORKS["digits"].build().state_dict().keys()
    )
    measured = dataclasses.replace(result.report.chosen, accuracy=0.5)
    other = dataclasses.replace(result.report, chosen=measured)
    write_result(folder, dataclasses.replace(result, report=other))
    assert main(["evaluate", str(folder)]) == 1
    assert "but 50.00 % was reported" in capsys.readouterr().out
    edited = (2, *result.bitwidths[1:-1], 2)
    told = dataclasses.replace(result.report.chosen, bitwidths=edited)
    other = dataclasses.replace(result.report, chosen=told)
    write_result(folder, dataclasses.replace(result, bitwidths=edited, report=other))
    error = printed(capsys, "evaluate", str(folder), code=2)
    assert "holds another assignment than" in error
    write_result(folder, dataclasses.replace(result, bitwidths=edited))
    assert "holds another assignment than" in printed(capsys, "evaluate", str(folder), code=2)


def test_a_folder_that_is_called_as_a_net_is_no_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert "report images" in printed(capsys, "evaluate", "digits")


def test_places_are_left_out_of_a_command_however_they_are_typed():
    typed = "releq task build --net lenet --out /a --weight=/c --data=/d --seed 1"
    assert without_places(typed.split()) == "releq task build --net lenet --seed 1"


@pytest.mark.filterwarnings("ignore:In full precision own_net:UserWarning")
def test_search_takes_a_net_and_seen_images_of_ones_own(capsys, tmp_path, monkeypatch, own_net):
    monkeypatch.chdir(tmp_path)
    command = ["search", "--net", own_net, "--data", "digits", "--evaluation-budget", "3"]
    error = printed(capsys, *command, code=2)
    assert "data is --data, search_from_train is --search-from-train" in error
    assert not (tmp_path / "runs").exists()
    out = printed(capsys, *command, "--search-from-train", "--searcher", "uniform")
    assert "search images from train" in out
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("search-own_net_build-")


def test_an_interrupted_search_is_no_traceback(capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveEvaluator, "_retrain", interrupt)
    assert "the same command goes on from here" in printed(capsys, *SEARCH, code=130)


def test_a_closed_pipe_is_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "releq_gym.cli", "task", "show", TASK, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "digits", "--net", "a.b:c"], "--net goes with a run folder, but 'digits'"),
        (["evaluate", ".", "--weights", "x"], "a run folder holds its own weights"),
        (["evaluate", "mobilenet", "--weights", "x"], "There is no file 'x'"),
        (["task", "verify", TASK, "--cells", "1"], "cells=1; at least 2"),
        (["task", "verify", TASK, "--cells", "-4"], "cells=-4; at least 2"),
        (["nets", "lenett"], "Did you mean 'lenet'"),
        (["evaluate", "vgg99"], "Unknown net 'vgg99'"),
        (["evaluate", "nowhere"], "Nor is it the folder of a run"),
        (["search", "--net", "small.pt"], "reads like a file of weights"),
        (["search", "--net", "digits", "--bitwidths", "9"], "bitwidths is --bitwidths"),
        (["pretrain", "lenet", "--data", "nowhere", "--output", "x.safetensors"], "nowhere"),
        (["pretrain", "digits"], "already, which tasks may have been measured on"),
        (["task", "show", "nothing"], "Unknown task 'nothing'"),
        (["task", "verify", "synthetic-20-0"], "is generated, not measured"),
        (["task", "show", TASK, "--picture", "/dev/null/x.png"], "/dev/null: File exists"),
        (["task", "show", TASK, "--picture", "x.jpg"], "x.jpg has to end in .png, .pdf or .svg"),
        (
            ["task", "import", "x.csv", "--net", "test_cli:Unstated", "--full-precision", "0.9"],
            "add --input-shape, that of one input, such as --input-shape 3 32 32",
        ),
        (["task", "show", "synthetic-20-0", "--json"], "is generated: it has no card"),
        (["task", "show", "synthetic-20"], "synthetic-LAYERS-SEED"),
        (["task", "build", "digits", "--quantizer", "wrpm"], "Did you mean 'wrpn'"),
        (["task", "build", "digits", "--recipe", "shrt"], "short"),
        (
            ["task", "build", "digits", "--quantizer", "dorefa", "--recipe", "ptq"],
            "DoReFa rescales",
        ),
        (["task", "build", "digits", "--bitwidths", "0", "9"], "9"),
        (["search", "--net", "digitz"], "Did you mean 'digits'"),
        (["search", "--net", "digits", "--searcher", "gredy"], "Did you mean 'greedy'"),
        (["search", "--net", "digits", "--fixed-bitwidths", "fc2"], "has to read LAYER=BITS"),
        (["search", "--net", "digits", "--cost-kwargs", "path"], "has to read NAME=VALUE"),
        (["search", "--net", "digits", "--cost-budget", "cost"], "has to read FIGURE=LIMIT"),
        (
            ["search", "--net", "digits", "--data", "digits", "--cost-budget", "cost=0.01"],
            "cost_budget is --cost-budget",
        ),
        (["search", "--net", "digits", "--fixed-bitwidths", "fc3=8"], "Did you mean 'fc2'"),
        (
            ["search", "--net", "digits", "--fixed-bitwidths", "fc2=8", "fc2=4"],
            "fc2 is set twice, to 8 and to 4",
        ),
        (
            ["search", "--net", "digits", "--fixed-bitwidths", "fc2=9"],
            "fixed_bitwidths is --fixed-bitwidths",
        ),
        (["search", "--net", "digits", "--max-loss-points", "-1"], "points, 0 or more"),
        (["search", "--net", "digits", "--quantizer", "wrpn", "--per-channel"], "per_channel"),
        (["search", "--net", "digits", "--weights", "no.safetensors"], "There is no file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_user_errors_are_a_sentence(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELEQ_GYM_DATA", raising=False)
    error = printed(capsys, *arguments, code=2)
    assert sentence in error and "Traceback" not in error
    assert not list(tmp_path.rglob("*.sqlite*"))


def test_a_figure_that_is_called_as_an_option_is_not_taken_for_it(capsys):
    error = printed(capsys, "search", "--net", "digits", "--cost-budget", "cost=abc", code=2)
    assert "cost=abc has to read FIGURE=LIMIT" in error and "cost is --cost" not in error


@pytest.mark.parametrize(
    ("typed", "value"),
    [("False", False), ("true", True), ("no", "no"), (".5", 0.5), ("nan", "nan")],
)
def test_python_s_way_to_write_true_and_false_is_understood(typed, value):
    assert name_and_value(f"interpolate={typed}") == ("interpolate", value)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("--version ../../evil", "has to be numbers with dots"),
        ("--max-loss-points nan", "max_loss_points=nan has to be"),
        ("--max-loss-points -2", "max_loss_points=-2.0 has to be"),
        ("--surrogate --rows 20", "rows=20: a surrogate is fitted to 50 or more"),
        ("--surrogate --bitwidths 2 4", "measure every assignment, without a surrogate"),
    ],
)
def test_a_build_that_cannot_end_well_is_not_begun(tmp_path, capsys, wrong, sentence):
    build = "task build digits --quantizer uniform --recipe ptq"
    assert main([*build.split(), "--output", str(tmp_path / "out"), *wrong.split()]) == 2
    assert sentence in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_search_refuses_a_negative_seed_at_once(capsys):
    assert main(["search", "--net", "digits", "--max-loss-points", "1", "--seed", "-1"]) == 2
    assert "seed=-1 must be a whole number, 0 or more" in capsys.readouterr().err


COST_OF_ONES_OWN = """
from dataclasses import dataclass
import numpy as np

def squares(layers, bitwidths):
    return {"area": np.array([[float(bits) ** 2 for bits in bitwidths] for _ in layers])}

@dataclass(frozen=True)
class Scaled:
    factor: float = 1.0
    def __call__(self, layers, bitwidths):
        return {"area": self.factor * squares(layers, bitwidths)["area"]}
"""


def test_search_takes_a_cost_model_of_ones_own(capsys, tmp_path, monkeypatch):
    (tmp_path / "cost_here.py").write_text(COST_OF_ONES_OWN)
    monkeypatch.chdir(tmp_path)
    words = ("search", "--net", "digits", "--evaluation-budget", "3", "--recipe", "ptq")
    printed(capsys, *words, "--cost", "cost_here:squares", "--folder", "function")
    scaled = ("--cost", "cost_here:Scaled", "--cost-kwargs", "factor=2")
    out = printed(capsys, *words, *scaled, "--cost-budget", "area=300", "--folder", "class")
    assert "area" in out and "factor=2" in out
    plain, doubled = (read_result(tmp_path / name) for name in ("function", "class"))
    assert plain.figures["area"] == sum(bits**2 for bits in plain.bitwidths)
    assert doubled.figures["area"] == 2 * sum(bits**2 for bits in doubled.bitwidths) <= 300
    error = printed(capsys, *words, "--cost", "cost_here:no", code=2)
    assert "The cost 'cost_here:no' could not be imported: cost_here has no 'no'" in error
    sys.modules.pop("cost_here")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--cost", "bit_fusion", "--cost-kwargs", "foo=3"), "it takes activation_bitwidth"),
        (("--cost-budget", "0.4"), "such as cost=0.4"),
    ],
)
def test_options_that_an_error_does_not_blame_are_not_named(capsys, words, sentence):
    error = printed(capsys, "search", "--net", "digits", "--recipe", "ptq", *words, code=2)
    assert sentence in error and "On the command line" not in error


def test_the_options_that_an_error_blames_are_named(capsys):
    words = "search --net digits --recipe ptq --fixed-bitwidths conv1=9".split()
    error = printed(capsys, *words, code=2)
    assert error.endswith("On the command line: fixed_bitwidths is --fixed-bitwidths.\n")


def test_a_task_is_searched(capsys, tmp_path):
    log = str(tmp_path / "log.jsonl")
    words = ("task", "search", TASK, "--searcher", "random", "--evaluation-budget", "30")
    out = printed(capsys, *words, "--seed", "5", "--log", log)
    assert "random, 30 different assignments" in out and "of at most 1.5 points" in out
    ledger = Ledger(30)
    env = QuantizeNetEnv(task=TASK, ledger=ledger)
    env.reset(seed=5)
    SEARCHERS["random"](env, np.random.default_rng(5))
    confirm(env)
    answer = ledger.best(env.problem)
    assert f"answer      {' '.join(map(str, answer.bitwidths))}\n" in out
    scorer = make_scorer(env.problem)
    both = scorer.search_regret(answer.bitwidths), scorer.regret(answer.bitwidths)
    assert "regret      {:.4f} on search data, {:.4f} on report data".format(*both) in out
    assert validate([log]) == 0
    assert "already" in printed(capsys, *words, "--log", log, code=2)  # it is not written over


def test_a_search_of_a_task_is_kept_in_a_folder(capsys, tmp_path):
    folder = tmp_path / "found"
    words = ("task", "search", TASK, "--evaluation-budget", "30", "--folder", str(folder))
    out = printed(capsys, *words)
    assert out.endswith(f"written to {folder}\n")
    names = {"log.jsonl", "pareto.csv", "pareto.png", "result.json"}
    assert {path.name for path in folder.iterdir()} == names
    result = read_result(folder)
    assert f"answer      {' '.join(map(str, result.bitwidths))}\n" in out
    assert result.task == f"table:{result.provenance['task']}" and TASK in result.task
    assert (result.searcher, result.evaluations) == ("integer_program", 30)
    assert result.finished and result.command == shlex.join(["releq", *words])
    rows = list(csv.DictReader((folder / "pareto.csv").read_text().splitlines()))
    assert " ".join(map(str, result.bitwidths)) in {row["bitwidths"] for row in rows}
    assert validate([str(folder)]) == 0
    assert "is not empty; name a new folder" in printed(capsys, *words, code=2)
    assert read_result(folder) == result


def test_a_restricted_search_of_a_task_has_no_regret(capsys):
    words = ("task", "search", "synthetic-4-0", "--evaluation-budget", "20")
    assert "regret      0." in printed(capsys, *words)
    out = printed(capsys, *words, "--cost", "weight_serial", "--cost-budget", "cost=0.3")
    assert "regret      unknown: The optimum of synthetic-4-0 is known on the whole task" in out
    out = printed(capsys, *words, "--bitwidths", "2", "--max-loss-points", "0.01")
    assert "answer      2 2 2 2" in out and "of at most 0.01 points, which is more" in out
    assert "Did you mean 'greedy'" in printed(capsys, *words, "--searcher", "greed", code=2)


def test_an_interrupted_search_of_a_task_tells_what_it_has_found(capsys, monkeypatch, tmp_path):
    def interrupted(env, rng):
        SEARCHERS["uniform"](env, rng)
        env.reset()
        env.step(0)
        raise KeyboardInterrupt

    assert "random" in SEARCHERS.names()
    monkeypatch.setitem(SEARCHERS._entries, "random", interrupted)
    words = ["task", "search", TASK, "--searcher", "random", "--folder", str(tmp_path)]
    assert main(words) == 130
    told = capsys.readouterr()
    assert "Stopped; this is the answer so far." in told.err
    assert re.search(r"answer      (\d) \1 \1 \1\n", told.out)
    *_, last = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(last)["actions"] == [0] and validate([str(tmp_path)]) == 0
