"""What stands in committed rows is what today's code makes of their bitwidths."""

from pathlib import Path

import pytest

import benchmarks
from benchmarks.rows import read_rows
from releq_gym.env import QuantizeNetEnv
from releq_gym.tasks.score import make_scorer

FOLDER = Path(benchmarks.__file__).parent


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
