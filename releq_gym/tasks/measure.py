"""Measures rows of a task, on all cores, so that a build goes on where it was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.evaluators.measurement import Measurement
from releq_gym.processes import process_pool
from releq_gym.progress import ProgressBars
from releq_gym.tasks.format import DIVERGED, OK, Measurements
from releq_gym.tasks.plan import Plan, seeds

_worker: LiveEvaluator | None = None
"""The evaluator of a worker process, built once."""


class Measurer:
    """Measures assignments as a plan says, and keeps every cell in a memo.

    Args:
        plan: How to measure.
        name: Of the task, for progress bars.
        data: Where the images lie.
        memo: File that keeps what was measured.
        workers: Processes, where assignments are retrained; without retraining they are measured
            together in this one.

    Attributes:
        name: As given.
        evaluator: Of this process, on the same memo.
    """

    def __init__(
        self, plan: Plan, name: str, data: str | os.PathLike | None, memo: Path, workers: int
    ):
        self.name, self._memo = name, memo
        self.evaluator = plan.evaluator(data, memo)
        self._start = partial(_start_worker, plan, data, memo)
        self._workers = workers

    def measure(self, split: str, assignments: Sequence[Sequence[int]]) -> Measurements:
        """The rows of these assignments, each with all its repeats; shows progress.

        Args:
            split: ``"search"`` or ``"report"``.
            assignments: One bitwidth per layer each.
        """
        evaluator = self.evaluator
        shape = len(assignments), evaluator.repeats
        correct, milliseconds = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        status = np.full(shape, OK, np.uint8)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with ProgressBars(*columns, TimeRemainingColumn()) as progress:
            bar = progress.add_task(f"{self.name}, {split}", total=len(assignments))
            advance = partial(progress.advance, bar)
            with closing(self._cells(split, assignments, advance)) as rows:
                for row, cells in rows:
                    correct[row] = [cell.correct for cell in cells]
                    milliseconds[row] = [max(round(cell.milliseconds), 1) for cell in cells]
                    status[row] = [DIVERGED if cell.diverged else OK for cell in cells]
        seed = np.array(seeds(split, evaluator.repeats), np.uint32)
        return Measurements(correct, milliseconds, status, seed)

    @contextmanager
    def like_workers(self) -> Iterator[LiveEvaluator]:
        """Within it `evaluator` measures what `measure` would: its cells are the same."""
        import torch

        threads = torch.get_num_threads()
        if not self.evaluator.shares(self.evaluator.recipe):
            torch.set_num_threads(1)
        try:
            yield self.evaluator
        finally:
            torch.set_num_threads(threads)

    def forget(self) -> None:
        """Removes the memo of a task that is written, and what SQLite put beside it."""
        for leftover in self._memo.parent.glob(f"{self._memo.name}*"):
            leftover.unlink()

    def _cells(
        self,
        split: str,
        assignments: Sequence[Sequence[int]],
        advance: Callable[[int], object],
    ) -> Generator[tuple[int, list[Measurement]], None, None]:
        if self.evaluator.shares(self.evaluator.recipe):
            measured = self.evaluator.measure_many(assignments, split, advance)
            yield from ((row, [cell]) for row, cell in enumerate(measured))
            return
        with process_pool(self._workers, self._start) as pool:
            jobs = [
                pool.submit(_measure_row, row, split, tuple(bitwidths))
                for row, bitwidths in enumerate(assignments)
            ]
            for job in as_completed(jobs):
                yield job.result()
                advance(1)


def _start_worker(plan: Plan, data: str | os.PathLike | None, memo: Path) -> None:
    import torch

    global _worker
    torch.set_num_threads(1)
    _worker = plan.evaluator(data, memo)


def _measure_row(row: int, split: str, bitwidths: tuple[int, ...]) -> tuple[int, list[Measurement]]:
    assert _worker is not None
    repeats = seeds(split, _worker.repeats)
    return row, [_worker.measure(bitwidths, seed, split) for seed in repeats]
