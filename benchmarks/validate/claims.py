"""What somebody claims to have found, beside what the log gives."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agents.folder import seed_of_part
from benchmarks.rows import read_rows
from benchmarks.runs import Job, known_rows, score, scorer_of
from benchmarks.validate.replay import Replayed
from releq_gym.evaluators.resolve import make_evaluator
from releq_gym.ledger import Ledger
from releq_gym.plain_numbers import is_real
from releq_gym.result import Result

ROUNDING = 1e-9
"""Of what is claimed, relative."""

NAMES = ("task", "searcher", "seed", "budget", "version")
"""Columns of a row that claim nothing."""

OUTSIDE = (
    *("finished", "data", "searcher", "seconds", "version", "command", "report"),
    *("margin_points", "metric", "unquantized"),
)
"""Fields of a result of which a log says nothing."""


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
    if not path.is_file():
        raise ValueError(f"--claims {path}: there is no such file.")
    rows, read = [], read_rows(path)
    # A column that is empty throughout was added after these rows were made, and claims nothing.
    filled = {name for values in read for name, text in values.items() if text}
    for line, values in enumerate(read, 2):
        try:
            job = Job(values["task"], values["searcher"], int(values["seed"]))
            int(values["budget"])
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path}, line {line}, needs task, searcher, seed and budget: {error!r}."
            ) from None
        told = {name: text for name, text in values.items() if name in filled}
        rows.append(Row(f"{path.name}, line {line}", job, told))
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


def check_budgets(rows: Iterable[Row]) -> None:
    """Refuses rows about a run that had not begun.

    Raises:
        ValueError: Where one is.
    """
    for row in rows:
        if int(row.values["budget"]) < 1:
            raise ValueError(f"{row.source}: of what a log tells a budget is 1 or more.")


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
            outside = {name: getattr(result, name) for name in OUTSIDE if name != "version"}
            if not _is_of(replayed, result.seed):
                yield _other_seed(result.seed, replayed)
            known = Result.of(problem, ledger, answer, seed=result.seed, **outside)
            yield from _unequal(_inside(result), _inside(known))
            break
    else:
        yield f"a result about {result.task}, of which the log tells nothing"
    if result.report is not None and result.report.chosen.bitwidths != result.bitwidths:
        yield (
            f"its report is of {_shown(result.report.chosen.bitwidths)}, its answer is "
            f"{_shown(result.bitwidths)}"
        )


def _is_of(replayed: Replayed, seed: int) -> bool:
    """Whether a run with this seed may have written the log, be it one of `agents.train`."""
    return replayed.seed in (None, seed, seed_of_part(seed))


def _other_seed(seed: int, replayed: Replayed) -> str:
    return (
        f"seed {seed} claimed, but the log begins with {replayed.seed}: it is of another run, or "
        "of an agent whose first environment was not begun by reset(seed=seed)"
    )


def _inside(result: Result) -> dict[str, Any]:
    """What a log says of a result, and the result does, too."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(Result)}
    return {
        name: value
        for name, value in fields.items()
        if name not in OUTSIDE and not (name == "full_precision_accuracy" and value is None)
    }


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
    if not _is_of(replayed, job.seed):
        yield f"{rows[0].source}: {_other_seed(job.seed, replayed)}"
    asked = {one.problem.evaluator.name for one in replayed.asked if not one.refused}
    if others := asked - {name}:
        yield (
            f"{rows[0].source} is about {name}, and the log reveals accuracies of "
            f"{', '.join(sorted(others))}, too, which no budget of it counts"
        )
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
        known = dict(scored[int(row.values["budget"])])
        if walk := row.values.get("walk"):
            known["walk_search_regret"] = scorer_of(job.task).search_regret(_read("walk", walk))
        elif row.values.get("walk_search_regret"):
            yield f"{row.source}: walk_search_regret of no walk"
        for text in _differences(row, known):
            yield f"{row.source}: {text} at a budget of {known['budget']}"


def check_known(row: Row) -> list[str]:
    """Differences of a row that is `KNOWN` without a search, and so without a log.

    Raises:
        ValueError: Where it cannot be worked out.
    """
    task, searcher, budget = row.job.task, row.job.searcher, int(row.values["budget"])
    known = _known(task).get(searcher)
    if known is None:
        raise ValueError(f"{row.source}: {task} has no {searcher}.")
    if budget != known["budget"]:
        raise ValueError(
            f"{row.source}: {searcher} knows all {known['budget']} assignments of {task}, not "
            f"{budget}."
        )
    return [f"{row.source}: {text}" for text in _differences(row, known)]


@cache
def _known(task: str) -> dict[str, dict[str, Any]]:
    return {row["searcher"]: row for row in known_rows(task)}


def _differences(row: Row, known: Mapping[str, Any]) -> Iterator[str]:
    """Of its columns, as far as they claim something; an empty one is another than it should be."""
    claimed = {name: row.values[name] for name in known.keys() & row.values.keys() - set(NAMES)}
    yield from (f"{name} is empty" for name, text in sorted(claimed.items()) if not text)
    read = {name: _read(name, text) for name, text in claimed.items() if text}
    yield from _unequal(read, {**known, "bitwidths": _read("bitwidths", known["bitwidths"])})


def _read(column: str, text: str) -> Any:
    """A number, or the bitwidths of an assignment."""
    return tuple(map(int, text.split())) if column in ("bitwidths", "walk") else float(text)


def _unequal(claimed: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    for name, value in claimed.items():
        if not _same(value, known[name]):
            yield f"{name} {_shown(value)} claimed, {_shown(known[name])} replayed"


def _same(value: Any, found: Any) -> bool:
    if isinstance(value, dict) and isinstance(found, dict):
        return value.keys() == found.keys() and all(_same(value[key], found[key]) for key in value)
    if is_real(value) and is_real(found):
        return math.isclose(value, found, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return value == found


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
