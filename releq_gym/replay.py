"""Reads an action log: what was revealed, in which order."""

from __future__ import annotations

import gzip
import json
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from releq_gym.problem import Problem

EPISODE = {"env", "seed", "actions", "revealed", "rewards", "bitwidths", "cut"}
"""What the line of an episode tells."""


class Revealed(NamedTuple):
    """One accuracy of the action log.

    Attributes:
        bitwidths: One per layer, undecided layers as they start.
        accuracy: As revealed.
        repeat: Which of the independent repeats; -1 for their mean.
        complete: Whether every layer had been decided.
        number: Among all that the run revealed, from 1.
    """

    bitwidths: tuple[int, ...]
    accuracy: float
    repeat: int
    complete: bool
    number: int


def read_revealed(log: str | Path, problem: Problem) -> list[Revealed]:
    """Everything that was revealed, in that order.

    Args:
        log: Of a run on this problem.
        problem: Says which layers the steps decide.
    """
    revealed: list[Revealed] = []
    for record in read_records(log):
        for step, repeat, accuracy, *number in record.get("revealed", ()):
            chosen = [record["bitwidths"][layer] for layer in problem.steps[:step]]
            assignment, complete = problem.assignment(chosen), step == len(problem.steps)
            # Logs of old have no numbers.
            told = number[0] if number else len(revealed) + 1
            revealed.append(Revealed(assignment, accuracy, repeat, complete, told))
    return sorted(revealed, key=attrgetter("number"))


def read_records(log: str | Path) -> list[dict[str, Any]]:
    """The lines of a log; an incomplete last one, of a process that was killed, is left out.

    Raises:
        ValueError: Where one is none of a log.
    """
    try:
        lines = read_lines(log)
    except UnicodeDecodeError as error:
        raise ValueError(f"{log} is damaged: {error}.") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"{line.strip():.40} is no object of JSON")
            if lacking := EPISODE - record.keys() if "revealed" in record else ():
                raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        except ValueError as error:
            raise ValueError(f"{log}, line {number}, is damaged: {error}.") from None
        records.append(record)
    return records


def read_lines(log: str | Path) -> list[str]:
    """The complete lines of a log, which may be compressed (``.gz``)."""
    return whole_lines(read_content(log))


def whole_lines(content: bytes) -> list[str]:
    """The complete lines of what a log says."""
    lines = content.decode("utf-8").splitlines(keepends=True)
    return lines[:-1] if lines and not lines[-1].endswith("\n") else lines


def read_content(log: str | Path) -> bytes:
    """All that a log says, which may be compressed (``.gz``)."""
    content = Path(log).read_bytes()
    return gzip.decompress(content) if Path(log).suffix == ".gz" else content
