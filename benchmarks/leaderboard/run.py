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

    Of one who plans there is a run per budget, with a log ``SEED-BUDGET.jsonl.gz`` each.
    """
    folder = _folder(job, results)
    folder.mkdir(parents=True, exist_ok=True)
    if not ENTRANTS[job.searcher].plans:
        return _run(job, budgets, folder / f"{job.seed}.jsonl.gz")
    return [
        row
        for budget in budgets
        for row in _run(job, (budget,), folder / f"{job.seed}-{budget}.jsonl.gz")
    ]


def logs_of(job: Job, results: Path) -> list[Path]:
    """Those logs of a run that have been kept."""
    folder = _folder(job, results)
    return [*folder.glob(f"{job.seed}.jsonl.gz"), *folder.glob(f"{job.seed}-*.jsonl.gz")]


def _folder(job: Job, results: Path) -> Path:
    return results / "logs" / job.task / job.searcher


def _run(job: Job, budgets: tuple[int, ...], kept: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        rows = run_job(job, budgets, log)
        with written_whole(kept) as partial:
            partial.write_bytes(gzip.compress(log.read_bytes(), mtime=0))
    return rows
