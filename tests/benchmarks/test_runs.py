"""What stands in committed rows is what today's code makes of their bitwidths."""

from pathlib import Path

import pytest

import benchmarks
from benchmarks.rows import read_rows
from benchmarks.runs import Job, run
from releq_gym.env import QuantizeNetEnv
from releq_gym.tasks.score import make_scorer

FOLDER = Path(benchmarks.__file__).parent


def test_a_mean_is_not_one_accuracy_of_a_budget(tmp_path):
    job = Job("digits-digits-wrpn-short-w2to8", "random", 0)
    with pytest.raises(ValueError, match="reveals the mean of all repeats where a budget counts"):
        run(job, (5,), tmp_path / "log.jsonl", {"noise": "mean"})


@pytest.mark.parametrize(
    "rows", ["leaderboard", "generalisation", "regret/searchers", "regret/settings"]
)
def test_committed_regrets_are_those_of_their_bitwidths(rows):
    benchmark, _, study = rows.partition("/")
    scorers = {}
    for row in read_rows(FOLDER / benchmark / "results" / study / "rows.csv"):
        task = row["task"]
        if task not in scorers:
            scorers[task] = make_scorer(QuantizeNetEnv(task=task).problem)
        bitwidths = tuple(map(int, row["bitwidths"].split()))
        assert float(row["regret"]) == pytest.approx(scorers[task].regret(bitwidths), abs=1e-9)
    assert scorers
