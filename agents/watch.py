"""Looks on while an agent learns: budget, Ctrl-C, progress, checkpoints, the policy's history."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from agents.base import Watch
from agents.folder import POLICY_FILE
from releq_gym.ledger import Answer, Ledger
from releq_gym.problem import Problem
from releq_gym.progress import ProgressBars
from releq_gym.whole_files import written_whole

REFRESH_SECONDS = 0.2
CHECKPOINT_SECONDS = 10.0


class TrainingWatch(Watch):
    """Stops the agent when the budget is spent or the user asks, and keeps what it has.

    Args:
        ledger: Of the run.
        problem: Likewise.
        folder: Gets the policy's history.
        progress: Where the live line goes.
        save: Writes a checkpoint of everything else.

    Attributes:
        interrupted: Whether the user pressed Ctrl-C.
    """

    def __init__(
        self,
        ledger: Ledger,
        problem: Problem,
        folder: Path,
        progress: ProgressBars,
        save: Callable[[], None],
    ):
        self.interrupted = False
        self._ledger, self._problem, self._save = ledger, problem, save
        self._history = PolicyHistory(folder / POLICY_FILE, problem.bitwidths)
        self._progress = progress
        budget = next(iter((ledger.evaluation_budget or {}).values()), None)
        self._bar = progress.add_task("measuring", total=budget, best="", answers=0)
        self._shown = self._saved = time.monotonic()

    def after_step(self) -> bool:
        """Whether to go on; shows where the run stands a few times per second."""
        if time.monotonic() - self._shown > REFRESH_SECONDS:
            self.show()
        return not (self.interrupted or self._ledger.spent)

    def after_rollout(self, probabilities: NDArray[np.float32]) -> None:
        """Remembers the policy, and saves everything every few seconds."""
        self._history.append(self._ledger.distinct, probabilities)
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def show(self) -> None:
        """Brings the live line up to date."""
        answer = self._ledger.best(self._problem)
        self._progress.update(
            self._bar,
            completed=self._ledger.distinct,
            answers=self._ledger.fresh,
            best="" if answer is None else _one_line(answer, self._problem),
        )
        self._shown = time.monotonic()

    def save(self) -> None:
        """Writes the policy's history and whatever ``save`` does."""
        self._history.write()
        self._save()
        self._saved = time.monotonic()

    @contextmanager
    def interruptible(self, console: Console) -> Iterator[None]:
        """Takes the first Ctrl-C as a request to stop after the step at hand."""

        def stop(number: int, frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            console.print("Stopping after this step; Ctrl-C again stops at once.")

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class PolicyHistory:
    """How the probabilities of the bitwidths moved, as arrays in an npz file.

    Args:
        path: Continued where it exists.
        bitwidths: What the last axis stands for.
    """

    def __init__(self, path: Path, bitwidths: tuple[int, ...]):
        self._path, self._bitwidths = path, bitwidths
        self._evaluations: list[int] = []
        self._probabilities: list[NDArray[np.float32]] = []
        if path.is_file():
            with np.load(path, allow_pickle=False) as archive:
                self._evaluations = archive["evaluations"].tolist()
                self._probabilities = list(archive["probabilities"])

    def append(self, evaluations: int, probabilities: NDArray[np.float32]) -> None:
        """One more point.

        Args:
            evaluations: Different assignments revealed so far.
            probabilities: Of each bitwidth in each layer, ``[steps, bitwidths]``.
        """
        self._evaluations.append(evaluations)
        self._probabilities.append(probabilities)

    def write(self) -> None:
        """``evaluations`` [updates], ``probabilities`` [updates, steps, bitwidths], ``bitwidths``.

        Without an update there is no file.
        """
        if not self._evaluations:
            return
        with written_whole(self._path) as partial:
            np.savez_compressed(
                partial,
                evaluations=np.array(self._evaluations),
                probabilities=np.stack(self._probabilities),
                bitwidths=np.array(self._bitwidths),
            )


def live_progress(console: Console) -> ProgressBars:
    """The bar, and beside it the best so far."""
    return ProgressBars(
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("({task.fields[answers]} answers)"),
        TimeElapsedColumn(),
        # A deep network's bitwidths may be cut short, the figures before them not.
        TextColumn("{task.fields[best]}", table_column=Column(ratio=1, no_wrap=True)),
        console=console,
        expand=True,
    )


def _one_line(answer: Answer, problem: Problem) -> str:
    lost = 100.0 * (problem.evaluator.full_precision_accuracy - answer.accuracy)
    listed = " ".join(map(str, answer.bitwidths))
    return f"best {answer.objective:.4f}, loses {lost:.2f} points: {listed}"
