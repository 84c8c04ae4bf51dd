import pandas as pd
import pytest

from benchmarks.regret.__main__ import main
from benchmarks.regret.analysis import markdown, score
from benchmarks.regret.run import run
from benchmarks.regret.sweep import BUDGETS, ENUMERATION, STUDIES, VARIANTS, Study
from benchmarks.runs import Job, known_rows
from releq_gym.searchers import SEARCHERS


def rows(searcher, regrets, budget=100):
    return [
        {
            "task": "a",
            "searcher": searcher,
            "seed": seed,
            "budget": budget,
            "regret": regret,
            "weighted_bitwidth": 4.0,
            "seconds": 1.0,
            "simulated_seconds": 5000.0,
        }
        for seed, regret in enumerate(regrets)
    ]


def test_the_interquartile_mean_ignores_the_outer_quarters():
    (record,) = score(pd.DataFrame(rows("random", [0.0, 0.2, 0.4, 9.0]))).to_dict("records")
    assert record["iqm"] == pytest.approx(0.3)
    assert record["median"] == pytest.approx(0.3)
    assert record["low"] <= record["iqm"] <= record["high"]


def test_the_table_has_a_column_per_budget_and_states_the_differences():
    table = pd.DataFrame(
        [
            *(row for budget in (50, 100) for row in rows("random", [0.3, 0.4, 0.35], budget)),
            *(
                row
                for budget in (50, 100)
                for row in rows("recurrent_ppo", [0.1, 0.2, 0.1], budget)
            ),
            *rows("search_oracle", [0.01], 2401),
        ]
    )
    text = markdown(table)
    assert "| searcher | 50 | 100 | seconds | measuring |" in text
    assert "| search oracle | 0.010 | 0.010 | 1 | 5,000 |" in text
    assert "RecurrentPPO minus random search at 100: -0." in text


def test_every_run_that_is_planned_can_be_made():
    for study in STUDIES.values():
        assert set(study.tasks) <= set(BUDGETS)
        assert all(name in {*VARIANTS, *SEARCHERS, ENUMERATION} for name in study.searchers)


def test_a_run_gives_a_row_per_budget_and_regret_falls():
    made = run(Job("digits-digits-wrpn-short-w2to8", "random", 0))
    assert made[-1]["regret"] < made[0]["regret"]
    assert [row["budget"] for row in made] == [60, 120, 240, 600]
    assert made[-1]["fresh"] >= 600
    assert made == [{**row, "seconds": made[0]["seconds"]} for row in made]


def test_the_oracles_know_what_searches_cannot():
    known = {row["searcher"]: row for row in known_rows("synthetic-20-0")}
    assert known["optimum"]["regret"] == 0
    assert 0 < known["uniform_hindsight"]["regret"] < 1
    assert "search_oracle" not in known


def test_enumeration_measures_every_assignment():
    (row,) = run(Job("digits-digits-wrpn-short-w2to8", ENUMERATION, 0))
    assert row["budget"] == 2401 <= row["fresh"]
    assert row["simulated_seconds"] > 0
    oracle = {row["searcher"]: row for row in known_rows("digits-digits-wrpn-short-w2to8")}
    assert row["regret"] <= oracle["search_oracle"]["regret"] + 0.1


def test_a_task_that_is_not_there_is_a_sentence(monkeypatch, tmp_path, capsys):
    study = Study(("nothing",), ("random",), (0,))
    monkeypatch.setitem(STUDIES, "searchers", study)
    monkeypatch.setattr("sys.argv", ["regret", "--results", str(tmp_path)])
    assert main() == 2
    assert "Unknown task 'nothing'" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_two_seeds_have_no_interval():
    text = markdown(pd.DataFrame([*rows("random", [0.3, 0.4]), *rows("recurrent_ppo", [0.1, 0.2])]))
    assert "| random search | 0.350 |" in text and "RecurrentPPO minus" not in text
