"""Reads an action log: what was revealed, in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from releq_gym.problem import Problem


class Revealed(NamedTuple):
    """One accuracy of the action log.

    Attributes:
        bitwidths: One per layer, undecided layers as they start.
        accuracy: As revealed.
        repeat: Which of the independent repeats; -1 for their mean.
        complete: Whether every layer had been decided.
    """

    bitwidths: tuple[int, ...]
    accuracy: float
    repeat: int
    complete: bool


def read_revealed(log: str | Path, problem: Problem) -> list[Revealed]:
    """Everything that was revealed, in the order of the log.

    Args:
        log: Of a run on this problem.
        problem: Says which layers the steps decide.
    """
    revealed = []
    for record in read_records(log):
        for step, repeat, accuracy in record.get("revealed", ()):
            chosen = [record["bitwidths"][layer] for layer in problem.steps[:step]]
            complete = step == len(problem.steps)
            revealed.append(Revealed(problem.assignment(chosen), accuracy, repeat, complete))
    return revealed


def read_records(log: str | Path) -> list[dict[str, Any]]:
    """The lines of a log; an incomplete last one, of a process that was killed, is left out."""
    lines = Path(log).read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        del lines[-1]
    return [json.loads(line) for line in lines]
