"""One run of a study."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.regret.sweep import BUDGETS, ENUMERATION, VARIANTS
from benchmarks.runs import Job
from benchmarks.runs import run as run_job
from releq_gym.searchers import SEARCHERS
from releq_gym.tasks.catalog import find_task

COLUMNS = (
    *("task", "searcher", "seed", "budget", "bitwidths", "regret", "objective", "accuracy"),
    *("loss_points", "cost", "weighted_bitwidth", "fresh", "seconds", "version"),
    "simulated_seconds",
)


def run(job: Job) -> list[dict[str, Any]]:
    """One row per budget."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        if job.searcher == ENUMERATION:  # random search never asks twice
            every = find_task(job.task).configurations
            rows = run_job(job, [every], log, search=SEARCHERS["random"])
        else:
            rows = run_job(job, BUDGETS[job.task], log, VARIANTS.get(job.searcher))
        return list(map(shown, rows))


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that a study keeps."""
    return {name: row[name] for name in COLUMNS if name in row}
