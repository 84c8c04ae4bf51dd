"""One run, whose action log is kept."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.runs import Job
from benchmarks.runs import run as run_job


def run(job: Job, budgets: tuple[int, ...], results: Path) -> list[dict[str, Any]]:
    """One row per budget; the log goes to ``logs/TASK/SEARCHER/SEED.jsonl.gz``."""
    kept = results / "logs" / job.task / job.searcher / f"{job.seed}.jsonl.gz"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        rows = run_job(job, budgets, log)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(gzip.compress(log.read_bytes(), mtime=0))
        os.replace(partial, kept)
    return rows
