import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from agents.base import AGENTS
from benchmarks.generalisation import __main__ as generalisation
from benchmarks.generalisation import features
from benchmarks.generalisation import run as one_run
from benchmarks.generalisation.analysis import scores, tables
from benchmarks.generalisation.heuristics import (
    noise_of_others,
    noise_search,
    uniform_of_others,
    within_noise,
)
from benchmarks.generalisation.sweep import BITWIDTHS, ENTRANTS, NETS, REFERENCE
from benchmarks.runs import Job
from benchmarks.tables import markdown
from releq_gym.env import QuantizeNetEnv
from releq_gym.searchers import SEARCHERS, Player
from releq_gym.searchers.additive import noise_power
from releq_gym.tasks.catalog import DEFAULT_TASKS

TINY = {"landscapes": 1, "steps": 64, "copies": 2, "rollout": 16, "batch_size": 32, "n_epochs": 1}
TASKS = {"digits": "a", "lenet": "b", "vgg11": "c"}


def rows(searcher, regrets, budgets=(0, 10, 100), tasks=("a", "b", "c")):
    return pd.DataFrame(
        [
            {
                "task": task,
                "searcher": searcher,
                "seed": seed,
                "budget": budget,
                "search_regret": regret / (1 + budget),
                "regret": regret + 1.0,
                "objective": 0.5 - regret,
                "report_loss_points": 0.2,
                "weighted_bitwidth": 3.0,
            }
            for task in tasks
            for seed, regret in enumerate(regrets)
            for budget in budgets
        ]
    )


def test_development_does_not_count_and_budgets_that_lack_runs_are_left_out():
    made = pd.concat(
        [
            rows(REFERENCE, [0.4, 0.6, 0.5], tasks=("b", "c")),
            rows(REFERENCE, [9.0], tasks=("a",)),
            rows("random", [0.4], budgets=(10,), tasks=("b",)),
        ]
    )
    np.testing.assert_allclose(
        scores(made, REFERENCE, ["b", "c"])[0], [[0.4, 0.4], [0.6, 0.6], [0.5, 0.5]]
    )
    assert scores(made, "random", ["b", "c"]) == {}
    board = markdown(tables(made, TASKS)).split("## ")[1]
    assert "| policy, `layer` | 3 | 0.500 (0.398 to 0.602) |" in board
    assert "random search" not in board
    assert "| 67% | 67% | 67% |" in board  # an objective of 0 is that of all layers at 8 bits


def test_verdicts_are_by_evaluations():
    made = pd.concat(
        [
            rows(REFERENCE, [0.30, 0.31, 0.32]),
            rows("uniform_of_others", [0.9], budgets=(0,)),
            rows("integer_program", [0.1, 0.1, 0.1], budgets=(10, 100)),
        ]
    )
    (against,) = (part for part in markdown(tables(made, TASKS)).split("## ") if "against" in part)
    lines = {line.split(" | ")[0]: line.split(" | ")[1:] for line in against.splitlines()}
    assert lines["| uniform bitwidth of the other nets"][0].startswith("ahead")
    nothing, ten, hundred = lines["| additive integer program"]
    assert nothing == "" and ten.startswith("behind") and hundred.startswith("behind")


def test_memory_is_compared_with_the_same_policy_without():
    made = pd.concat(
        [
            rows("pretrained, paper", [0.30, 0.31, 0.32]),
            rows("pretrained, paper, memory", [0.2, 0.21, 0.22]),
            rows("pretrained, full, memory", [0.2, 0.21, 0.22]),
        ]
    )
    (memory,) = (part for part in markdown(tables(made, TASKS)).split("## ") if "With" in part)
    (line,) = (line for line in memory.splitlines() if "LSTM |" in line)
    label, *cells = line.strip("| ").split(" | ")
    assert label == "policy, `paper`, LSTM" and all(cell.startswith("ahead") for cell in cells)


def test_one_seed_is_no_verdict():
    made = pd.concat([rows(REFERENCE, [0.3]), rows("integer_program", [0.1], budgets=(10, 100))])
    (against,) = (part for part in markdown(tables(made, TASKS)).split("## ") if "against" in part)
    assert "| additive integer program |  | +0.018 | +0.002 |" in against


def test_one_seed_of_a_rival_is_no_verdict_either():
    ours = rows(REFERENCE, [0.3, 0.31, 0.32])
    one, three = rows("random", [0.9], budgets=(10, 100)), rows("local_search", [0.9] * 3)
    known = rows("noise_of_others", [0.9])  # has no seeds
    text = markdown(tables(pd.concat([ours, one, three, known]), TASKS))
    (against,) = (part for part in text.split("## ") if "against the others" in part)
    lines = {line.split("|")[1].strip(): line for line in against.splitlines() if "|" in line}
    assert "ahead" not in lines["random search"]
    assert "ahead" in lines["one-flip local search"]
    assert "ahead" in lines["noise budget of the other nets"]


def test_every_planned_run_can_be_made():
    assert set(NETS) <= set(DEFAULT_TASKS)
    for name, entrant in ENTRANTS.items():
        if entrant.kind == "searcher":
            assert name in SEARCHERS or name in AGENTS
        if entrant.kind == "policy":
            assert name.partition(",")[0] in AGENTS


def test_within_noise_is_the_cheapest_and_asks_nothing():
    env = QuantizeNetEnv(task="synthetic-4-0")
    player = Player(env)
    power, costs = noise_power(player), player.totals[:, :, 0]
    grid = np.indices((7,) * 4).reshape(4, -1)
    steps = np.arange(4)[:, None]
    kept = power[steps, grid].sum(axis=0) <= 0.05
    chosen = within_noise(env, 0.05)
    digits = player.digits([chosen])[0]
    least = costs[steps, grid].sum(axis=0)[kept].min()
    assert costs[np.arange(4), digits].sum() == pytest.approx(least)
    assert env.ledger.fresh == 0
    assert within_noise(env, 0.0) == (8,) * 4
    assert within_noise(env, 1e9) == (2,) * 4


def test_a_noise_search_starts_where_it_is_told_and_gains():
    env = QuantizeNetEnv(task="synthetic-8-0", evaluation_budget=15)
    env.reset(seed=0)
    noise_search(1e-4)(env, np.random.default_rng(0))
    asked = list(env.ledger.cells(env.problem))
    assert asked[0] == within_noise(env, 1e-4)
    assert 3 < len(asked) <= 15
    first = env.problem.objective(asked[0], env.ledger.cell(env.problem, asked[0]).accuracy)
    assert env.ledger.best(env.problem).objective > first


def test_what_serves_the_others_is_what_serves_them_best_on_average():
    tasks = ("synthetic-4-0", "synthetic-4-1")
    bitwidth, limit = uniform_of_others(tasks), noise_of_others(tasks)

    def worth(choose):
        return np.mean(
            [
                env.problem.objective(chosen, env.problem.evaluator.evaluate(chosen, 0).accuracy)
                for env in (QuantizeNetEnv(task=task) for task in tasks)
                for chosen in [choose(env)]
            ]
        )

    best = worth(lambda env: (bitwidth,) * 4)
    assert all(worth(lambda env, one=one: (one,) * 4) <= best for one in BITWIDTHS)
    for other in (limit / 10, limit * 10):
        assert worth(lambda env, one=other: within_noise(env, one)) <= worth(
            lambda env: within_noise(env, limit)
        )


@pytest.fixture
def small(monkeypatch):
    """Two networks, three entrants, hardly any pretraining."""
    monkeypatch.setattr(one_run, "NETS", ("lenet", "digits"))
    monkeypatch.setattr(one_run, "PRETRAINING", TINY)
    monkeypatch.setattr(one_run, "BUDGETS", (0, 3))
    one_run.tasks.cache_clear()
    yield
    one_run.tasks.cache_clear()


def test_a_policy_is_pretrained_once_without_the_network_and_answers_before_it_asks(
    small, tmp_path
):
    from agents.policy_file import read_card

    job = Job(DEFAULT_TASKS["lenet"], "pretrained, layer", 300)
    first, later = one_run.run(job, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    assert path.name == "layer-without-lenet-300.safetensors"
    assert read_card(path).nets == ("digits", "synthetic")
    assert (first["budget"], first["evaluations"], first["fresh"]) == (0, 0, 0)
    assert (later["budget"], later["evaluations"]) == (3, 3)
    assert set(first["bitwidths"].split()) <= {f"{bitwidth}" for bitwidth in BITWIDTHS}
    written = path.stat().st_mtime_ns
    again = one_run.run(job, tmp_path)
    assert path.stat().st_mtime_ns == written
    assert [{**row, "seconds": 0} for row in again] == [
        {**row, "seconds": 0} for row in (first, later)
    ]


def test_a_policy_that_others_have_taught_is_not_used(small, tmp_path, monkeypatch):
    job = Job(DEFAULT_TASKS["lenet"], "pretrained, layer", 300)
    one_run.policy_file(job, tmp_path)
    monkeypatch.setattr(one_run, "NETS", ("digits", "lenet", "svhn10"))
    one_run.tasks.cache_clear()
    with pytest.raises(ValueError, match=r"was taught by digits, .*svhn10.* remove it"):
        one_run.policy_file(job, tmp_path)


def test_a_policy_of_other_settings_is_not_used(small, tmp_path, monkeypatch):
    job = Job(DEFAULT_TASKS["lenet"], "pretrained, layer", 300)
    one_run.policy_file(job, tmp_path)
    one_run.policy_file(job, tmp_path)
    monkeypatch.setattr(one_run, "PRETRAINING", {**one_run.PRETRAINING, "steps": 1_000})
    with pytest.raises(ValueError, match="was pretrained with other settings"):
        one_run.policy_file(job, tmp_path)


@pytest.mark.parametrize("entrant", ["uniform_of_others", "noise_of_others", "random"])
def test_all_others_keep_to_the_same_bitwidths(small, tmp_path, entrant):
    made = one_run.run(Job(DEFAULT_TASKS["lenet"], entrant, 300), tmp_path)
    budgets = {"uniform_of_others": [0], "noise_of_others": [0, 3], "random": [3]}
    assert [row["budget"] for row in made] == budgets[entrant]
    assert all(row["bitwidths"].split() and "1" not in row["bitwidths"].split() for row in made)


def test_the_command_goes_on_where_it_was(small, tmp_path, monkeypatch, capsys):
    calls = []

    def serial(function, arguments, path, columns, workers):
        for one in arguments:
            calls.append(one[0])
            generalisation.append_rows(path, function(*one), columns)
            if len(calls) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.pool.append_each", serial)
    words = ["--entrant", "random", "--entrant", "noise_of_others", "--seeds", "2"]
    words += ["--results", str(tmp_path)]
    assert generalisation.main(words) == 130
    assert generalisation.main(words) == 0
    assert len(calls) == len(set(calls)) == 6  # the heuristic has one run per network
    kept = pd.read_csv(tmp_path / "rows.csv")
    assert (kept["searcher"] == "uniform_oracle").sum() == 2
    assert "random search" in capsys.readouterr().out
    assert (tmp_path / "regrets.png").stat().st_size > 1_000
    assert generalisation.main(words) == 0
    assert len(calls) == 6
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "rows.csv"), kept)


def test_unknown_names_are_answered_in_a_sentence(tmp_path, capsys):
    words = ["--results", str(tmp_path)]
    assert generalisation.main(["--net", "lenett", *words]) == 2
    assert "Did you mean 'lenet'" in capsys.readouterr().err
    assert generalisation.main(["--entrant", "ppo", *words]) == 2
    assert "entrant" in capsys.readouterr().err
    assert generalisation.main(["--entrant", "uniform_oracle", *words]) == 2
    assert "Nothing is to be run" in capsys.readouterr().err


def test_labels_differ():
    labels = [dataclasses.asdict(entrant)["label"] for entrant in ENTRANTS.values()]
    assert len(set(labels)) == len(labels)


def test_what_a_policy_looks_at(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(one_run, "PRETRAINING", TINY)
    monkeypatch.setattr(features, "tasks", lambda: {"lenet": DEFAULT_TASKS["lenet"]})
    where = ["--seeds", "1", "--results", str(tmp_path)]
    assert features.main(where) == 0
    text = capsys.readouterr().out
    assert "| `sqnr` |" in text and "`sqnr_2`" not in text
    made = pd.read_csv(tmp_path / "features.csv").set_index("feature")
    # Without evaluations nothing is measured, and nothing else moves these.
    assert made.loc["loss", "changed_percent"] == 0
    assert made.loc["loss", "regret"] == made.loc["loss", "regret_without"]
    assert made.loc["weights", "changed_percent"] > 0
    assert (tmp_path / "features.png").stat().st_size > 10_000
    before = (tmp_path / "features.csv").read_text()
    assert features.main(where) == 0
    assert (tmp_path / "features.csv").read_text() == before


def test_a_choice_that_hangs_on_one_feature_moves_with_it():
    class Policy:
        def get_distribution(self, seen):
            probs = torch.stack([seen[:, 1], 1 - seen[:, 1]], dim=1)
            return SimpleNamespace(distribution=SimpleNamespace(probs=probs))

    seen = np.array([[0.2, 0.0], [0.4, 1.0]], np.float32)
    elsewhere = np.array([[0.9, 1.0]], np.float32)
    assert features.changed(Policy(), seen, elsewhere, [1]) == 0.5  # the first moves, all of it
    assert features.changed(Policy(), seen, elsewhere, [0]) == 0.0
