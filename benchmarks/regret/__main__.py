"""``python -m benchmarks.regret``: runs what is missing, then prints and draws the results."""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
from rich.progress import Progress

from benchmarks.regret.analysis import draw, markdown
from benchmarks.regret.run import Job, oracle_rows, run
from benchmarks.regret.sweep import STUDIES

RESULTS = Path(__file__).parent / "results"
COLUMNS = (
    *("task", "searcher", "seed", "budget", "bitwidths", "regret", "objective", "accuracy"),
    *("loss_points", "cost", "weighted_bitwidth", "fresh", "seconds", "version"),
)


def main() -> int:
    """Goes on where an earlier call was stopped; a finished run is never repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__)
    parser.add_argument("--study", choices=STUDIES, default="searchers")
    parser.add_argument("--seeds", type=int, help="fewer than planned")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="parent folder of the rows")
    options = parser.parse_args()
    study = STUDIES[options.study]
    folder = options.results / options.study
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.csv"
    done = _done(path)
    jobs = [
        Job(task, searcher, seed)
        for task in study.tasks
        for searcher in study.searchers
        for seed in study.seeds[: 1 if searcher == "uniform" else options.seeds]
    ]
    try:
        _run_all([job for job in jobs if job not in done], path, options.workers)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    for task in study.tasks:
        if Job(task, "optimum", 0) not in done:
            _append(path, oracle_rows(task))
    rows = pd.read_csv(path)
    text = markdown(rows)
    (folder / "tables.md").write_text(text, encoding="utf-8")
    draw(rows, folder / "regret.png")
    print(text)
    return 0


def _run_all(jobs: list[Job], path: Path, workers: int) -> None:
    context = multiprocessing.get_context("spawn")
    with Progress() as progress, ProcessPoolExecutor(workers, mp_context=context) as pool:
        bar = progress.add_task("runs", total=len(jobs))
        futures = [pool.submit(run, job) for job in jobs]
        try:
            for future in as_completed(futures):
                _append(path, future.result())
                progress.advance(bar)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _done(path: Path) -> set[Job]:
    if not path.exists():
        return set()
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        return {Job(row["task"], row["searcher"], int(row["seed"])) for row in rows}


def _append(path: Path, rows: list[dict]) -> None:
    fresh = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
