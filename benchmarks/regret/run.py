"""One run of a study."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.regret.sweep import BUDGETS, VARIANTS
from benchmarks.runs import Job
from benchmarks.runs import run as run_job

COLUMNS = (
    *("task", "searcher", "seed", "budget", "bitwidths", "regret", "objective", "accuracy"),
    *("loss_points", "cost", "weighted_bitwidth", "fresh", "seconds", "version"),
)


def run(job: Job) -> list[dict[str, Any]]:
    """One row per budget."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        rows = run_job(job, BUDGETS[job.task], log, VARIANTS.get(job.searcher))
        return list(map(shown, rows))


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that a study keeps."""
    return {name: row[name] for name in COLUMNS if name in row}
