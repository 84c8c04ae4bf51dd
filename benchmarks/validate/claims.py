"""What somebody claims to have found, beside what the log gives."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import read_rows
from benchmarks.runs import Job, score
from benchmarks.validate.replay import Replayed
from releq_gym.evaluators.resolve import make_evaluator
from releq_gym.ledger import Answer, Ledger
from releq_gym.problem import Problem
from releq_gym.result import Result

ROUNDING = 1e-9
"""Of what is claimed, relative."""

NAMES = ("task", "searcher", "seed", "budget", "version")
"""Columns of a row that claim nothing."""


@dataclass(frozen=True)
class Row:
    """A row of ``rows.csv``.

    Attributes:
        source: File and line, as a difference names them.
        job: Whose.
        values: Of its columns.
    """

    source: str
    job: Job
    values: Mapping[str, str]


def read_claims(path: Path) -> list[Row]:
    """The rows of a table of results.

    Raises:
        ValueError: Where they do not say whose they are.
    """
    rows = []
    for line, values in enumerate(read_rows(path), 2):
        try:
            job = Job(values["task"], values["searcher"], int(values["seed"]))
            int(values["budget"])
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path}, line {line}, needs task, searcher, seed and budget: {error!r}."
            ) from None
        rows.append(Row(f"{path.name}, line {line}", job, values))
    if not rows:
        raise ValueError(f"{path} has no rows.")
    return rows


def share_out(rows: Iterable[Row], logs: Iterable[Path]) -> list[list[Row]]:
    """For every log the rows of the run whose task, searcher and seed its path ends with.

    As in ``logs/TASK/SEARCHER/SEED.jsonl.gz``, ``TASK-SEARCHER-SEED.jsonl`` or the run folder
    ``TASK-SEARCHER-SEED/log.jsonl``: only letters and digits count. Where a budget follows behind
    the seed, as in ``SEED-BUDGET.jsonl.gz``, the rows of that budget alone.
    """
    runs: dict[str, list[Row]] = {}
    for row in rows:
        name = "-".join(map(str, row.job))
        for path in (name, f"{name}-{row.values['budget']}"):
            runs.setdefault(f"-{_slug(path)}", []).append(row)
    shares = []
    for log in logs:
        named = log.parent if log.name.startswith("log.") else log
        path = f"-{_slug(str(named).removesuffix('.gz').removesuffix('.jsonl'))}"
        name = max((name for name in runs if path.endswith(name)), key=len, default="")
        shares.append(runs.get(name, []))
    return shares


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def check_result(result: Result, replayed: Replayed) -> Iterator[str]:
    """Differences of the ``result.json`` of a run, which may have been written before its end."""
    total = replayed.ledger.fresh
    if result.fresh > total or (result.finished and result.fresh != total):
        yield f"{result.fresh} accuracies claimed, {total} in the log"
        return
    charged, ledger = [one for one in replayed.asked if not one.refused], Ledger()
    for _, problem, one, _ in charged[: result.fresh]:
        ledger.charge(problem, one.bitwidths, one.accuracy, repeat=one.repeat)
    yield from _unequal({"evaluations": result.evaluations}, {"evaluations": ledger.distinct})
    if replayed.unchecked and not replayed.problems:
        return
    for problem in replayed.problems.values():
        if problem.evaluator.name == result.task and (answer := ledger.best(problem)) is not None:
            claimed = {name: getattr(result, name) for name in _figures(problem, answer)}
            yield from _unequal(claimed, _figures(problem, answer))
            return
    yield f"a result about {result.task}, of which the log tells nothing"


def check_rows(rows: Sequence[Row], replayed: Replayed) -> Iterator[str]:
    """Differences of rows, each about the confirmed answer of a run that had stopped at its budget.

    Args:
        rows: Of one run.
        replayed: Its log.
    """
    job = rows[0].job
    name = make_evaluator(task=job.task).name
    problems = [one for one in replayed.problems.values() if one.evaluator.name == name]
    if not problems:
        yield f"{rows[0].source} is about {name}, of which the log tells nothing"
        return
    problem = problems[0]
    if any(one.repeat < 0 for one in replayed.revealed(problem)) and problem.evaluator.repeats > 1:
        yield (
            f"{rows[0].source} is of single repeats, and the log asks for the means of all "
            "(noise='mean'), each of which a budget counts as one"
        )
    budgets = sorted({int(row.values["budget"]) for row in rows})
    scored = {
        one["budget"]: one for one in score(job, replayed.revealed(problem), problem, budgets)
    }
    for row in rows:
        known = scored[int(row.values["budget"])]
        known = {**known, "bitwidths": _read("bitwidths", known["bitwidths"])}
        claimed = {
            column: _read(column, text)
            for column in known
            if column not in NAMES and (text := row.values.get(column))
        }
        for text in _unequal(claimed, known):
            yield f"{row.source}: {text} at a budget of {known['budget']}"


def _figures(problem: Problem, answer: Answer) -> dict[str, Any]:
    """What is said of an answer."""
    known = problem.transition(answer.bitwidths, answer.accuracy)
    return {
        "bitwidths": answer.bitwidths,
        "objective": answer.objective,
        "accuracy": answer.accuracy,
        "loss_points": known.loss_points,
        "cost": known.cost,
        "weighted_bitwidth": known.weighted_bitwidth,
        "average_bitwidth": known.average_bitwidth,
    }


def _read(column: str, text: str) -> Any:
    """A number, or the bitwidths of an assignment."""
    return tuple(map(int, text.split())) if column == "bitwidths" else float(text)


def _unequal(claimed: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    for name, value in claimed.items():
        found = known[name]
        if isinstance(value, tuple) or isinstance(found, tuple):
            same = value == found
        else:
            same = math.isclose(value, found, rel_tol=ROUNDING, abs_tol=ROUNDING)
        if not same:
            yield f"{name} {_shown(value)} claimed, {_shown(found)} replayed"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
