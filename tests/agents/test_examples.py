import re
import shlex
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from agents.examples.ppo_single_file import Args
from agents.examples.ppo_single_file import main as single_file
from benchmarks.validate.__main__ import main as validate
from releq_gym.tasks.score import make_scorer

ROOT = Path(__file__).parents[2]
README = (ROOT / "agents" / "README.md").read_text(encoding="utf-8")


def commands(start):
    """The commands of the README that begin so."""
    return list(map(shlex.split, re.findall(rf"^{re.escape(start)}.*$", README, re.M)))


def output(*words):
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ppo_in_one_file_learns(capsys):
    envs = single_file(Args(task="synthetic-4-0", updates=60, evaluation_budget=300))
    problem, ledger = envs.unwrapped.problem, envs.unwrapped.ledger
    # Where the policy has settled is where it has gone most often.
    settled, cell = max(ledger.cells(problem).items(), key=lambda item: item[1].visits)
    assert cell.visits > 60
    assert make_scorer(problem).regret(settled) < 0.15
    assert "assignments asked, the best: Answer(" in capsys.readouterr().out


def test_rl_zoo3_trains_by_the_command_of_the_readme(tmp_path):
    pytest.importorskip("rl_zoo3")
    words, _ = commands("python -m rl_zoo3.train")
    printed = output(sys.executable, *words[1:], "-n", "240", "-f", str(tmp_path))
    assert re.search(r"total_timesteps +\| 240 ", printed)
    assert list(tmp_path.glob("ppo_lstm/*/releq-DigitsWRPN-v0.zip"))


def test_rl_zoo3_has_an_answer_by_the_command_of_the_readme(tmp_path, capsys):
    pytest.importorskip("rl_zoo3")
    _, words = commands("python -m rl_zoo3.train")
    log = tmp_path / "zoo.jsonl"
    words = [word.replace("zoo.jsonl", str(log)) for word in words]
    output(sys.executable, *words[1:], "-n", "240", "-f", str(tmp_path))
    assert validate([str(log)]) == 0
    assert re.search(
        r"60 episodes, fresh 60.*\n  answer \d \d \d \d .*, regret", capsys.readouterr().out
    )


@pytest.mark.slow
def test_rllib_trains_in_its_own_virtual_environment(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    output(str(python), "-m", "pip", "install", "--quiet", "ray[rllib]")
    # torch and the package are taken from here, Gymnasium from there.
    (there,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (there / "here.pth").write_text("\n".join([str(ROOT), *site.getsitepackages()]) + "\n")
    words = [str(python), "-m", "agents.examples.rllib_lstm", "--iterations", "2"]
    assert "iteration 2: mean return" in output(*words)
