"""The command ``python -m agents.train``, end to end."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from toys import toy_task

from agents.args import parse
from agents.attention import AttentionExtractor
from agents.base import AGENTS, Agent, Preset
from agents.folder import go_on_logging, restore_ledger
from agents.pictures import draw_learning_curve
from agents.run import Run
from agents.train import main, train
from benchmarks.validate.__main__ import main as validate
from releq_gym.costs import COSTS
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.ledger import Ledger
from releq_gym.networks import NETWORKS
from releq_gym.observation import OBSERVATIONS
from releq_gym.quantized import bake, load_quantized, read_header
from releq_gym.quantizers import QUANTIZERS
from releq_gym.replay import read_revealed
from releq_gym.report import evaluate_run
from releq_gym.result import read_result, write_result
from releq_gym.rewards import REWARDS

SMALL = ("--n-envs", "4", "--episodes-per-update", "2", "--n-epochs", "1", "--no-report")
"""Few gradient steps, no report."""


def run(folder, *options, task="synthetic-4-0", budget=40):
    options = ["--task", task, "--evaluation-budget", str(budget), *SMALL, *options]
    return main([*options, "--folder", str(folder)])


FAULTY = """from dataclasses import dataclass
import numpy as np
from agents.base import Agent, Preset


@dataclass(frozen=True)
class Settings:
    gamma: float = 1.0


class Faulty(Agent):
    presets = {"default": Preset(Settings())}

    def __init__(self, make_env, settings, seed, checkpoint=None):
        self.env = make_env()
        self.env.reset(seed=seed)

    def learn(self, steps, watch):
        FAULT

    def save(self, path):
        path.write_text("")

    def close(self):
        self.env.close()
"""


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _own_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert run(folder) == 0
    return folder


def test_run_fills_its_folder(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "agent.zip",
        "bitwidths.png",
        "command.txt",
        "learning_curve.png",
        "log.jsonl",
        "policy.npz",
        "policy.png",
        "result.json",
        "settings.json",
        "versions.json",
    ]
    assert "--task synthetic-4-0" in (finished / "command.txt").read_text()
    assert "torch" in json.loads((finished / "versions.json").read_text())


def test_result_is_the_ledgers_best_not_the_policys_last(finished):
    result = read_result(finished)
    env = QuantizeNetEnv(task="synthetic-4-0")
    ledger = Ledger()
    for one in read_revealed(finished / "log.jsonl", env.problem):
        ledger.charge(env.problem, one.bitwidths, one.accuracy, repeat=one.repeat)
    best = ledger.best(env.problem)
    assert best is not None
    assert (result.bitwidths, result.objective) == (best.bitwidths, best.objective)
    assert result.finished and result.evaluations == ledger.distinct == 40
    assert result.fresh == ledger.fresh
    last = [record["bitwidths"] for record in log_of(finished) if "bitwidths" in record][-1]
    assert tuple(last) != result.bitwidths


def test_policy_history_holds_probabilities_of_every_layer(finished):
    with np.load(finished / "policy.npz") as archive:
        probabilities, evaluations = archive["probabilities"], archive["evaluations"]
    assert probabilities.shape == (len(evaluations), 4, 7)
    np.testing.assert_allclose(probabilities.sum(axis=2), 1.0, rtol=1e-5)
    assert (np.diff(evaluations) > 0).all()
    # The first rollout is of the untrained policy, which is close to indifferent.
    np.testing.assert_allclose(probabilities[0], 1 / 7, atol=0.03)


def test_same_seed_same_log_other_seed_another(finished, tmp_path):
    assert run(tmp_path / "twin") == 0
    assert run(tmp_path / "other", "--seed", "1") == 0
    assert log_of(tmp_path / "twin") == log_of(finished)
    assert log_of(tmp_path / "other") != log_of(finished)
    results = [read_result(folder) for folder in (finished, tmp_path / "twin")]
    one, twin = (dataclasses.replace(each, seconds=0.0, command="") for each in results)
    assert one == twin


def test_run_is_validated_from_its_folder(finished, capsys):
    assert validate([str(finished)]) == 0
    result = read_result(finished)
    counts = f"fresh {result.fresh}, distinct {result.evaluations}, budget of 40 distinct, claims 1"
    assert counts in capsys.readouterr().out


def test_finished_run_says_so(finished, capsys):
    before = (finished / "result.json").read_bytes()
    assert main(["--folder", str(finished), "--resume"]) == 0
    assert "is finished" in " ".join(capsys.readouterr().out.split())
    assert (finished / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ("--observation", "full"),
        ("--preset", "paper"),
        ("--reward-timing", "telescoped", "--bitwidths", "2", "4", "8"),
    ],
)
def test_other_settings_run(tmp_path, options):
    assert run(tmp_path / "run", *options, budget=20) == 0
    assert read_result(tmp_path / "run").evaluations == 20


def test_restrictions_of_the_problem_hold_and_are_taken_up_again(tmp_path):
    folder = tmp_path / "run"
    options = ["--fixed-bitwidths", "layer1=8", "--groups", "layer0,layer3"]
    assert run(folder, *options, "--cost-budget", "cost=0.6", budget=20) == 0
    result = read_result(folder)
    first, fixed, _, last = result.bitwidths
    assert fixed == 8 and first == last
    assert result.cost <= 0.6 + 1e-9
    with np.load(folder / "policy.npz") as archive:
        assert archive["probabilities"].shape[1:] == (2, 7)
    resumed = parse(["--folder", str(folder), "--resume"])
    assert resumed.groups == ("layer0,layer3",)
    assert (resumed.fixed_bitwidths, resumed.cost_budget) == ({"layer1": 8}, {"cost": 0.6})


def test_a_finished_run_goes_on_with_a_higher_budget(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder, "--ent-coef", "0.5", budget=20) == 0
    earlier, entries = read_result(folder), log_of(folder)
    again = ["--folder", str(folder), "--resume"]
    assert main([*again, "--evaluation-budget", "15"]) == 2
    sentence = " ".join(capsys.readouterr().err.split())
    assert "--evaluation-budget 15 is less than the 20 that the run in" in sentence
    assert read_result(folder) == earlier

    assert main([*again, "--evaluation-budget", "60"]) == 0
    result = read_result(folder)
    assert (result.finished, result.evaluations) == (True, 60)
    assert result.objective >= earlier.objective
    assert log_of(folder)[: len(entries)] == entries
    first, second = result.command.split(" && ")
    assert first == earlier.command and second.endswith("--resume --evaluation-budget 60")
    assert validate([str(folder)]) == 0
    capsys.readouterr()
    assert main(again) == 0  # the higher budget is the run's from now on
    assert "is finished" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("place", ["agents.watch.TrainingWatch.after_step", "agents.run.Run._save"])
def test_a_continuation_that_is_stopped_at_once_goes_on(tmp_path, monkeypatch, place):
    def stop(*arguments):
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    assert run(folder, "--ent-coef", "0.5", budget=20) == 0
    again = ["--folder", str(folder), "--resume"]
    with monkeypatch.context() as patched:
        patched.setattr(place, stop)
        assert main([*again, "--evaluation-budget", "60"]) == 130
    assert not read_result(folder).finished
    assert main(again) == 0
    result = read_result(folder)
    assert (result.finished, result.evaluations) == (True, 60)
    assert validate([str(folder)]) == 0


def test_a_budget_beyond_all_assignments_changes_nothing(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder, "--bitwidths", "4", "8", "--ent-coef", "0.5", budget=500) == 0
    files = {path: path.read_bytes() for path in folder.iterdir()}
    for budget in ("600", "20"):
        assert main(["--folder", str(folder), "--resume", "--evaluation-budget", budget]) == 0
        assert "is finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.iterdir()} == files


def test_an_answer_that_stays_keeps_its_report(tmp_path, monkeypatch):
    """Without another retraining; another answer is not left beside the network of the old one."""
    folder = tmp_path / "run"
    begun = ["--net", "digits", "--bitwidths", "4", "8", *SMALL[:-1], "--folder", str(folder)]
    assert main([*begun, "--evaluation-budget", "12"]) == 0
    earlier = read_result(folder)
    assert earlier.report is not None and (folder / "quantized.safetensors").is_file()
    monkeypatch.setattr("agents.run.final_report", None)
    again = ["--folder", str(folder), "--resume", "--no-report"]
    assert main([*again, "--evaluation-budget", "13"]) == 0
    result = read_result(folder)
    stays = result.bitwidths == earlier.bitwidths
    assert result.evaluations == 13
    assert result.report == (earlier.report if stays else None)
    assert (folder / "quantized.safetensors").is_file() == stays
    other = dataclasses.replace(earlier, bitwidths=(8, 8, 8, 8))
    assert earlier.bitwidths != other.bitwidths
    write_result(folder, other)
    assert main([*again, "--evaluation-budget", "14"]) == 0
    assert read_result(folder).report is None
    assert not (folder / "quantized.safetensors").exists()


def test_an_agent_of_another_version_is_refused_with_a_sentence(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    assert run(folder, "--observation", "full", "--agent", "ppo", budget=20) == 0
    monkeypatch.setattr(AttentionExtractor.__init__, "__defaults__", (32, 8))
    again = ["--folder", str(folder), "--resume", "--evaluation-budget", "40"]
    assert main(again) == 2
    assert "was it made by another version of releq_gym?" in capsys.readouterr().err
    assert read_result(folder).finished


def test_a_finished_run_can_be_reported(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("agents.run.final_report", lambda *given: asked.append(given))
    assert run(tmp_path / "run", budget=8) == 0
    assert not asked  # it was begun with --no-report
    assert main(["--folder", str(tmp_path / "run"), "--resume", "--report"]) == 0
    assert len(asked) == 1 and read_result(tmp_path / "run").evaluations == 8


def test_interrupted_run_goes_on_to_its_budget(tmp_path):
    folder = tmp_path / "run"
    # Much entropy, so that almost every episode asks for something new.
    options = ["--task", "synthetic-6-0", "--evaluation-budget", "300", "--ent-coef", "0.5", *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.train", *options, "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = folder / "log.jsonl"
    while process.poll() is None and not (log.is_file() and len(log.read_bytes()) > 6000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert f"--folder {folder} --resume" in re.sub(r"\s+", " ", output)
    earlier, entries = read_result(folder), log_of(folder)
    assert not earlier.finished
    assert 0 < earlier.evaluations < 300
    assert validate([str(folder)]) == 0

    assert main(["--folder", str(folder), "--resume"]) == 0
    result = read_result(folder)
    assert result.finished
    assert result.evaluations == 300
    assert result.objective >= earlier.objective
    assert result.seconds > earlier.seconds
    assert "--resume" not in result.command
    assert log_of(folder)[: len(entries)] == entries
    environments = [record["env"] for record in log_of(folder) if "task" in record]
    assert environments == list(range(8))
    assert validate([str(folder)]) == 0


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (0, "tells of 0 different assignments, but result.json beside it of 40"),
        (8, "much of the log is lost"),
        (35, "tells of 31 different assignments"),
    ],
)
def test_a_run_without_its_log_is_not_resumed(finished, tmp_path, capsys, lines, sentence):
    folder = shutil.copytree(finished, tmp_path / "run")
    log, result = folder / "log.jsonl", (folder / "result.json").read_text()
    kept = log.read_text().splitlines(keepends=True)[:lines]
    log.write_text("".join(kept))
    assert main(["--folder", str(folder), "--resume", "--evaluation-budget", "60"]) == 2
    assert sentence in capsys.readouterr().err
    assert (folder / "result.json").read_text() == result
    assert log.read_text() == "".join(kept)


def test_the_log_of_another_run_is_not_taken_up(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    QuantizeNetEnv(task="synthetic-5-0", log=tmp_path / "other.jsonl").close()
    (tmp_path / "other.jsonl").replace(folder / "log.jsonl")
    assert main(["--folder", str(folder), "--resume", "--evaluation-budget", "60"]) == 2
    told = "is of another run: its evaluator is 'synthetic-5-0', here it is 'synthetic-4-0'"
    assert told in capsys.readouterr().err


def test_a_damaged_line_is_named(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    log = folder / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    for damaged in ("nonsense", "[]", '{"env":0,"revealed":[[4,0,0.9,1]]}'):
        log.write_text("".join([*lines[:3], damaged + "\n", *lines[4:]]))
        assert main(["--folder", str(folder), "--resume", "--evaluation-budget", "60"]) == 2
        assert "log.jsonl, line 4, is damaged" in capsys.readouterr().err
    log.write_bytes(b"\xff" + "".join(lines).encode())
    assert main(["--folder", str(folder), "--resume", "--evaluation-budget", "60"]) == 2
    assert "log.jsonl is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "raised", "told"),
    [
        ("np.zeros(3) + np.zeros(2)", RuntimeError, "could not be broadcast"),
        ("self.env.step(99)", ValueError, r"99.* \(line 19 of .*faulty.py\)"),
    ],
)
def test_faults_of_an_agent_are_told_from_what_the_user_has_to_mend(
    tmp_path, monkeypatch, fault, raised, told
):
    (tmp_path / "faulty.py").write_text(FAULTY.replace("FAULT", fault))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    args = parse(
        ["--agent", "faulty:Faulty", "--task", "synthetic-4-0", "--folder", f"{tmp_path}/run"]
    )
    with pytest.raises(raised, match=told):
        train(args, "command")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("def save(", "def keep("), "lacks save, see agents/base.py"),
        (("presets =", "chosen ="), "lacks presets = {'default'"),
        (("self.env = make_env()", "raise ValueError('no')"), "no (line 15 of "),
    ],
)
def test_what_an_agent_lacks_is_said(tmp_path, monkeypatch, capsys, change, sentence):
    (tmp_path / "faulty.py").write_text(FAULTY.replace(*change))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    assert main(["--agent", "faulty:Faulty", "--task", "synthetic-4-0"]) == 2
    assert sentence in capsys.readouterr().err


def test_half_a_line_in_the_log_is_cut_off(finished, tmp_path):
    problem = QuantizeNetEnv(task="synthetic-4-0").problem
    log = tmp_path / "log.jsonl"
    whole = (finished / "log.jsonl").read_text()
    log.write_text(whole + '{"env":0,"seed":nu')
    ledger = Ledger(100)
    restore_ledger(ledger, log, problem)
    assert (ledger.distinct, ledger.environments) == (40, 4)
    go_on_logging(ledger, log)
    assert log.read_text() == whole
    log.write_text('{"env":0,"task":{"ev')
    restore_ledger(Ledger(), log, problem)
    go_on_logging(ledger, log)
    assert log.read_text() == "" and ledger.log == log


def test_numbers_go_on_behind_those_of_episodes_that_were_lost(finished, tmp_path):
    lines = (finished / "log.jsonl").read_text().splitlines(keepends=True)
    log, ledger = tmp_path / "log.jsonl", Ledger()
    log.write_text("".join(lines[:10] + lines[11:]))
    restore_ledger(ledger, log, QuantizeNetEnv(task="synthetic-4-0").problem)
    assert ledger.fresh == read_result(finished).fresh
    assert ledger.distinct == 39


def test_resumed_run_takes_the_options_it_was_begun_with(finished):
    assert run(finished, "--resume") == 0


def test_resumed_run_keeps_its_settings(finished, capsys):
    assert main(["--folder", str(finished), "--resume", "--seed", "3"]) == 2
    assert "--seed differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--net", "digitz"], "Did you mean 'digits'"),
        (["--task", "synthetic-3-0"], "has 4 to 64 layers, not 3"),
        (["--task", "nowhere"], "Unknown task 'nowhere'"),
        (["--agent", "recurent_ppo"], "Did you mean 'recurrent_ppo'"),
        (["--preset", "papers"], "Did you mean 'paper'"),
        (["--reward", "relec"], "Did you mean 'releq'"),
        (["--observation", "layers"], "Did you mean 'layer'"),
        (["--reward-timing", "last"], "Unknown reward_timing 'last'"),
        (["--reward", "ratio", "--max-loss-points", "1"], "has no parameter 'max_loss_points'"),
        (["--cost", "nothing"], "Unknown cost 'nothing'"),
        (["--evaluator", "dead"], "Unknown evaluator 'dead'"),
        (["--bitwidths", "1", "2"], "bitwidths=[1, 2]"),
        (["--seed", "-1"], "seed=-1 must be a whole number, 0 or more"),
        (["--groups", "layer0,layr1"], "Unknown layer in groups 'layr1'"),
        (["--fixed-bitwidths", "layer9=8"], "Unknown layer in fixed_bitwidths 'layer9'"),
        (["--cost-budget", "cost=0.01"], "cannot be met"),
        (["--evaluation-budget", "0"], "at least 1"),
        (["--threads", "0"], "has to be at least 1"),
        (["--n-envs", "0"], "n_envs=0"),
        (["--learning-rate", "nan"], "learning_rate=nan has to be a finite number"),
        (["--ent-coef", "-1"], "ent_coef=-1.0 has to be a finite number, 0 or more"),
        (["--gamma", "1.5"], "gamma=1.5 has to be at most 1"),
        (["--agent", "warm_start", "--reward-timing", "every_step"], "A searcher needs"),
        (["--agent", "warm_start", "--searcher", "greed"], "Did you mean 'greedy'"),
        (["--agent", "ppo_one_shot", "--n-envs", "1"], "would see a single step"),
        (["--agent", "pretrained", "--policy", "gone"], "The policy gone cannot be read"),
        (["--agent", "ppo", "--preset", "paper"], "Unknown preset of ppo 'paper'"),
        (["--agent", "ppo_one_shot", "--reward-timing", "every_step"], "use evaluate='final'"),
        (["--weights", "x.safetensors"], "is for evaluator='live'"),
        (["--resume"], "needs --folder"),
    ],
)
def test_mistakes_get_a_sentence_and_leave_nothing(
    tmp_path, monkeypatch, capsys, options, sentence
):
    monkeypatch.chdir(tmp_path)
    named = {"--task", "--net"} & set(options)
    task = [] if named else ["--task", "synthetic-4-0"]
    try:
        assert main([*task, *options]) == 2
    except SystemExit as error:
        assert error.code == 2
    assert sentence in " ".join(re.sub(r"[│\s]+", " ", capsys.readouterr().err).split())
    assert not list(tmp_path.iterdir())


def test_used_folder_is_refused(finished, capsys):
    assert run(finished) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert run(tmp_path / "file") == 2
    assert "is a file; a run needs a folder, new or empty" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"


def test_nothing_to_resume(tmp_path, capsys):
    assert main(["--folder", str(tmp_path), "--resume"]) == 2
    assert "no run to resume" in capsys.readouterr().err


def test_paper_preset_is_the_papers():
    args = parse(["--preset", "paper"])
    assert (args.reward, args.reward_timing, args.observation) == ("releq", "every_step", "paper")
    settings = args.settings
    assert (settings.learning_rate, settings.n_epochs) == (1e-4, 3)
    assert (settings.clip_range, settings.gae_lambda) == (0.1, 0.99)
    assert parse(["--preset", "paper", "--clip-range", "0.3"]).settings.clip_range == 0.3


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"])
    text = capsys.readouterr().out
    for option in ("--net", "--evaluation-budget", "--no-report", "--learning-rate", "--resume"):
        assert option in text
    registries = (AGENTS, COSTS, OBSERVATIONS, QUANTIZERS, REWARDS)
    names = {name for registry in registries for name in registry.names()}
    assert names <= set(re.findall(r"\w+", text))


def test_another_agent_is_one_class(tmp_path, monkeypatch):
    settings_type = type(AGENTS["recurrent_ppo"].presets["default"].settings)

    class Blind(Agent):
        presets = {"default": Preset(settings_type(gamma=1.0))}  # noqa: RUF012

        def __init__(self, make_env, settings, seed, checkpoint=None):
            self.env, self.seed, self.steps = make_env(), seed, 0
            self.rng = np.random.default_rng(seed)

        def learn(self, steps, watch):
            goes_on = True
            while goes_on and self.steps < steps:
                self.env.reset()
                over = False
                while goes_on and not over:
                    action = int(self.rng.integers(self.env.action_space.n))
                    _, _, terminated, truncated, _ = self.env.step(action)
                    over = terminated or truncated
                    self.steps += 1
                    goes_on = watch.after_step()

        def save(self, path):
            path.write_text("nothing learned")

        def close(self):
            self.env.close()

    monkeypatch.setitem(AGENTS._entries, "blind", Blind)
    assert run(tmp_path / "run", "--agent", "blind") == 0
    result = read_result(tmp_path / "run")
    assert (result.searcher, result.evaluations) == ("blind", 40)


def test_an_agent_that_ends_by_itself_is_said_to(tmp_path, monkeypatch, capsys):
    class Idle(Agent):
        presets = AGENTS["recurrent_ppo"].presets

        def __init__(self, make_env, settings, seed, checkpoint=None):
            make_env().reset(seed=seed)

        def learn(self, steps, watch):
            pass

        def save(self, path):
            path.write_text("nothing learned")

        def close(self):
            pass

    monkeypatch.setitem(AGENTS._entries, "idle", Idle)
    run(tmp_path / "run", "--agent", "idle")
    said = " ".join(capsys.readouterr().out.split())
    assert "Ended with 0 of 40 assignments: the agent ended by itself, after 0 steps." in said


def test_search_ends_when_everything_is_measured(tmp_path):
    # So much entropy keeps the policy uniform.
    options = ["--bitwidths", "7", "8", "--ent-coef", "1"]
    assert run(tmp_path / "run", *options, budget=500) == 0
    assert read_result(tmp_path / "run").evaluations == 16


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ((), "Raise --evaluation-budget or offer more bits."),
        (("--reward", "releq"), "Of the rewards only accuracy_floor insists on that."),
    ],
)
def test_answer_beyond_the_floor_is_warned_of(tmp_path, capsys, options, advice):
    assert run(tmp_path / "run", "--bitwidths", "2", "3", *options, budget=16) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"more than the 0.30 that may be lost. {advice}" in said


def test_task_without_data_reports_its_own_measurements(tmp_path, capsys):
    task = toy_task(tmp_path / "task")
    options = ["--task", str(task), "--evaluation-budget", "9", "--folder", str(tmp_path / "run")]
    assert main([*options, *SMALL[:-1]]) == 0
    report = read_result(tmp_path / "run").report
    assert report is not None
    assert "mean of 3 repeats in the task" in report.source
    assert "not measured anew, because: Unknown net 'toy'" in report.source
    assert report.full_precision.accuracy == 0.905
    assert report.chosen.margin_points is None
    with pytest.raises(ValueError, match="retrained nothing"):
        evaluate_run(tmp_path / "run")


def test_an_untrained_network_is_warned_of_before_anything_is_written(tmp_path):
    weights = tmp_path / "untrained.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(NETWORKS["digits"].build().state_dict(), weights)
    options = ["--net", "digits", "--evaluator", "live", "--recipe", "ptq", *SMALL]
    options += ["--weights", str(weights), "--search-from-train", "--folder", str(tmp_path / "run")]
    with pytest.warns(UserWarning, match="Are its weights loaded"):
        Run(parse(options), "", Console(quiet=True))


def test_live_run_reports_what_its_integers_reproduce(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--net", "digits", "--evaluator", "live", "--recipe", "ptq", *SMALL[:-1]]
    options += ["--bitwidths", "4", "6", "8", "--evaluation-budget", "12"]
    assert main([*options, "--folder", str(folder)]) == 0
    result = read_result(folder)
    assert result.report is not None
    assert "report split, 449 images" in capsys.readouterr().out
    assert result.report.chosen.bitwidths == result.bitwidths
    assert result.report.chosen.margin_points is not None

    again = evaluate_run(folder)
    assert again.agrees
    assert again.accuracy == result.report.chosen.accuracy
    assert "as reported" in str(again)
    header = read_header(folder / "quantized.safetensors")
    assert tuple(header["bitwidths"].values()) == result.bitwidths
    module = load_quantized(folder / "quantized.safetensors")
    evaluator = LiveEvaluator("digits", recipe="ptq")
    trained = bake(evaluator.train(result.bitwidths, REPORT_SEED, "long"))
    images = evaluator.normalise(evaluator.splits.report.images)
    with torch.inference_mode():
        assert torch.equal(module.eval()(images), trained.eval()(images))


def test_the_curve_ends_at_the_answer(tmp_path):
    env = QuantizeNetEnv(
        task="synthetic-8-1",
        reward_timing="telescoped",
        cost_budget={"cost": 0.35},
        log=tmp_path / "log.jsonl",
    )
    rng = np.random.default_rng(0)
    for seed in range(3):
        env.reset(seed=seed)
        for _ in range(8):
            env.step(rng.choice(np.flatnonzero(env.action_masks())))
    env.close()
    figure = draw_learning_curve(read_revealed(tmp_path / "log.jsonl", env.problem), env.problem)
    _, curve = figure.axes[0].lines
    drawn = curve.get_ydata()
    # On the way to the first whole assignment the budget is exceeded, and there is no answer.
    assert np.isnan(drawn[0])
    assert drawn[-1] == env.ledger.best(env.problem).objective


def test_repeats_of_a_task_are_its_own(tmp_path, capsys):
    assert main(["--task", "synthetic-4-0", "--repeats", "5", "--folder", str(tmp_path / "x")]) == 2
    assert "repeats= is for evaluator='live'" in capsys.readouterr().err


def test_a_missing_report_is_made_up_for(tmp_path, capsys, monkeypatch):
    asked = []

    def no_images(evaluator, bitwidths, folder, data):
        asked.append(data)
        raise ValueError("no images")

    monkeypatch.setattr("agents.run.final_report", no_images)
    few = [option for option in SMALL if option != "--no-report"]
    begun = ["--task", "lenet-mnist-uniform-ptq-w1to8", "--evaluation-budget", "8", *few]
    again = ["--folder", str(tmp_path / "run"), "--resume"]
    assert main([*begun, "--folder", str(tmp_path / "run")]) == 0
    assert "--resume [--data PATH]" in capsys.readouterr().out
    assert main([*again, "--data", "elsewhere"]) == 0
    assert asked == [None, "elsewhere"]
    before = read_result(tmp_path / "run")
    assert before.finished and before.evaluations == 8


def test_a_run_says_why_it_ended_before_its_budget(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("agents.run.EPISODES_PER_EVALUATION", 1)
    assert run(tmp_path / "run", task="synthetic-4-0", budget=400) == 0  # some episodes repeat
    assert re.search(r"Ended with \d+ of 400 assignments", capsys.readouterr().out)


def test_a_cost_table_of_ones_own(tmp_path):
    layers = QuantizeNetEnv(task="synthetic-4-0").problem.layers
    cells = [f"{layer.name},{bits},{bits * 2.5}" for layer in layers for bits in range(2, 9)]
    (tmp_path / "mine.csv").write_text("\n".join(["layer,bitwidth,value", *cells]))
    options = ["--cost", "lookup", "--cost-kwargs", f"path={tmp_path / 'mine.csv'}"]
    assert run(tmp_path / "run", *options) == 0
    result = read_result(tmp_path / "run")
    assert result.cost == pytest.approx(np.mean(result.bitwidths) / 8)
    assert validate([str(tmp_path / "run")]) == 0
    assert main(["--folder", str(tmp_path / "run"), "--resume"]) == 0


OF_ONES_OWN = """
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Area:
    def __call__(self, layers, bitwidths):
        return {"area": np.array([[float(bits) ** 2 for bits in bitwidths] for _ in layers])}

def thrifty(transition):
    return -transition.cost
"""


def test_cost_and_reward_of_ones_own_are_named_by_module(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_cost.py").write_text(OF_ONES_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    options = ("--cost", "own_cost:Area", "--reward", "own_cost:thrifty")
    assert run(tmp_path / "run", *options, budget=20) == 0
    result = read_result(tmp_path / "run")
    assert result.figures["area"] == sum(bits**2 for bits in result.bitwidths)
    assert result.objective == pytest.approx(-result.cost)
    assert main(["--resume", "--folder", str(tmp_path / "run")]) == 0
    # A log is somebody's file: what it names is not imported.
    capsys.readouterr()
    assert validate([str(tmp_path / "run")]) != 0
    sys.modules.pop("own_cost")
