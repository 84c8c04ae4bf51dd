"""The lines of an action log, checked to have the form of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Joined:
    """An environment that begins.

    Attributes:
        line: Number in the log, from 1.
        member: Number of the environment.
        task: Its description; None of a copy.
        budget: Of the run, ``{unit: limit}`` or None; absent in logs of old, which is ``False``.
        continues: The environment whose noise it goes on with.
    """

    line: int
    member: int
    task: dict[str, Any] | None
    budget: dict[str, int] | bool | None
    continues: int | None


@dataclass(frozen=True)
class Episode:
    """An episode as the log tells it.

    Attributes:
        line: Number in the log, from 1.
        member: Number of the environment.
        seed: Of its noise, where that starts over.
        actions: As taken.
        revealed: ``[step, repeat, accuracy, number]`` each; without the last in logs of old.
        rewards: One per action.
        bitwidths: One per layer, at its end.
        cut: Whether it ended before its end.
        refused: Where the evaluation budget ended it, how much the run had revealed by then.
        copied: Of the actions, how many an environment had taken that this one is a copy of.
    """

    line: int
    member: int
    seed: int | None
    actions: list[int]
    revealed: list[list[Any]]
    rewards: list[float]
    bitwidths: list[int]
    cut: bool
    refused: int | None
    copied: int


def parse(lines: Iterable[str]) -> list[Joined | Episode]:
    """The lines of a log.

    Raises:
        ValueError: Where one is no line of a log.
    """
    parsed: list[Joined | Episode] = []
    layers: dict[int, int] = {}
    for number, text in enumerate(lines, 1):
        try:
            record = _parsed(number, json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"Line {number} is no line of an action log: {why}.") from None
        if isinstance(record, Joined) and record.member in layers:
            raise ValueError(
                f"Line {number} begins environment {record.member} a second time: processes that "
                "write to one log cannot be told apart."
            )
        before = record.continues if isinstance(record, Joined) else record.member
        if before is not None and before not in layers:
            raise ValueError(f"Line {number} is of environment {before}, which never began.")
        if isinstance(record, Episode):
            if len(record.bitwidths) != layers[record.member]:
                raise ValueError(f"Line {number} has bitwidths of {len(record.bitwidths)} layers.")
        elif record.task is not None:
            layers[record.member] = len(record.task["start"])
        elif record.continues is not None:
            layers[record.member] = layers[record.continues]
        parsed.append(record)
    return parsed


def is_numbered(records: Sequence[Joined | Episode]) -> bool:
    """Whether every accuracy has its number, as in all but logs of old."""
    told = [one for one in records if isinstance(one, Episode)]
    return all(len(one) == 4 for episode in told for one in episode.revealed)


def numbered(records: Sequence[Joined | Episode]) -> list[Joined | Episode]:
    """A log of old, its accuracies numbered by lines; a refusal shows in what an episode lacks."""
    number = 0
    found: list[Joined | Episode] = []
    every_step: dict[int, bool] = {}
    for one in records:
        if isinstance(one, Joined):
            every_step[one.member] = (one.task or {}).get("evaluate") == "every_step"
            found.append(one)
            continue
        revealed = [[*each[:3], number + place] for place, each in enumerate(one.revealed, 1)]
        number += len(revealed)
        lacks = len(revealed) < (len(one.actions) if every_step[one.member] else 1)
        refused = number if lacks and not one.cut else None
        found.append(replace(one, revealed=revealed, refused=refused))
    return found


def _parsed(line: int, record: dict[str, Any]) -> Joined | Episode:
    member = _whole(record["env"])
    if "actions" not in record:
        continues = record.get("continues")
        task = record["task"] if continues is None else record.get("task")
        if task is not None:
            _check_task(**task)
        return Joined(line, member, task, record.get("evaluation_budget", False), continues)
    refused = record.get("refused")
    return Episode(
        line=line,
        member=member,
        seed=None if record["seed"] is None else _whole(record["seed"]),
        actions=[_whole(action) for action in record["actions"]],
        revealed=[_revealed(*one) for one in record["revealed"]],
        rewards=[float(reward) for reward in record["rewards"]],
        bitwidths=[_whole(bitwidth) for bitwidth in record["bitwidths"]],
        cut=bool(record["cut"]),
        refused=None if refused is None else _whole(refused),
        copied=_whole(record.get("copied", 0)),
    )


def _check_task(
    *, evaluator: str, start: list[int], groups: list[list[int]], **others: Any
) -> None:
    """What is needed even where it cannot be rebuilt."""
    layers = range(len([_whole(bitwidth) for bitwidth in start]))
    if any(_whole(layer) not in layers for group in groups for layer in group):
        raise ValueError(f"groups {groups} of {len(layers)} layers")


def _revealed(step: Any, repeat: Any, accuracy: Any, *number: Any) -> list[Any]:
    return [_whole(step), _whole(repeat), float(accuracy), *map(_whole, number)]


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value
