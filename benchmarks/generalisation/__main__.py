"""``python -m benchmarks.generalisation``: pretrains and runs what is missing, then draws it up."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.generalisation import pictures
from benchmarks.generalisation.analysis import tables
from benchmarks.generalisation.run import known_row, run, tasks
from benchmarks.generalisation.sweep import ENTRANTS, SEEDS
from benchmarks.options import check_names, positive
from benchmarks.pool import append_missing, finished
from benchmarks.rows import append_rows
from benchmarks.runs import COLUMNS, Job
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes on where an earlier call was stopped; nothing that is finished is repeated."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generalisation", description=__doc__
    )
    parser.add_argument("--net", action="append", help=f"default: all of {', '.join(tasks())}")
    parser.add_argument("--entrant", action="append", help="of sweep.py (default: all)")
    parser.add_argument("--seeds", type=positive, help="the first so many (default: all planned)")
    parser.add_argument("--workers", type=positive, default=multiprocessing.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of rows and tables")
    parser.add_argument("--policies", type=Path, help="of pretrained ones (default: in results)")
    options = parser.parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    policies = options.policies or options.results / "policies"
    path = options.results / "rows.csv"
    try:
        jobs = {job: (policies,) for job in _jobs(options)}
        if not jobs and not path.is_file():
            raise ValueError(
                "Nothing is to be run: who was asked for is known without a search, and shown "
                "beside others."
            )
        append_missing(run, jobs, path, COLUMNS, options.workers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    done = finished(path)
    for task in dict.fromkeys(job.task for job in jobs):
        if Job(task, "uniform_oracle", 0) not in done:
            append_rows(path, [known_row(task)], COLUMNS)
    print(_publish(pd.read_csv(path), options.results))
    return 0


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Runs that are asked for, the entrants' order within each seed."""
    check_names("net", options.net, list(tasks()))
    check_names("entrant", options.entrant, list(ENTRANTS))
    for place, seed in enumerate(SEEDS[: options.seeds]):
        for entrant in options.entrant or ENTRANTS:
            once = place > 0 and not ENTRANTS[entrant].seeded
            if ENTRANTS[entrant].kind == "known" or once:
                continue
            for net in options.net or tasks():
                yield Job(tasks()[net], entrant, seed)


def _publish(rows: pd.DataFrame, results: Path) -> str:
    """Writes tables and picture; returns the tables."""
    pictures.regrets(rows, tasks()).savefig(results / "regrets.png", dpi=110)
    text = markdown(tables(rows, tasks()))
    (results / "tables.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    sys.exit(main())
