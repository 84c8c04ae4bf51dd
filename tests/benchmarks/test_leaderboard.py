import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from agents.warm_start import PLANNING
from benchmarks.leaderboard import __main__ as leaderboard
from benchmarks.leaderboard import run as leaderboard_run
from benchmarks.leaderboard.analysis import standings, tables
from benchmarks.leaderboard.page import Picture, Section, render
from benchmarks.leaderboard.pictures import LOOKS, anytime
from benchmarks.leaderboard.sweep import ENTRANTS, TRACKS, Track
from benchmarks.random_search import random_search
from benchmarks.runs import Job, known_rows, run
from benchmarks.tables import markdown
from benchmarks.validate.__main__ import main as validate_main
from releq_gym.env import QuantizeNetEnv
from releq_gym.tasks.score import make_scorer

TRACK = Track("Toys", ("one", "two"), (10, 20), 20, (0, 1, 2))


def rows(searcher, regrets, budgets=(10, 20), tasks=("one", "two")):
    """Rows whose search regret at the first budget is half as much again as at the last."""
    return [
        {
            "task": task,
            "searcher": searcher,
            "seed": seed,
            "budget": budget,
            "search_regret": regret * (1.5 if budget == 10 else 1.0),
            "regret": regret + 1.0,
            "report_loss_points": 0.2,
            "releq": 0.1,
            "weighted_bitwidth": 3.0,
            "excess_bits": 0.5,
            "fresh": budget + 2,
            "simulated_seconds": 4.0,
            "seconds": 2.0,
            "walk_search_regret": np.nan if budget == 10 else 0.25,
        }
        for task in tasks
        for seed, regret in enumerate(regrets)
        for budget in budgets
    ]


def board(*parts):
    return pd.DataFrame([row for part in parts for row in part])


def test_the_best_where_the_track_is_ranked_stands_first():
    found = standings(
        board(
            rows("random", [0.4] * 3),
            rows("greedy", [0.25] * 3, (10,)),
            rows("local_search", [0.3] * 3),
        ),
        TRACK,
    )
    # At 20, or in the end: 0.4, 0.375 and 0.3.
    assert [one.entrant for one in found] == ["local_search", "greedy", "random"]


def test_who_lacks_runs_is_not_on_the_board():
    found = standings(
        board(rows("random", [0.4] * 3), rows("local_search", [0.1] * 3, tasks=("one",))), TRACK
    )
    assert [one.entrant for one in found] == ["random"]


def test_only_the_seeds_count_that_all_tasks_have():
    begun = board(
        rows("random", [0.4, 0.2]), rows("random", [0.4, 0.2, 0.1], tasks=("one",))
    ).drop_duplicates(["task", "seed", "budget"])
    (one,) = standings(begun, TRACK)
    assert one.scores[20].tolist() == [[0.4, 0.4], [0.2, 0.2]]


def test_who_has_run_a_part_stands_in_the_tables_of_tasks():
    part = board(rows("random", [0.4], tasks=("one",)))
    (alone,) = tables(part, TRACK)
    assert alone.title == "one" and alone.rows[0][0] == "random search"


def test_nobody_is_ahead_by_one_run():
    few = board(rows("recurrent_ppo", [0.1, 0.1]), rows("random", [0.4, 0.4]))
    text = markdown(list(tables(few, TRACK)))
    assert "| random search | -0.450 | -0.300 | -0.300 |" in text
    assert "ahead (" not in text and "(0.100 to 0.100)" not in text


def test_differences_say_who_is_ahead():
    clear = board(
        rows("recurrent_ppo", [0.1, 0.11, 0.12]),
        rows("random", [0.4, 0.41, 0.42]),
        rows("integer_program", [0.0, 0.01, 0.02]),
        rows("local_search", [0.02, 0.1, 0.2]),
    )
    text = markdown(tables(clear, TRACK))
    (against,) = (part for part in text.split("## ") if part.startswith("RecurrentPPO against"))
    verdicts = dict(line.split(" | ")[:2] for line in against.splitlines() if "(" in line)
    assert verdicts["| random search"].startswith("ahead")
    assert verdicts["| additive integer program"].startswith("behind")
    assert verdicts["| one-flip local search"].startswith("undecided")


def test_report_regret_has_verdicts_of_its_own_where_there_are_report_data():
    both = board(rows("recurrent_ppo", [0.1, 0.11, 0.12]), rows("random", [0.4, 0.41, 0.42]))
    both["regret"] = np.where(both["searcher"] == "random", 0.5, 0.9)
    text = markdown(tables(both, TRACK))
    assert "report at 20 |" in text
    (verdict,) = (line for line in text.splitlines() if "| ahead" in line)
    assert verdict.count("ahead") == 2 and verdict.endswith("| behind (+0.400 to +0.400) |")
    both["regret"] = both["search_regret"]
    assert "report at" not in markdown([*tables(both, TRACK)][:2])


def test_rows_of_nobodys_plan_do_not_count(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        leaderboard, "TRACKS", {"toy": Track("Toy", ("synthetic-4-0",), (5,), 5, (0,))}
    )
    words = ["--searcher", "uniform", "--results", str(tmp_path), "--workers", "1"]
    assert leaderboard.main(words) == 0
    board, path = (tmp_path / "leaderboard.md").read_text(), tmp_path / "rows.csv"
    lines = path.read_text().splitlines(keepends=True)
    forged = lines[1].replace(",uniform,0,5,", ",uniform,999,5,")
    path.write_text("".join([*lines, forged]))
    capsys.readouterr()
    assert leaderboard.main(words) == 0
    assert "1 rows of" in (said := capsys.readouterr().err) and "do not count" in said
    assert (tmp_path / "leaderboard.md").read_text() == board
    path.write_text("".join([*lines, lines[1]]))
    assert leaderboard.main(words) == 2
    assert "synthetic-4-0 uniform 0 5 is there twice; remove one." in capsys.readouterr().err


def test_the_board_has_regrets_intervals_and_report():
    text = markdown(tables(board(rows("random", [0.4] * 3)), TRACK))
    regrets = "| random search | 0.600 (0.600 to 0.600) | 0.400 (0.400 to 0.400) "
    assert f"{regrets}| 1.400 (1.400 to 1.400) | 0.250 | +0.50 | 2 |" in text
    assert (
        "| random search | 0.600 / 1.400 | 0.400 / 1.400 | 3.00 | +0.20 | 0.100 | 22 | 4 | 2 |"
        in text
    )


def test_who_stops_early_has_no_later_cells(monkeypatch):
    monkeypatch.setitem(ENTRANTS, "tpe", replace(ENTRANTS["tpe"], most=10))
    text = markdown(tables(board(rows("tpe", [0.4] * 3, (10,)), rows("random", [0.4] * 3)), TRACK))
    assert "| TPE | 0.600 (0.600 to 0.600) |  | 1.400 (1.400 to 1.400) |  | +0.50" in text


def test_the_page_is_one_file_and_escapes_what_it_is_told():
    (table, *_) = tables(board(rows("random", [0.4] * 3)), TRACK)
    page = render([Section([table._replace(title="<b>")], [Picture("p", "data:image/png,x")])], "c")
    assert "<h2>&lt;b&gt;</h2>" in page and "<td>random search</td>" in page
    assert 'src="data:image/png,x"' in page and "http" not in page


def test_every_planned_run_can_be_made():
    from agents.base import AGENTS
    from releq_gym.searchers import SEARCHERS

    registered = {"agent": AGENTS, "searcher": SEARCHERS, "known": ENTRANTS}
    for name, entrant in ENTRANTS.items():
        assert name in registered[entrant.kind]
    assert all(list(track.budgets) == sorted(track.budgets) for track in TRACKS.values())
    assert all(track.ranked_at in track.budgets for track in TRACKS.values())


def test_a_run_gives_rows_and_a_log_and_is_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        leaderboard, "TRACKS", {"toy": Track("Toy", ("synthetic-4-0",), (5, 20), 20, (0, 1))}
    )
    asked = ["--searcher", "random", "--workers", "1", "--results", str(tmp_path)]
    assert leaderboard.main(asked) == 0
    made = pd.read_csv(tmp_path / "rows.csv")
    assert list(made[made["searcher"] == "random"]["budget"]) == [5, 20, 5, 20]
    assert made.loc[made["searcher"] == "optimum", "search_regret"].tolist() == [0.0]
    log = tmp_path / "logs" / "synthetic-4-0" / "random" / "1.jsonl.gz"
    assert gzip.decompress(log.read_bytes()).count(b"\n") >= 20
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    printed = capsys.readouterr().out
    assert "## Toy" in printed and "## synthetic-4-0" not in printed
    assert str(tmp_path / "leaderboard.html") in printed
    assert leaderboard.main([*asked, "--task", "synthetic-4-0"]) == 0
    assert "## synthetic-4-0" in capsys.readouterr().out
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "rows.csv"), made)


def test_hashes_vouch_for_logs_that_are_not_kept(tmp_path, monkeypatch, capsys):
    toy = Track("Toy", ("synthetic-4-0",), (5, 20), 20, (0, 1, 2))
    monkeypatch.setattr(leaderboard, "TRACKS", {"toy": toy})
    asked = ["--searcher", "random", "--workers", "1", "--results", str(tmp_path)]
    assert leaderboard.main([*asked, "--seeds", "2"]) == 0
    digests = tmp_path / "logs.sha256"
    logs = tmp_path / "logs" / "synthetic-4-0" / "random"
    text = gzip.decompress((logs / "0.jsonl.gz").read_bytes())
    told = digests.read_text()
    assert f"{hashlib.sha256(text).hexdigest()}  synthetic-4-0/random/0.jsonl\n" in told
    (logs / "1.jsonl.gz").unlink()
    assert leaderboard.main(asked) == 0
    assert told in digests.read_text() and digests.read_text().count("\n") == 3
    check = [str(tmp_path / "logs"), "--claims", str(tmp_path / "rows.csv"), "--workers", "1"]
    check += ["--sha256", str(digests)]
    capsys.readouterr()
    assert validate_main(check) == 0
    printed = capsys.readouterr().out
    assert "4 of 7 rows are about these logs." in printed
    assert "2 are about 1 others, of which the hash is known." in printed
    # An honest log in the place of another honest one.
    (logs / "0.jsonl.gz").write_bytes((logs / "2.jsonl.gz").read_bytes())
    assert validate_main(check) == 1
    assert "It is another log: its sha256" in capsys.readouterr().out
    digests.write_text("nothing\n")
    assert validate_main(check) == 2
    assert "line 1, has to read SHA256" in capsys.readouterr().err


def test_who_plans_has_a_run_for_every_budget(tmp_path, monkeypatch):
    toy = Track("Toy", ("synthetic-4-0",), (5, 20), 20, (0, 1))
    monkeypatch.setattr(leaderboard, "TRACKS", {"toy": toy})
    asked = ["--searcher", "simulated_annealing", "--workers", "1", "--results", str(tmp_path)]
    assert leaderboard.main(asked) == 0
    folder = tmp_path / "logs" / "synthetic-4-0" / "simulated_annealing"
    names = {f"{seed}-{budget}.jsonl.gz" for seed in (0, 1) for budget in (5, 20)}
    assert {log.name for log in folder.iterdir()} == names
    made = pd.read_csv(tmp_path / "rows.csv")
    made = made[made["searcher"] == "simulated_annealing"]
    assert list(made["evaluations"]) == list(made["budget"]) == [5, 20, 5, 20]
    claims = ["--claims", str(tmp_path / "rows.csv"), "--workers", "1"]
    assert validate_main([str(tmp_path / "logs"), *claims]) == 0


def test_who_plans_and_is_interrupted_keeps_no_log(tmp_path, monkeypatch):
    def interrupted_at_20(job, budgets, log):
        if budgets == (20,):
            raise KeyboardInterrupt
        return run(job, budgets, log)

    monkeypatch.setattr(leaderboard_run, "run_job", interrupted_at_20)
    job = Job("synthetic-4-0", "simulated_annealing", 0)
    with pytest.raises(KeyboardInterrupt):
        leaderboard_run.run(job, (5, 20), tmp_path)
    assert leaderboard_run.logs_of(job, tmp_path) == []
    leaderboard_run.run(job, (5,), tmp_path)
    assert len(leaderboard_run.logs_of(job, tmp_path)) == 1


def test_an_agents_last_row_tells_of_its_greedy_walk(tmp_path):
    first, last = run(Job("synthetic-4-0", "ppo", 0), (5, 20), tmp_path / "log.jsonl")
    assert "walk" not in first and len(last["walk"].split()) == 4
    env = QuantizeNetEnv(task="synthetic-4-0")
    walk = tuple(map(int, last["walk"].split()))
    assert last["walk_search_regret"] == make_scorer(env.problem).search_regret(walk)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--searcher", "greed"], "Did you mean 'greedy'"),
        (["--track", "x"], "Unknown track 'x'"),
        (["--searcher", "optimum"], "Nothing is to be run"),
        (["--track", "deep", "--task", TRACKS["tables"].tasks[0]], "Nothing is to be run"),
    ],
)
def test_unknown_names_are_answered_in_a_sentence(tmp_path, capsys, options, sentence):
    assert leaderboard.main([*options, "--results", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--workers"])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_counts_are_positive(option, number, capsys):
    with pytest.raises(SystemExit, match="2"):
        leaderboard.main([option, number])
    assert f"{number} has to be a whole number, 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "runs"),
    [
        ("lenet-mnist-uniform-ptq-w1to8-loss0", 12),
        ("digits-digits-dorefa_scaled-short-w2to8", 40),  # whose repeats differ
    ],
)
def test_random_search_as_expected_is_what_runs_reach_on_average(task, runs, tmp_path):
    reached = [
        run(Job(task, "random", seed), (24,), tmp_path / f"{seed}.jsonl")[0]["search_regret"]
        for seed in range(runs)
    ]
    error = np.std(reached, ddof=1) / np.sqrt(len(reached))
    assert abs(np.mean(reached) - random_search(task, 24)) < 3 * error


def test_where_repeats_differ_random_search_is_expected_to_end_near_the_best():
    task = "digits-digits-dorefa_scaled-short-w2to8"
    assert random_search(task, 2401) < 0.05 < random_search(task, 240) < random_search(task, 24)


def test_what_nobody_can_know():
    known = {row["searcher"]: row for row in known_rows("digits-digits-wrpn-short-w2to8")}
    assert known["search_oracle"]["search_regret"] == 0
    assert known["optimum"]["regret"] == 0 and known["optimum"]["excess_bits"] == 0


def test_who_knows_everything_stands_on_the_board():
    known = rows("search_oracle", [0.0], (2401,), ("one",))
    known += rows("search_oracle", [0.0], (4096,), ("two",))
    made = board(rows("random", [0.4] * 3), known)
    assert [one.entrant for one in standings(made, TRACK)] == ["search_oracle", "random"]
    (first, *_) = tables(made, TRACK)
    assert [line[0] for line in first.rows] == ["search oracle", "random search"]
    assert first.rows[0][1:3] == ("0.000", "0.000")


def test_no_two_entrants_look_alike():
    looks = [tuple(look.items()) for look in LOOKS.values()]
    assert len(set(looks)) == len(looks) == len(ENTRANTS)


def test_the_legend_names_what_stands_in_any_panel():
    made = board(rows("random", [0.4] * 3), rows("a2c", [0.1] * 3, tasks=("two",)))
    curves = pd.DataFrame({"task": ["one"], "budget": [10], "search_regret": [0.5]})
    figure = anytime(made, TRACK, curves)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "A2C",
        "random search",
        "random search, expected",
    ]
    for axes in figure.axes:
        for line in axes.get_lines():
            if line.get_label() == "random search":
                assert line.get_color() == LOOKS["random"]["color"]


def test_who_plans_is_known_alike_to_the_board_and_to_a_warm_start():
    assert {name for name, one in ENTRANTS.items() if one.plans} == set(PLANNING)


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    asked = ["--searcher", "random", "--seeds", "1", "--results", str(tmp_path / "file" / "board")]
    assert leaderboard.main(asked) == 2
    assert "file" in capsys.readouterr().err
