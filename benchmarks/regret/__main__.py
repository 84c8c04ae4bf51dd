"""``python -m benchmarks.regret``: runs what is missing, then prints and draws the results."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from pathlib import Path

import pandas as pd

from benchmarks.options import positive
from benchmarks.pool import append_missing, finished
from benchmarks.regret.analysis import draw, markdown
from benchmarks.regret.run import COLUMNS, run, shown
from benchmarks.regret.sweep import SINGLE, STUDIES
from benchmarks.rows import append_rows
from benchmarks.runs import Job, known_rows
from releq_gym.evaluators.resolve import make_evaluator

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Goes on where an earlier call was stopped; a finished run is never repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__)
    parser.add_argument("--study", choices=STUDIES, default="searchers")
    parser.add_argument("--seeds", type=positive, help="fewer than planned")
    parser.add_argument("--workers", type=positive, default=multiprocessing.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="parent folder of the rows")
    options = parser.parse_args()
    study = STUDIES[options.study]
    folder = options.results / options.study
    path = folder / "rows.csv"
    jobs: dict[Job, tuple[()]] = {
        Job(task, searcher, seed): ()
        for task in study.tasks
        for searcher in study.searchers
        for seed in study.seeds[: 1 if searcher in SINGLE else options.seeds]
    }
    try:
        for task in study.tasks:
            make_evaluator(task=task)  # which says what is shipped
        folder.mkdir(parents=True, exist_ok=True)
        append_missing(run, jobs, path, COLUMNS, options.workers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    done = finished(path)
    for task in study.tasks:
        if Job(task, "optimum", 0) not in done:
            append_rows(path, map(shown, known_rows(task)), COLUMNS)
    rows = pd.read_csv(path)
    text = markdown(rows)
    (folder / "tables.md").write_text(text, encoding="utf-8")
    draw(rows, folder / "regret.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
