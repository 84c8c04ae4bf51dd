"""``python -m benchmarks.leaderboard``: runs what is missing, then draws up the board."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.leaderboard import pictures
from benchmarks.leaderboard.analysis import planned, standings, tables
from benchmarks.leaderboard.page import Picture, Section, render
from benchmarks.leaderboard.run import logs_of, run
from benchmarks.leaderboard.sweep import ENTRANTS, TRACKS, Track
from benchmarks.options import check_names, positive
from benchmarks.pool import append_missing, finished
from benchmarks.random_search import random_search
from benchmarks.rows import append_rows
from benchmarks.runs import COLUMNS, Job, known_rows
from benchmarks.tables import Table, markdown
from benchmarks.validate.digests import add_digests

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes on where an earlier call was stopped; a finished run is never repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaderboard", description=__doc__)
    parser.add_argument("--track", action="append", help=f"default: all of {', '.join(TRACKS)}")
    parser.add_argument("--task", action="append", help="default: all of the tracks")
    parser.add_argument(
        "--searcher", action="append", metavar="NAME",
        help="agent of agents/ or searcher of releq_gym/searchers/ (default: all)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=positive, help="the first so many (default: all planned)")
    parser.add_argument("--workers", type=positive, default=multiprocessing.cpu_count())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of rows, logs, page")
    options = parser.parse_args(arguments)
    path = options.results / "rows.csv"
    try:
        # Everybody's first seed before anybody's second: a sweep may be stopped at any time.
        ordered = sorted(_jobs(options), key=lambda run: run[0].seed)
        jobs = {job: (budgets, options.results) for job, budgets in ordered}
        if not jobs and not path.is_file():
            raise ValueError(
                "Nothing is to be run: none of the tasks is of the track, or the searcher is one "
                "of those that are known without a search."
            )
        options.results.mkdir(parents=True, exist_ok=True)
        append_missing(run, jobs, path, COLUMNS, options.workers)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    done = finished(path)
    for task in dict.fromkeys(job.task for job in jobs):
        if Job(task, "optimum", 0) not in done:
            rows = [row for row in known_rows(task) if row["searcher"] in ENTRANTS]
            append_rows(path, rows, COLUMNS)
    logs = [log for job in sorted(finished(path)) for log in logs_of(job, options.results)]
    add_digests(logs, options.results / "logs.sha256")
    try:
        rows = _counting(path)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with Console(stderr=True).status("drawing up the board"):
        every = _publish(rows, options.results)
    asked = options.task or [TRACKS[name].title for name in options.track or TRACKS]
    print(markdown([table for table in every if table.title in asked]))
    print(f"All tables and pictures: {options.results / 'leaderboard.html'}")
    return 0


def _jobs(options: argparse.Namespace) -> Iterator[tuple[Job, tuple[int, ...]]]:
    """Runs that are asked for, with their budgets."""
    known = [task for track in TRACKS.values() for task in track.tasks]
    check_names("task of the tracks", options.task, known)
    check_names("track", options.track, TRACKS)
    hint = "A new one needs a line in ENTRANTS of benchmarks/leaderboard/sweep.py."
    check_names("searcher", options.searcher, ENTRANTS, hint)
    for name in options.track or TRACKS:
        track = TRACKS[name]
        for task in track.tasks:
            if options.task and task not in options.task:
                continue
            for searcher in options.searcher or ENTRANTS:
                if ENTRANTS[searcher].kind == "known":
                    continue
                most = ENTRANTS[searcher].most or track.budgets[-1]
                budgets = tuple(budget for budget in track.budgets if budget <= most)
                for seed in track.seeds[: options.seeds]:
                    yield Job(task, searcher, seed), budgets


def _counting(path: Path) -> pd.DataFrame:
    """The rows that count; says how many others there are."""
    rows = pd.read_csv(path)
    try:
        counting = planned(rows, TRACKS.values())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if left := len(rows) - len(counting):
        print(f"{left} rows of {path} are of no planned run, and do not count.", file=sys.stderr)
    return counting


def _publish(rows: pd.DataFrame, results: Path) -> list[Table]:
    """Writes tables, pictures and page; returns the tables."""
    every: list[Table] = []
    sections = []
    for name, track in TRACKS.items():
        found = list(tables(rows, track))
        if not found:
            continue
        drawn = list(_drawn(rows, name, results)) if standings(rows, track) else []
        every += found
        sections.append(Section(found, drawn))
    (results / "leaderboard.html").write_text(
        render(sections, "python -m benchmarks.leaderboard"), encoding="utf-8"
    )
    (results / "leaderboard.md").write_text(markdown(every), encoding="utf-8")
    return every


def _drawn(rows: pd.DataFrame, name: str, results: Path) -> Iterator[Picture]:
    """Pictures of a track on which somebody stands, written beside the rows, too."""
    track = TRACKS[name]
    for title, figure in {
        "anytime": pictures.anytime(rows, track, _expected(track)),
        "standings": pictures.standing_bars(rows, track),
        "profiles": pictures.profiles(rows, track),
    }.items():
        figure.savefig(results / f"{name}_{title}.png", dpi=110)
        yield Picture(f"{track.title}: {title}", pictures.png(figure))


def _expected(track: Track) -> pd.DataFrame:
    """Random search's curve, a point per budget."""
    return pd.DataFrame(
        [
            {"task": task, "budget": budget, "search_regret": random_search(task, budget)}
            for task in track.tasks
            for budget in track.budgets
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
