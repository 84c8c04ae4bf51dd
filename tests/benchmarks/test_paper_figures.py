import numpy as np
import pandas as pd
import pytest

from benchmarks.paper_figures import __main__ as paper_figures
from benchmarks.paper_figures import sweep
from benchmarks.paper_figures.analysis import (
    claim,
    common_level,
    memory_tables,
    reward_tables,
    shared,
    speed_up,
    summary,
    until,
    verdict,
)
from benchmarks.paper_figures.clouds import cloud_table, cloud_tasks, costs_of, front, make_cloud
from benchmarks.paper_figures.pictures import draw_cloud, draw_curves
from benchmarks.paper_figures.run import checkpoints, fares
from benchmarks.runs import Job
from releq_gym.env import QuantizeNetEnv


def rows(variant, rewards, seeds=(300, 301, 302), tasks=("one", "two"), regret=0.2, releq=0.1):
    """Rows of runs with these rewards at their checkpoints, all of them alike but for the seed."""
    return [
        {
            "task": task,
            "searcher": variant,
            "seed": seed,
            "budget": 10 * (place + 1),
            "episodes": 20 * (place + 1),
            "reward": reward,
            "walk_regret": regret + 0.1,
            "walk_releq": releq,
            "walk_loss_points": 0.5,
            "walk_keeps": 0,
            "walk_bits": 3.0,
            "search_regret": regret + 0.001 * (seed - 300),
        }
        for task in tasks
        for seed in seeds
        for place, reward in enumerate(rewards)
    ]


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part])


def titled(tables, title):
    (found,) = (one for one in tables if one.title == title)
    return {line[0]: line[1:] for line in found.rows}


def test_a_level_is_reached_between_points_or_at_the_end():
    assert until([10, 20, 30], [0.0, 1.0, 2.0], 1.5) == 25
    assert until([10, 20, 30], [1.0, 0.0, 2.0], 0.5) == 10
    assert until([10, 20, 30], [0.0, 1.0, 2.0], 3.0) == 30


def test_a_run_has_converged_close_to_its_own_last_reward():
    runs = summary(table(rows("releq", [0.0, 0.5, 1.0, 1.0, 1.0])))
    # 0.9 lies at 28 of 50 evaluations, 56 episodes.
    assert runs["converged"].tolist() == pytest.approx([0.56] * 6)
    assert runs["converged_episodes"].tolist() == pytest.approx([56] * 6)


def test_a_reward_that_never_rises_has_not_converged():
    assert set(summary(table(rows("releq", [1.0, 0.5, 0.2])))["converged"]) == {1.0}


def test_the_common_level_is_one_that_the_worse_of_two_reaches():
    found = common_level(
        table(rows("releq", [0.0, 1.0, 1.0, 1.0]), rows("ratio", [0.0, 0.0, 0.5, 0.5, 0.5])),
        ("releq", "ratio"),
    ).set_index("searcher")["common"]
    # The last rewards are 1 and 0.5, so that the level is 0.45: at 14.5 of 40 and 29 of 50.
    assert found["releq"].iloc[0] == pytest.approx(14.5 / 40)
    assert found["ratio"].iloc[0] == pytest.approx(29 / 50)


def test_only_tasks_and_seeds_that_all_have_finished_are_compared():
    found = shared(
        table(
            rows("releq", [0.1]),
            rows("ratio", [0.1], (300, 302), ("one",)),
            rows("ratio", [0.1], (301,), ("two",)),
            rows("difference", [0.1]),
        ),
        ("releq", "ratio"),
    )
    kept = {tuple(one) for one in found[["task", "seed", "searcher"]].to_numpy().tolist()}
    assert kept == {
        *(("one", 300, name) for name in ("releq", "ratio")),
        *(("two", 301, name) for name in ("releq", "ratio")),
    }


def test_a_task_with_few_seeds_does_not_take_seeds_from_others():
    found = shared(
        table(rows("releq", [0.1]), rows("releq", [0.1], (300, 301), ("three",))), ("releq",)
    )
    assert found.groupby("task")["seed"].nunique().to_dict() == {"one": 3, "two": 3}


def test_speed_ups_and_what_they_say_of_the_claim():
    slow = np.array([[0.4, 0.8], [0.44, 0.76]])
    middle, low, high = speed_up(slow, slow / 2)
    assert middle == pytest.approx(2) and low < 2 < high
    assert claim(1.1, 1.5) == "faster; 1.33 is within the interval"
    assert claim(0.5, 0.9) == "slower; 1.33 is outside the interval"
    assert claim(0.9, 1.2) == "no difference shown; 1.33 is outside the interval"
    assert [verdict(-2, -1), verdict(-1, 1), verdict(1, 2)] == ["better", "undecided", "worse"]


def test_rewards_are_compared_by_both_objectives():
    made = table(
        rows("releq", [0.0, 1.0, 1.0], regret=0.3, releq=0.2),
        rows("ratio", [0.0, 0.0, 1.0], regret=0.5),
        rows("difference", [0.0, 0.0, 1.0], regret=0.5),
        rows("accuracy_floor", [0.0, 0.0, 1.0], regret=0.1),
    )
    tables = list(reward_tables(made))
    board = titled(tables, "Rewards")
    assert board["`ratio`"][0] == "0.501 (0.500 to 0.502)"
    against = titled(tables, "Rewards: `releq` (the paper's), clip 0.2 against the others")
    # Regrets and speed are better where they are less, the paper's reward where it is more.
    assert [cell.split()[0] for cell in against["`ratio`"]] == ["better"] * 4
    assert [cell.split()[0] for cell in against["`accuracy_floor` (our default)"]] == [
        *("worse", "worse", "better", "better")
    ]


def test_the_memory_table_has_ratios_in_favour_of_whoever_is_sooner():
    lstm, mlp = sweep.MEMORY["paper observation, `releq`"]
    made = table(rows(lstm, [0.0, 1.0, 1.0, 1.0, 1.0]), rows(mlp, [0.0, 0.5, 1.0, 1.0, 1.0]))
    line = titled(memory_tables(made), "With an LSTM against without")["paper observation, `releq`"]
    # Converged at 19 and 28 of 50.
    assert line[:3] == ("6", "1.47 (1.47 to 1.47)", "faster; 1.33 is outside the interval")
    assert line[3] == "1.47 (1.47 to 1.47)" and line[5].startswith("undecided")


def test_two_seeds_decide_nothing():
    few = (300, 301)
    made = table(*(rows(name, [0.0, 1.0], few) for name in sweep.VARIANTS))
    titles = [one.title for one in (*reward_tables(made), *memory_tables(made))]
    assert "Rewards" in titles and "Memory" in titles
    assert not any("against" in title for title in titles)
    assert "(" not in titled(reward_tables(made), "Rewards")["`ratio`"][0]


def test_nothing_is_compared_before_runs_are_there():
    empty = pd.DataFrame(columns=["task", "searcher", "seed"])
    assert not list(reward_tables(empty)) and not list(memory_tables(empty))


def test_the_front_holds_what_nothing_cheaper_matches():
    costs, accuracies = [0.3, 0.1, 0.2, 0.2, 0.4], [0.9, 0.5, 0.5, 0.7, 0.8]
    assert front(costs, accuracies).tolist() == [1, 3, 0]


def test_costs_of_many_are_those_of_each():
    problem = QuantizeNetEnv(net="svhn10").problem
    many = np.random.default_rng(0).integers(1, 9, (5, 10)).astype(np.uint8)
    assert costs_of(problem, many) == pytest.approx([problem.cost(one) for one in many.tolist()])


def test_a_cloud_has_the_names_and_the_last_answer_of_each_seed(tmp_path):
    task = cloud_tasks()["svhn10"]
    row = {"task": task, "searcher": "accuracy_floor", "seed": 300}
    cloud = make_cloud(
        "svhn10",
        [
            {**row, "budget": 1000, "bitwidths": "8 8 8 8 8 8 8 8 8 7"},
            {**row, "budget": 500, "bitwidths": "1 1 1 1 1 1 1 1 1 1"},
            {**row, "searcher": "releq", "budget": 2000, "bitwidths": "2 2 2 2 2 2 2 2 2 2"},
        ],
    )
    assert [one.bitwidths for one in cloud.answers] == [(*[8] * 9, 7)]
    assert [one.bitwidths[0] for one in cloud.uniform] == list(range(1, 9))
    assert cloud.published is not None and cloud.published.bitwidths == (8, *[4] * 8, 8)
    assert cloud.uniform[-1].cost == 1 and len(cloud.costs) == len(cloud.accuracies) > 100
    (line,) = cloud_table([cloud]).rows
    assert line[0] == "svhn10" and line[-1] == "1 of 1"
    draw_cloud(cloud).savefig(tmp_path / "cloud.png")


def test_curves_are_drawn_of_one_seed_and_of_many(tmp_path):
    for seeds in ((300,), (300, 301, 302)):
        made = table(rows("releq", [0.0, 1.0], seeds), rows("ratio", [0.0, 0.5], seeds))
        figure = draw_curves(made, ("releq", "ratio"), {"reward": "r", "search_regret": "s"})
        assert len(figure.axes) == 4 and len(figure.axes[0].lines) == 2
        assert figure.axes[0].lines[1].get_ydata() == pytest.approx([0.0, 0.5])


def test_episodes_are_counted_until_a_budget_is_reached():
    def episode(bits, reward, **more):
        revealed = [[2, 0, 0.5, 1]]
        return {"bitwidths": bits, "rewards": [0.0, reward], "cut": False, "revealed": revealed} | (
            more
        )

    records = [
        {"env": 0, "task": {}},
        episode([1, 1], 1.0),
        episode([1, 1], 1.0),
        episode([1, 2], 0.0, cut=True),
        episode([2, 2], 4.0),
        episode([1, 1], 0.0),
        episode([2, 1], 9.0, revealed=[]),
    ]
    assert fares(records, (1, 2, 3)) == [(1, 1.0), (3, 2.0), (4, 1.5)]


def test_checkpoints_end_at_the_budget():
    assert checkpoints("lenet-mnist-uniform-ptq-w1to8")[-1] == 600
    deep = checkpoints("synthetic-20-0")
    assert len(deep) == 20 and (deep[0], deep[-1]) == (50, 1000)


def test_every_planned_run_can_be_made():
    from agents.base import AGENTS

    for part in paper_figures.PARTS.values():
        for job in part.jobs(2):
            variant = sweep.VARIANTS[job.searcher]
            assert variant.agent in AGENTS and checkpoints(job.task)
    assert {variant for _, variant in sweep.HISTORIES} <= {*sweep.VARIANTS}


def test_runs_are_made_once_and_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "DEEP_BUDGET", 40)
    monkeypatch.setattr(sweep, "HISTORIES", (("synthetic-4-0", "releq"),))
    monkeypatch.setattr("benchmarks.pool.append_each", in_this_process)
    part = paper_figures.Part(
        lambda seeds: iter([Job("synthetic-4-0", "releq", 300)]),
        lambda rows, results: [],
    )
    monkeypatch.setattr(paper_figures, "PARTS", {"toy": part})
    assert paper_figures.main(["--part", "toy", "--results", str(tmp_path)]) == 0
    made = pd.read_csv(tmp_path / "runs.csv")
    assert made["budget"].tolist() == list(range(2, 41, 2))
    assert made["episodes"].is_monotonic_increasing and made["episodes"].iloc[-1] >= 40
    assert (made["walk_reward"] == made["walk_releq"]).all()
    with np.load(tmp_path / "policy" / "synthetic-4-0-releq.npz") as kept:
        assert kept["probabilities"].sum(axis=2) == pytest.approx(1.0, abs=1e-5)
    assert paper_figures.main(["--part", "toy", "--results", str(tmp_path)]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "runs.csv"), made)


def in_this_process(function, calls, path, columns, workers):
    from benchmarks.rows import append_rows

    for arguments in calls:
        append_rows(path, function(*arguments), columns)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--part", "cloud"], "Did you mean 'clouds'"),
        (["--task", "x"], "Unknown task"),
        (["--draw", "--task", "x"], "Unknown task"),
    ],
)
def test_unknown_names_are_answered_in_a_sentence(tmp_path, capsys, options, sentence):
    assert paper_figures.main([*options, "--results", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
