"""Measures a task: every assignment, retrained and tested, into a folder that others can use."""

from __future__ import annotations

import multiprocessing
import os
import platform
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as package_version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.tasks.format import (
    DIVERGED,
    MISSING,
    OK,
    SPLITS,
    Measurements,
    Task,
    TaskError,
    configuration,
    write_task,
)


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        net: A registered network.
        quantizer: By name.
        recipe: ``"ptq"``, ``"short"`` or ``"long"``.
        version: Semantic version of the task.
        bitwidths: The choice per layer; None takes all that the quantizer defines.
        repeats: Retrainings per assignment and split; 1 under ``"ptq"``.
        max_loss_points: The loss that the task tolerates, in percentage points; None is the
            network's own.
        quantizer_kwargs: Arguments of the quantizer.
        known_issues: Sentences for the card.
    """

    net: str
    quantizer: str = "wrpn"
    recipe: str = "short"
    version: str = "1.0.0"
    bitwidths: tuple[int, ...] | None = None
    repeats: int = 10
    max_loss_points: float | None = None
    quantizer_kwargs: dict[str, Any] = field(default_factory=dict)
    known_issues: tuple[str, ...] = ()

    def evaluator(self, data: str | os.PathLike | None, memo: str | os.PathLike) -> LiveEvaluator:
        """Measures the cells; results are kept in ``memo``."""
        return LiveEvaluator(
            self.net,
            data=data,
            quantizer=self.quantizer,
            quantizer_kwargs=self.quantizer_kwargs,
            recipe=self.recipe,
            bitwidths=self.bitwidths,
            repeats=self.repeats,
            precision="float32",
            memo=memo,
            device="cpu",
        )


@dataclass(frozen=True)
class _Job:
    """One assignment, all repeats of one split."""

    index: int
    split: str
    bitwidths: tuple[int, ...]


_worker: LiveEvaluator | None = None
"""The evaluator of a worker process, built once."""


def build_task(
    plan: Plan,
    folder: str | os.PathLike,
    *,
    data: str | os.PathLike | None = None,
    workers: int | None = None,
    command: str = "",
) -> Task:
    """Measures every cell and writes ``folder/<task id>/<version>/``.

    Finished cells are kept in a file beside the task, so that a build that was stopped at any
    moment goes on where it was; the file is removed once the task is written.

    Args:
        plan: What to measure.
        folder: Parent of the task's own folder.
        data: Where the network's data set lies; None where it is bundled or in the usual places.
        workers: Processes; None means one per core.
        command: What was typed, for the card.

    Raises:
        TaskError: Where that version of the task exists already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    probe = plan.evaluator(data, memo=folder / "probe.partial.sqlite")
    name = task_id(probe, plan)
    target = folder / name / plan.version
    if (target / "card.json").exists():
        raise TaskError(f"{target} holds a task already; a changed task needs a new version.")
    memo = folder / f"{name}-{plan.version}.partial.sqlite"
    measured = _measure_all(plan, probe, data, memo, workers or os.cpu_count() or 1)
    task = write_task(target, _card(plan, probe, name, measured, command), measured)
    for leftover in folder.glob("*.partial.sqlite*"):
        if leftover.name.startswith((memo.name, "probe.partial.sqlite")):
            leftover.unlink()
    return task


def task_id(evaluator: LiveEvaluator, plan: Plan) -> str:
    """``<net>-<data>-<quantizer>-<recipe>-w<lo>to<hi>``."""
    low, high = evaluator.bitwidths[0], evaluator.bitwidths[-1]
    channel = "pc" if plan.quantizer_kwargs.get("per_channel") else ""
    data = evaluator.splits.name
    return f"{plan.net}-{data}-{plan.quantizer}{channel}-{plan.recipe}-w{low}to{high}"


def _measure_all(
    plan: Plan,
    evaluator: LiveEvaluator,
    data: str | os.PathLike | None,
    memo: Path,
    workers: int,
) -> dict[str, Measurements]:
    radix, depth = len(evaluator.bitwidths), len(evaluator.layers)
    shape = (radix**depth, evaluator.repeats)
    arrays = {
        split: Measurements(
            correct=np.zeros(shape, np.uint32),
            milliseconds=np.zeros(shape, np.uint32),
            status=np.full(shape, MISSING, np.uint8),
            seed=np.array(_seeds(split, evaluator.repeats), np.uint32),
        )
        for split in SPLITS
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task(task_id(evaluator, plan), total=len(SPLITS) * shape[0])
        for job, cells in _results(plan, evaluator, data, memo, workers):
            split = arrays[job.split]
            split.correct[job.index] = [cell[0] for cell in cells]
            split.milliseconds[job.index] = [max(round(cell[1]), 1) for cell in cells]
            split.status[job.index] = [DIVERGED if cell[2] else OK for cell in cells]
            progress.advance(bar)
    return arrays


def _results(
    plan: Plan,
    evaluator: LiveEvaluator,
    data: str | os.PathLike | None,
    memo: Path,
    workers: int,
) -> Iterator[tuple[_Job, list[tuple[float, float, bool]]]]:
    assignments = enumerate(product(evaluator.bitwidths, repeat=len(evaluator.layers)))
    jobs = (_Job(index, split, bitwidths) for index, bitwidths in assignments for split in SPLITS)
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, (plan, data, memo)) as pool:
        yield from pool.imap_unordered(_measure_job, jobs, chunksize=4)


def _start_worker(plan: Plan, data: str | os.PathLike | None, memo: Path) -> None:
    import torch

    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles it.
    torch.set_num_threads(1)
    _worker = plan.evaluator(data, memo)


def _measure_job(job: _Job) -> tuple[_Job, list[tuple[float, float, bool]]]:
    assert _worker is not None
    cells = []
    for seed in _seeds(job.split, _worker.repeats):
        measured = _worker.measure(job.bitwidths, seed, job.split)
        cells.append((measured.correct, measured.milliseconds, measured.diverged))
    return job, cells


def _seeds(split: str, repeats: int) -> list[int]:
    start = REPORT_SEED if split == "report" else 0
    return list(range(start, start + repeats))


def _card(
    plan: Plan,
    evaluator: LiveEvaluator,
    name: str,
    measured: Mapping[str, Measurements],
    command: str,
) -> dict[str, Any]:
    splits = evaluator.splits
    held = {"search": splits.search, "report": splits.report}
    if splits.train is not None:
        held["train"] = splits.train
    full = {split: evaluator.measure_full_precision(split).correct for split in SPLITS}
    return {
        "id": name,
        "version": plan.version,
        "net": plan.net,
        "data": splits.name,
        "quantizer": plan.quantizer,
        "quantizer_kwargs": plan.quantizer_kwargs,
        "recipe": plan.recipe,
        "recipe_fields": asdict(evaluator.recipe),
        "activation_bitwidth": evaluator.activation_bitwidth,
        "bitwidths": list(evaluator.bitwidths),
        "max_loss_points": (
            evaluator.max_loss_points if plan.max_loss_points is None else plan.max_loss_points
        ),
        "completeness": "exhaustive",
        "layers": [layer.to_dict() for layer in evaluator.layers],
        "full_precision": {"weights_sha256": evaluator.weights_sha256, "correct": full},
        "splits": {
            split: {
                "images": len(part),
                "points_per_image": 100 / len(part),
                "sha256": part.sha256,
                "index_sha256": part.index_sha256,
            }
            for split, part in held.items()
        },
        "noise_points": {
            split: pooled_sd_points(values.correct, len(held[split]))
            for split, values in measured.items()
        },
        "baselines": {
            split: _baselines(evaluator, values.correct, len(held[split]))
            for split, values in measured.items()
        },
        "generator": {
            "command": command,
            "device": platform.processor() or platform.machine(),
            "versions": {
                package: package_version(package) for package in ("releq_gym", "torch", "numpy")
            },
        },
        "known_issues": list(plan.known_issues),
        "licence": "Apache-2.0",
        "credits": "Measured with releq_gym; the images are not included.",
    }


def pooled_sd_points(correct: np.ndarray, images: int) -> float:
    """Standard deviation between repeats, pooled over the assignments, in percentage points."""
    if correct.shape[1] < 2:
        return 0.0
    return float(100 / images * np.sqrt(correct.var(axis=1, ddof=1).mean()))


def _baselines(evaluator: LiveEvaluator, correct: np.ndarray, images: int) -> dict[str, Any]:
    """Mean accuracy over all assignments, and of every uniform one."""
    accuracy = correct.mean(axis=1) / images
    radix, depth = len(evaluator.bitwidths), len(evaluator.layers)
    uniform = {
        str(bitwidth): float(accuracy[_uniform_index(digit, radix, depth)])
        for digit, bitwidth in enumerate(evaluator.bitwidths)
    }
    return {"mean_accuracy": float(accuracy.mean()), "uniform_accuracy": uniform}


def _uniform_index(digit: int, radix: int, depth: int) -> int:
    index = digit * (radix**depth - 1) // (radix - 1) if radix > 1 else 0
    assert configuration(index, radix, depth) == (digit,) * depth
    return index
