"""What searches propose, each answer kept as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.paper_table.sweep import Plan
from benchmarks.rows import append_rows, read_rows
from benchmarks.runs import find
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.base import Evaluator
from releq_gym.ledger import Ledger

COLUMNS = (
    *("net", "quantizer", "searcher", "floor", "seed", "bitwidths", "weighted_bitwidth"),
    *("objective", "loss_points", "evaluations", "simulated_seconds", "seconds"),
)


class Run(NamedTuple):
    """What identifies a search; the floor is in points."""

    net: str
    quantizer: str
    searcher: str
    floor: float
    seed: int


def answers(
    net: str,
    plan: Plan,
    searchers: Sequence[str],
    evaluator: Evaluator | None,
    results: Path,
    console: Console,
) -> Iterator[dict[str, str]]:
    """Rows of the searches of a plan; runs what is missing.

    Args:
        net: By name.
        plan: Of it.
        searchers: By whom.
        evaluator: Of live searches; those on a task need none.
        results: Folder of ``searches.csv``.
        console: Where progress goes.
    """
    path = results / "searches.csv"
    for searcher in searchers:
        for floor in plan.floors:
            for seed in plan.search_seeds:
                run = Run(net, plan.quantizer, searcher, floor, seed)
                if not (known := list(_known(path, run))):
                    append_rows(path, [_search(run, plan, evaluator, console)], COLUMNS)
                    known = list(_known(path, run))
                yield known[0]


def _known(path: Path, run: Run) -> Iterator[dict[str, str]]:
    wanted = {name: str(value) for name, value in run._asdict().items()}
    for row in read_rows(path):
        if all(row[name] == value for name, value in wanted.items()):
            yield row


def _search(run: Run, plan: Plan, evaluator: Evaluator | None, console: Console) -> dict[str, Any]:
    started = time.perf_counter()
    ledger = Ledger(plan.evaluations)
    source: dict[str, Any] = {"task": plan.task} if plan.task else {"evaluator": evaluator}

    def make_env(**options: Any) -> QuantizeNetEnv:
        return QuantizeNetEnv(
            bitwidths=plan.bitwidths,
            reward="accuracy_floor",
            reward_kwargs={"max_loss_points": run.floor},
            cost=plan.cost,
            ledger=ledger,
            **source,
            **options,
        )

    with console.status(_Counted(run, ledger, plan.evaluations)):
        problem, answer = find(make_env, run.searcher, run.seed)
    economics = problem.economics(len(problem.steps), problem.totals(answer.bitwidths))
    return {
        **run._asdict(),
        "bitwidths": " ".join(map(str, answer.bitwidths)),
        "weighted_bitwidth": economics.weighted_bitwidth,
        "objective": answer.objective,
        "loss_points": answer.loss_points,
        "evaluations": ledger.distinct,
        "simulated_seconds": round(ledger.milliseconds / 1000, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


class _Counted:
    """How far a search is, whenever it is drawn."""

    def __init__(self, run: Run, ledger: Ledger, evaluations: int):
        self._run, self._ledger, self._evaluations = run, ledger, evaluations

    def __rich__(self) -> str:
        run = self._run
        return (
            f"{run.net} {run.quantizer}: {run.searcher} tolerates {run.floor:g} points, seed "
            f"{run.seed}, {self._ledger.distinct} of {self._evaluations} assignments"
        )
