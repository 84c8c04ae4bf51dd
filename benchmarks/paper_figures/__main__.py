"""``python -m benchmarks.paper_figures``: runs what is missing, then draws and prints it."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from agents.pictures import draw_policy
from benchmarks.options import check_names, positive
from benchmarks.paper_figures import pictures
from benchmarks.paper_figures.analysis import memory_tables, reward_tables, shared
from benchmarks.paper_figures.clouds import ANSWERS, cloud_table, cloud_tasks, make_cloud
from benchmarks.paper_figures.run import COLUMNS, history_path, run
from benchmarks.paper_figures.sweep import (
    CLIPS,
    HISTORIES,
    MEMORY,
    PLANNED,
    REWARDS,
    SEEDS,
    TASKS,
)
from benchmarks.pool import append_missing
from benchmarks.runs import Job
from benchmarks.tables import Table, markdown
from releq_gym.env import QuantizeNetEnv

RESULTS = Path(__file__).parent / "results"


class Part(NamedTuple):
    """One figure, or several of a kind.

    Attributes:
        jobs: Its runs with that many seeds, all of one seed before those of the next.
        publish: Draws what the rows have, returns tables.
    """

    jobs: Callable[[int], Iterator[Job]]
    publish: Callable[[pd.DataFrame, Path], list[Table]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Goes on where an earlier call was stopped; a finished run is never repeated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_figures", description=__doc__)
    parser.add_argument("--part", action="append", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--task", action="append", help="default: all of the part")
    parser.add_argument("--seeds", type=positive, default=PLANNED, help=f"up to {len(SEEDS)}")
    parser.add_argument("--workers", type=positive, default=multiprocessing.cpu_count())
    parser.add_argument("--draw", action="store_true", help="run nothing, draw what is there")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of all that is made")
    options = parser.parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / "runs.csv"
    try:
        jobs = {job: (options.results,) for job in _jobs(options)}
        append_missing(run, {} if options.draw else jobs, path, COLUMNS, options.workers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))
    tables = [table for part in PARTS.values() for table in part.publish(rows, options.results)]
    text = markdown(tables)
    (options.results / "tables.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Runs that are asked for, each once, all of one seed before those of the next."""
    names = options.part or list(PARTS)
    check_names("part", names, PARTS)
    jobs = dict.fromkeys(job for name in names for job in PARTS[name].jobs(options.seeds))
    known = {job.task for job in jobs}
    check_names("task of these parts", options.task, known)
    for job in sorted(jobs, key=lambda job: job.seed):
        if not options.task or job.task in options.task:
            yield job


def _cloud_jobs(seeds: int) -> Iterator[Job]:
    for seed in SEEDS[:seeds]:
        for task in cloud_tasks().values():
            yield Job(task, ANSWERS, seed)


def _policy_jobs(seeds: int) -> Iterator[Job]:
    for task, variant in HISTORIES:
        yield Job(task, variant, SEEDS[0])


def _convergence_jobs(seeds: int) -> Iterator[Job]:
    return _compared((*REWARDS, *CLIPS), seeds)


def _memory_jobs(seeds: int) -> Iterator[Job]:
    return _compared([variant for pair in MEMORY.values() for variant in pair], seeds)


def _compared(variants: Sequence[str], seeds: int) -> Iterator[Job]:
    for seed in SEEDS[:seeds]:
        for task in TASKS:
            for variant in variants:
                yield Job(task, variant, seed)


def _publish_clouds(rows: pd.DataFrame, results: Path) -> list[Table]:
    records = rows.to_dict("records")
    clouds = [make_cloud(net, records) for net in cloud_tasks()]
    for cloud in clouds:
        pictures.draw_cloud(cloud).savefig(results / f"cloud_{cloud.net}.png", dpi=100)
    return [cloud_table(clouds)]


def _publish_policy(rows: pd.DataFrame, results: Path) -> list[Table]:
    for task, variant in HISTORIES:
        kept = history_path(results, task, variant)
        if kept.is_file():
            problem = QuantizeNetEnv(task=task).problem
            draw_policy(kept, problem, "probability").savefig(kept.with_suffix(".png"), dpi=100)
    return []


def _publish_convergence(rows: pd.DataFrame, results: Path) -> list[Table]:
    worth = {"search_regret": "regret of the answer", "walk_releq": "the paper's reward, walk"}
    own = {"reward": "reward of the episodes", "search_regret": "regret of the answer"}
    _draw(rows, REWARDS, worth, results / "rewards.png")
    _draw(rows, CLIPS, own, results / "clips.png")
    return list(reward_tables(rows))


def _publish_memory(rows: pd.DataFrame, results: Path) -> list[Table]:
    own = {"reward": "reward of the episodes", "search_regret": "regret of the answer"}
    *ours, papers = MEMORY.values()
    _draw(rows, [variant for pair in ours for variant in pair], own, results / "memory.png")
    _draw(rows, papers, own, results / "memory_paper.png")
    return list(memory_tables(rows))


def _draw(rows: pd.DataFrame, variants: Sequence[str], columns: dict[str, str], path: Path) -> None:
    found = shared(rows, variants)
    if len(found):
        pictures.draw_curves(found, variants, columns).savefig(path, dpi=100)


PARTS = {
    "clouds": Part(_cloud_jobs, _publish_clouds),
    "policy": Part(_policy_jobs, _publish_policy),
    "convergence": Part(_convergence_jobs, _publish_convergence),
    "memory": Part(_memory_jobs, _publish_memory),
}


if __name__ == "__main__":
    sys.exit(main())
