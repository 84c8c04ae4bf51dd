"""What a run has asked and been told: charges, budgets, the best answer so far, the action log."""

from __future__ import annotations

import copy
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from releq_gym.interrupts import Uninterrupted
from releq_gym.plain_numbers import as_json, is_whole

if TYPE_CHECKING:
    from releq_gym.problem import Problem

UNITS = ("distinct", "fresh")

PENDING = 2**19
"""Accuracies that may wait to be sorted into cells."""


@dataclass(slots=True)
class Cell:
    """All that was revealed of one assignment.

    Attributes:
        visits: How often.
        accuracies: By repeat: the same repeat asked again is no new evidence.
    """

    visits: int = 0
    accuracies: dict[int, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Mean over the repeats that were revealed, or that over all of them where it was."""
        if -1 in self.accuracies:
            return self.accuracies[-1]
        return sum(self.accuracies.values()) / len(self.accuracies)


class Trace:
    """What the action log says of one environment's episode, while it lasts.

    Args:
        ledger: Writes it, if it has a log.
        member: Number of the environment, as `Ledger.join` gave it.

    Attributes:
        member: As given.
    """

    def __init__(self, ledger: Ledger, member: int):
        self._ledger, self.member = ledger, member
        self._record: dict[str, Any] | None = None
        self._steps: list[tuple[int, float, Sequence[int]]] = []
        self._start: Sequence[int] = ()

    def __deepcopy__(self, memo: dict) -> Trace:
        """Of a copied environment: what was revealed before the copy is the original's."""
        if self._ledger.log is None:
            return Trace(self._ledger, self.member)
        twin = Trace(self._ledger, self._ledger.join(continues=self.member))
        if self._record is not None:
            own = {"env": twin.member, "revealed": [], "copied": len(self._steps)}
            twin._record = {**copy.deepcopy(self._record), **own}
            twin._steps, twin._start = list(self._steps), self._start
        return twin

    def begin(self, seed: int | None, bitwidths: Sequence[int]) -> None:
        """A new episode; ``seed`` where it starts the noise over, given or drawn."""
        self._steps, self._start = [], bitwidths
        self._record = {  # in the order of the line; what is empty is filled at the end
            "env": self.member,
            "seed": seed,
            "actions": [],
            "revealed": [],
            "rewards": [],
        }

    def reveal(self, step: int, repeat: int, accuracy: float, number: int) -> None:
        """An accuracy, after so many decisions; the run's first one has number 1."""
        if self._record is not None:
            self._record["revealed"].append([step, repeat, accuracy, number])

    def refuse(self, number: int) -> None:
        """The evaluation budget let nothing be revealed, after so many accuracies of the run."""
        if self._record is not None:
            self._record["refused"] = number

    def step(self, action: int, reward: float, bitwidths: Sequence[int]) -> None:
        """A decision, and what it has led to."""
        if self._record is not None:
            self._steps.append((action, reward, bitwidths))  # at once, whenever Ctrl-C comes

    def end(self, *, cut: bool) -> None:
        """The episode's end, or with ``cut`` whatever came instead; writes it once."""
        if self._record is None:
            return
        with Uninterrupted():  # what it tells is charged already
            record, self._record = self._record, None
            if self._steps or record["seed"] is not None:
                record["actions"] = [action for action, _, _ in self._steps]
                record["rewards"] = [reward for _, reward, _ in self._steps]
                bitwidths = self._steps[-1][2] if self._steps else self._start
                self._ledger.write({**record, "bitwidths": list(bitwidths), "cut": cut})


class Answer(NamedTuple):
    """The answer of a search by the rule that serves all of them, `Ledger.best`.

    Attributes:
        bitwidths: One per layer.
        objective: The reward at the mean revealed accuracy.
        accuracy: Mean revealed accuracy.
        loss_points: Full precision minus that, in percentage points.
        repeats: How many of its repeats that is the mean of.
        cost: Under the active cost model.
    """

    bitwidths: tuple[int, ...]
    objective: float
    accuracy: float
    loss_points: float
    repeats: int
    cost: float


DENSE = 2**22
"""Pairs of assignment and repeat that are counted in one array."""


class _Batch(NamedTuple):
    """Accuracies that wait to be sorted into cells, every field ``[accuracies, ...]``."""

    bitwidths: NDArray[np.uint8]
    accuracies: NDArray[np.float64]
    repeats: NDArray[np.intp]
    visits: NDArray[np.intp]
    """How often each was revealed."""


class Ledger:
    """Counts what a run reveals, over all environments that share it.

    Assignments are told apart per evaluator, by its name. Copies of an environment
    (``copy.deepcopy``, as planners make them) share its ledger, so that nobody looks ahead for
    free. It keeps every different assignment, some hundred bytes of each, as long as it lives.
    Pickling copies it: workers in other processes count alone. A log has one writer, though:
    what was pickled, or forked, refuses to write it; give each worker a ledger of its own.

    Args:
        evaluation_budget: Accuracies that may be revealed. An int, or ``{"distinct": n}``,
            counts different assignments (asking again is free); ``{"fresh": n}`` counts every
            answer. None sets no limit.
        log: File that gets one JSON line per environment that joins, and one per episode; must
            not exist, or be empty.

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
        self._cells: defaultdict[str, dict[tuple[int, ...], Cell]] = defaultdict(dict)
        self._pending: dict[Problem, list[_Batch]] = {}
        self._waiting = 0
        self._forgotten = 0
        if not isinstance(log, str | os.PathLike | None):
            raise ValueError(f"log={log!r} has to name a file.")
        self.log = Path(log).absolute() if log is not None else None
        self._writer: int | None = os.getpid()
        if self.log is not None:
            if self.log.is_dir():
                raise ValueError(f"The log {self.log} is a folder; name a file.")
            if self.log.suffix == ".gz":
                raise ValueError(
                    f"The log {self.log} would not be compressed, as its name says; name it "
                    f"{self.log.stem}, and compress it when the run has ended."
                )
            if self.log.exists() and self.log.stat().st_size:
                raise ValueError(
                    f"The log {self.log} exists already, and is not overwritten: name another "
                    "file, or share one releq_gym.Ledger among several environments of one process "
                    "by ledger= (processes, as of vectorization_mode='async', need a log each)."
                )
            try:
                self.log.parent.mkdir(parents=True, exist_ok=True)
                self.log.write_text("", encoding="utf-8")
            except OSError as error:
                raise ValueError(f"The log {self.log} cannot be written: {error}.") from error

    def __repr__(self) -> str:
        return (
            f"Ledger({self.evaluation_budget}): {self.distinct} different assignments, "
            f"{self.fresh} accuracies, {self.environments} environments"
        )

    @classmethod
    def given(
        cls,
        ledger: Ledger | None,
        evaluation_budget: int | Mapping[str, int] | None,
        log: str | Path | None,
    ) -> Ledger:
        """The ledger of an environment: one that is shared, or a new one.

        Raises:
            ValueError: For something else in its place, or a shared one beside what a new one
                would be made of.
        """
        if not isinstance(ledger, Ledger | None):
            raise ValueError(f"ledger={ledger!r} is no releq_gym.Ledger.")
        if ledger is None:
            return cls(evaluation_budget, log)
        if evaluation_budget is not None or log is not None:
            raise ValueError("A shared ledger carries its own evaluation_budget and log.")
        return ledger

    def __deepcopy__(self, memo: dict) -> Ledger:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_writer": None}

    @property
    def distinct(self) -> int:
        """Different assignments revealed."""
        self._settle()
        return self._forgotten + sum(map(len, self._cells.values()))

    @property
    def left(self) -> int | None:
        """New assignments that the budget affords; None where there is none."""
        if self._budget is None:
            return None
        unit, limit = self._budget
        return max(limit - getattr(self, unit), 0)

    @property
    def spent(self) -> bool:
        """Whether no new assignment can be revealed."""
        return self.left == 0

    @property
    def evaluation_budget(self) -> dict[str, int] | None:
        """The budget as ``{unit: limit}``.

        May be set to a higher one, so that a run goes on: in environments that are made then,
        since a log tells of a budget where an environment joins.
        """
        return None if self._budget is None else {self._budget[0]: self._budget[1]}

    @evaluation_budget.setter
    def evaluation_budget(self, budget: int | Mapping[str, int] | None) -> None:
        self._budget = _check_budget(budget)

    def affords(self, problem: Problem, bitwidths: tuple[int, ...]) -> bool:
        """Whether the budget lets this assignment be revealed."""
        if not self.spent:
            return True
        assert self._budget is not None
        known = self._cells.get(problem.evaluator.name, {})
        return self._budget[0] == "distinct" and bitwidths in known

    def affords_in_turn(
        self, problem: Problem, assignments: Iterable[tuple[int, ...]]
    ) -> list[bool]:
        """`affords` of each assignment, if those before it that are afforded are revealed first."""
        left = self.left
        if self._budget is None or left is None:
            return [True for _ in assignments]
        self._settle()
        free = self._budget[0] == "distinct"  # what is known
        known = self._cells.get(problem.evaluator.name, {})
        granted: set[tuple[int, ...]] = set()
        answers = []
        for bitwidths in assignments:
            if free and (bitwidths in known or bitwidths in granted):
                answers.append(True)
                continue
            answers.append(left > 0)
            if left > 0:
                left -= 1
                granted.add(bitwidths)
        return answers

    def charge(
        self,
        problem: Problem,
        bitwidths: tuple[int, ...],
        accuracy: float,
        milliseconds: float = 0.0,
        repeat: int = 0,
    ) -> None:
        """Books one revealed accuracy.

        Args:
            problem: What it is about.
            bitwidths: One per layer.
            accuracy: Of that repeat.
            milliseconds: What measuring it cost.
            repeat: Which one; -1 for the mean of all.
        """
        if self._pending:  # came before
            self._settle()
        known = self._cells[problem.evaluator.name]
        cell = known.get(bitwidths) or Cell()
        cell.visits += 1
        cell.accuracies[repeat] = accuracy
        known[bitwidths] = cell  # not before: Ctrl-C leaves no cell empty
        self.fresh += 1
        self.milliseconds += milliseconds

    def charge_many(
        self,
        problem: Problem,
        bitwidths: NDArray[np.intp],
        accuracies: NDArray[np.float64],
        repeats: NDArray[np.intp],
        milliseconds: float = 0.0,
    ) -> None:
        """Books many revealed accuracies; they are sorted into cells when somebody asks.

        Args:
            problem: What they are about.
            bitwidths: One row per accuracy, ``[accuracies, layers]``.
            accuracies: Of those repeats; kept as they are: pass copies.
            repeats: Which ones, likewise.
            milliseconds: Of all of them together.
        """
        once = np.broadcast_to(1, len(accuracies))
        self._pending.setdefault(problem, []).append(
            _Batch(bitwidths.astype(np.uint8), accuracies, repeats, once)
        )
        self._waiting += len(accuracies)
        self.fresh += len(accuracies)
        self.milliseconds += milliseconds
        if self._waiting >= PENDING:
            self._condense()
            if self._waiting >= PENDING // 2:
                self._settle()

    def cells(self, problem: Problem) -> dict[tuple[int, ...], Cell]:
        """Everything revealed about this problem, in the order of first visits."""
        self._settle()
        return dict(self._cells.get(problem.evaluator.name, {}))

    def cell(self, problem: Problem, bitwidths: tuple[int, ...]) -> Cell:
        """What was revealed about one assignment.

        Raises:
            KeyError: Where nothing was.
        """
        self._settle()
        return self._cells[problem.evaluator.name][bitwidths]

    def count(self, problem: Problem) -> int:
        """Different assignments revealed about this problem."""
        self._settle()
        return len(self._cells.get(problem.evaluator.name, {}))

    def forget(self, problem: Problem) -> None:
        """Lets go of what was revealed about a problem; it stays counted."""
        self._settle()
        self._forgotten += len(self._cells.pop(problem.evaluator.name, ()))

    def _settle(self) -> None:
        """Sorts what waits into cells."""
        self._condense()
        for problem, (batch,) in list(self._pending.items()):
            known = self._cells[problem.evaluator.name]
            rows = zip(*(field.tolist() for field in batch), strict=True)
            for bitwidths, accuracy, repeat, visits in rows:
                cell = known.get(found := tuple(bitwidths)) or Cell()
                cell.visits += visits
                cell.accuracies[repeat] = accuracy
                known[found] = cell
            # Not before: Ctrl-C in between loses no accuracy, though visits count twice then.
            del self._pending[problem]
        self._waiting = 0

    def _condense(self) -> None:
        """Joins what waits and is the same repeat of one assignment, in the order of first visits.

        In arrays, so that a long run that nobody asks costs next to nothing.
        """
        self._waiting = 0
        for problem, batches in self._pending.items():
            batch = _Batch(*map(np.concatenate, zip(*batches, strict=True)))
            first, visits = _distinct(problem, batch)
            order = np.argsort(first)
            rows = first[order]
            joined = _Batch._make([*(field[rows] for field in batch[:-1]), visits[order]])
            self._pending[problem] = [joined]
            self._waiting += len(rows)

    def best(self, problem: Problem) -> Answer | None:
        """The visited assignment that `Problem.rank` puts first at its mean revealed accuracy.

        Only assignments that the problem admits: what measuring at every step revealed on the way
        may break a cost budget.

        The rank is cautious because the best of many is lucky too: without this, an answer sits
        so close to an accuracy floor that every other one breaks it on new images.
        """
        admitted = [item for item in self.cells(problem).items() if problem.admits(item[0])]
        if not admitted:
            return None
        best = max(admitted, key=lambda item: problem.rank(item[0], item[1].accuracy))
        return self._answer(problem, *best)

    def join(self, task: Mapping[str, Any] | None = None, continues: int | None = None) -> int:
        """Takes up one more environment; returns its number in the log.

        Args:
            task: Describes it; None where that is as of the one it continues.
            continues: Number of the environment whose noise it goes on with, in the episode at
                hand if it is a copy.
        """
        record: dict[str, Any] = {"env": self.environments}
        if continues is not None:
            record["continues"] = continues
        if task is not None:
            record |= {"task": task, "evaluation_budget": self.evaluation_budget}
        self.write(record)
        self.environments += 1
        return self.environments - 1

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one line to the log, if there is one."""
        if self.log is not None:
            if self._writer != os.getpid():
                raise ValueError(
                    f"The log {self.log} belongs to the ledger that began it, and this one is its "
                    "copy, pickled or in another process, which counts alone: give each worker "
                    "an environment with a log of its own, or step all in this process."
                )
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record, separators=(",", ":"), default=as_json) + "\n")

    def _answer(self, problem: Problem, bitwidths: tuple[int, ...], cell: Cell) -> Answer:
        full = problem.evaluator.full_precision_accuracy
        return Answer(
            bitwidths=bitwidths,
            objective=problem.objective(bitwidths, cell.accuracy),
            accuracy=cell.accuracy,
            loss_points=100.0 * (full - cell.accuracy),
            repeats=problem.evaluator.repeats if -1 in cell.accuracies else len(cell.accuracies),
            cost=problem.cost(bitwidths),
        )


def _distinct(problem: Problem, batch: _Batch) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each different pair of assignment and repeat stands first, and its visits."""
    bitwidths, _, repeats, visits = batch
    stride = int(repeats.max()) + 2  # the mean is repeat -1
    space = problem.index.count * stride
    if space <= DENSE:
        keys = problem.index(bitwidths).astype(np.intp) * stride + repeats + 1
        counts = np.bincount(keys, visits, minlength=space).astype(np.intp)
        first = np.zeros(space, dtype=np.intp)
        first[keys[::-1]] = np.arange(len(keys))[::-1]  # the last one written is the first one
        seen = np.flatnonzero(counts)
        return first[seen], counts[seen]
    # Rows as opaque bytes: any depth, no collisions.
    bytes_of_repeats = repeats.astype(np.int32).view(np.uint8).reshape(len(repeats), -1)
    rows = np.column_stack([bitwidths, bytes_of_repeats])
    opaque = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}")[:, 0]
    _, first, where = np.unique(opaque, return_index=True, return_inverse=True)
    return first, np.bincount(where, visits).astype(np.intp)


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
    if not is_whole(limit) or limit < 1:
        raise ValueError(f"evaluation_budget={budget!r} must be a whole number, at least 1.")
    return unit, int(limit)
