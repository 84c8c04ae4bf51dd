"""What a run has asked and been told: charges, budgets, the best answer so far, the action log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from releq_gym.problem import Problem

UNITS = ("distinct", "fresh")


@dataclass(slots=True)
class Cell:
    """All that was revealed of one assignment."""

    visits: int = 0
    accuracy_sum: float = 0.0

    @property
    def accuracy(self) -> float:
        """Mean revealed accuracy."""
        return self.accuracy_sum / self.visits


class Answer(NamedTuple):
    """The answer of a search by the rule that serves all of them.

    Attributes:
        bitwidths: One per layer.
        objective: The reward at the mean revealed accuracy.
        accuracy: Mean revealed accuracy.
        visits: How often it was revealed.
        cost: Under the active cost model.
    """

    bitwidths: tuple[int, ...]
    objective: float
    accuracy: float
    visits: int
    cost: float


class Ledger:
    """Counts what a run reveals, over all environments that share it.

    Assignments are told apart per evaluator, by its name. Copies of an environment
    (``copy.deepcopy``, as planners make them) share its ledger, so that nobody looks ahead for
    free. Pickling copies it: workers in other processes count alone.

    Args:
        evaluation_budget: Accuracies that may be revealed. An int, or ``{"distinct": n}``,
            counts different assignments (asking again is free); ``{"fresh": n}`` counts every
            answer. None sets no limit.
        log: File that gets one JSON line per episode; begun anew.

    Attributes:
        fresh: Accuracies revealed, repeats included.
        milliseconds: What they cost, or had cost when the table was built.
        environments: Environments that have joined.
    """

    def __init__(
        self,
        evaluation_budget: int | Mapping[str, int] | None = None,
        log: str | Path | None = None,
    ):
        self._budget = _check_budget(evaluation_budget)
        self.fresh = 0
        self.milliseconds = 0.0
        self.environments = 0
        self._cells: dict[tuple[str, tuple[int, ...]], Cell] = {}
        self.log = Path(log) if log is not None else None
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_text("", encoding="utf-8")

    def __deepcopy__(self, memo: dict) -> Ledger:
        return self

    @property
    def distinct(self) -> int:
        """Different assignments revealed."""
        return len(self._cells)

    @property
    def spent(self) -> bool:
        """Whether no new assignment can be revealed."""
        return self._budget is not None and getattr(self, self._budget[0]) >= self._budget[1]

    @property
    def evaluation_budget(self) -> dict[str, int] | None:
        """The budget as ``{unit: limit}``."""
        return None if self._budget is None else {self._budget[0]: self._budget[1]}

    def affords(self, problem: Problem, bitwidths: tuple[int, ...]) -> bool:
        """Whether the budget lets this assignment be revealed."""
        if not self.spent:
            return True
        assert self._budget is not None
        return self._budget[0] == "distinct" and (problem.evaluator.name, bitwidths) in self._cells

    def charge(
        self, problem: Problem, bitwidths: tuple[int, ...], accuracy: float, milliseconds: float
    ) -> None:
        """Books one revealed accuracy."""
        cell = self._cells.setdefault((problem.evaluator.name, bitwidths), Cell())
        cell.visits += 1
        cell.accuracy_sum += accuracy
        self.fresh += 1
        self.milliseconds += milliseconds

    def cells(self, problem: Problem) -> dict[tuple[int, ...], Cell]:
        """Everything revealed about this problem, in the order of first visits."""
        return {
            bitwidths: cell
            for (owner, bitwidths), cell in self._cells.items()
            if owner == problem.evaluator.name
        }

    def best(self, problem: Problem) -> Answer | None:
        """The visited assignment with the best objective, ties to the lower cost.

        The objective is taken at the mean revealed accuracy, as it will be on report data.
        """
        return max(
            (self._answer(problem, *item) for item in self.cells(problem).items()),
            key=lambda answer: (answer.objective, -answer.cost),
            default=None,
        )

    def join(self, problem: Problem) -> int:
        """Takes up one more environment; returns its number in the log."""
        self.write({"env": self.environments, "problem": problem.describe()})
        self.environments += 1
        return self.environments - 1

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one line to the log, if there is one."""
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record, separators=(",", ":")) + "\n")

    def _answer(self, problem: Problem, bitwidths: tuple[int, ...], cell: Cell) -> Answer:
        return Answer(
            bitwidths=bitwidths,
            objective=problem.objective(bitwidths, cell.accuracy),
            accuracy=cell.accuracy,
            visits=cell.visits,
            cost=float(problem.cost(problem.totals(bitwidths))),
        )


def _check_budget(budget: int | Mapping[str, int] | None) -> tuple[str, int] | None:
    if budget is None:
        return None
    if isinstance(budget, Mapping):
        if len(budget) != 1 or next(iter(budget)) not in UNITS:
            raise ValueError(
                f"evaluation_budget={dict(budget)!r} must be a number or one of "
                "{'distinct': n} and {'fresh': n}."
            )
        unit, limit = next(iter(budget.items()))
    else:
        unit, limit = "distinct", budget
    if int(limit) < 1:
        raise ValueError(f"evaluation_budget={budget!r} must be at least 1.")
    return unit, int(limit)
