"""One run, whose action log is kept."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.leaderboard.sweep import ENTRANTS
from benchmarks.runs import Job
from benchmarks.runs import run as run_job
from releq_gym.whole_files import written_whole


def run(job: Job, budgets: tuple[int, ...], results: Path) -> list[dict[str, Any]]:
    """One row per budget; the log goes to ``logs/TASK/SEARCHER/SEED.jsonl.gz``.

    Of one who plans there is a run per budget, with a log ``SEED-BUDGET.jsonl.gz`` each. No log is
    kept before all of them are there.
    """
    runs = {f"{job.seed}": budgets}
    if ENTRANTS[job.searcher].plans:
        runs = {f"{job.seed}-{budget}": (budget,) for budget in budgets}
    with tempfile.TemporaryDirectory() as folder:
        logs = {name: Path(folder) / f"{name}.jsonl" for name in runs}
        rows = [row for name, asked in runs.items() for row in run_job(job, asked, logs[name])]
        for name, log in logs.items():
            _keep(log, _folder(job, results) / f"{name}.jsonl.gz")
    return rows


def logs_of(job: Job, results: Path) -> list[Path]:
    """Those logs of a run that have been kept."""
    folder = _folder(job, results)
    return [*folder.glob(f"{job.seed}.jsonl.gz"), *folder.glob(f"{job.seed}-*.jsonl.gz")]


def _folder(job: Job, results: Path) -> Path:
    return results / "logs" / job.task / job.searcher


def _keep(log: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(kept) as partial:
        partial.write_bytes(gzip.compress(log.read_bytes(), mtime=0))
