import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import agents
from agents.base import AGENTS
from agents.train import main
from benchmarks.validate.__main__ import main as validate
from releq_gym.result import read_result

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if "RecurrentPPO" in code]
    exec(compile(example.replace("2_000", "128"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "best seen: Answer(bitwidths=" in printed


def test_your_own_network_in_15_lines_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if "releq_gym.search(" in code]
    assert len([line for line in example.splitlines() if line]) <= 15
    names = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(compile(example, "README.md", "exec"), names)
    assert names["result"].tolerable and names["result"].record.weighted_bitwidth < 8
    assert "report split" in capsys.readouterr().out
    assert (tmp_path / "quantized" / "quantized.safetensors").is_file()


@pytest.mark.parametrize(
    ("mark", "figure", "limit"), [("HardwareCost", "microjoules", 30), ("Tiles", "milliseconds", 2)]
)
def test_the_examples_of_costs_keep_their_budgets(mark, figure, limit):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if mark in code]
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    env, over = names["env"], False
    env.reset(seed=0)
    while not over:
        *_, over, _, info = env.step(env.action_space.n - 1)
    assert 0.7 * limit < info[figure] <= limit


def test_the_incumbent_example_finds_an_answer(capsys):
    text = (Path(agents.__file__).parent / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names = {}
    exec(compile(example.replace("1_800", "180"), "README.md", "exec"), names)
    assert "Answer(bitwidths=" in capsys.readouterr().out
    assert names["env"].unwrapped.ledger.distinct > 10


def test_an_agent_is_one_file_that_is_there(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if "(Agent)" in code]
    (tmp_path / "cross_entropy.py").write_text(example)
    monkeypatch.setattr(AGENTS, "_entries", {name: AGENTS[name] for name in AGENTS.names()})
    monkeypatch.setattr(agents, "__path__", [*agents.__path__, str(tmp_path)])
    monkeypatch.setattr(AGENTS, "_discovered", False)
    sys.modules.pop("agents.cross_entropy", None)
    options = ["--task", "synthetic-4-0", "--evaluation-budget", "100", "--elite", "4"]
    run = tmp_path / "run"
    assert main([*options, "--agent", "cross_entropy", "--no-report", "--folder", str(run)]) == 0
    result = read_result(run)
    assert (result.searcher, result.evaluations) == ("cross_entropy", 100)
    with np.load(run / "policy.npz") as archive:
        first, *_, last = archive["probabilities"]
    assert last.max(axis=1).mean() > 1.5 * first.max(axis=1).mean()
    with np.load(run / "agent.zip") as saved:
        assert saved["chances"].shape == (4, 7) and saved["steps"] > 0


def test_an_agent_may_lie_in_a_module_of_ones_own(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (example,) = [code for code in blocks if "(Agent)" in code]
    (tmp_path / "my_agents.py").write_text(example.replace('@AGENTS.register("cross_entropy")', ""))
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    named = ["--agent", "my_agents:CrossEntropy", "--elite", "4", "--folder", str(run)]
    budget = ["--task", "synthetic-4-0", "--evaluation-budget"]
    assert main([*budget, "20", *named, "--no-report"]) == 0
    assert main(["--folder", str(run), "--resume", "--evaluation-budget", "30"]) == 0
    result = read_result(run)
    assert (result.searcher, result.evaluations) == ("my_agents:CrossEntropy", 30)
    assert validate([str(run)]) == 0
    capsys.readouterr()
    assert main([*budget, "20", "--agent", "my_agents:np"]) == 2
    assert "has to be a class that inherits agents.base.Agent" in capsys.readouterr().err
    assert main([*budget, "20", "--agent", "cross_entropi"]) == 2
    assert "One of your own is --agent package.module:Class" in capsys.readouterr().err


def test_the_metric_it_shows_scores_each_input_in_0_to_1():
    metric = eval(re.search(r"`(lambda outputs, targets: .+)`", README)[1])
    targets = torch.tensor([[0.0], [1.0], [-3.0]])
    scores = metric(targets + torch.tensor([[0.0], [1.0], [1e4]]), targets)
    assert scores.tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)


def test_every_command_it_names_exists():
    from releq_gym.cli import _parser

    for line in re.findall(r"^releq (.+?)(?:\s+#.*)?$", README, re.M):
        _parser().parse_args(line.split())
