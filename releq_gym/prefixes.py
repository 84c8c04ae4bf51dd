"""Where an episode stands after a prefix of decisions: all that no measurement changes.

An environment keeps a *position* and asks here what is true of it. `ComputedPrefixes` works that
out at every decision, for any problem. `TabledPrefixes` has had the other work it out for every
prefix beforehand and only looks up; `make_prefixes` takes it where prefixes are few. Both serve one
position or an array of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from releq_gym.choices import nearest_allowed
from releq_gym.observation import Measured, Observer, Situation, rows_of
from releq_gym.problem import Economics, Problem

TABLED = 2**16
"""Prefixes of a problem that are tabled at most, each with a row of its observation."""


def make_prefixes(problem: Problem, observe: Observer) -> Prefixes:
    """What stands at the prefixes of a problem, tabled where they are few.

    Args:
        problem: Which layers are decided, and what they cost.
        observe: How a prefix is shown.
    """
    choices = len(problem.bitwidths)
    count = sum(choices**step for step in range(len(problem.steps) + 1))
    return (TabledPrefixes if count <= TABLED else ComputedPrefixes)(problem, observe)


class Prefixes(ABC):
    """What is true of positions. Only observations may be written to.

    Args:
        problem: Which layers are decided, and what they cost.
        observe: How a prefix is shown.
    """

    def __init__(self, problem: Problem, observe: Observer):
        self.problem, self.observe = problem, observe

    def __deepcopy__(self, memo: dict) -> Prefixes:
        """Shared between copies: nothing in it changes."""
        return self

    @abstractmethod
    def start(self, count: int | None = None) -> Any:
        """The position before the first decision, or an array of so many."""

    @abstractmethod
    def after(self, position: Any, choice: Any) -> Any:
        """The position one decision later, ``choice`` an index into the problem's bitwidths."""

    @abstractmethod
    def part(self, positions: Any, rows: NDArray[np.intp]) -> Any:
        """Some of these positions."""

    @abstractmethod
    def replaced(self, positions: Any, rows: NDArray[np.intp], others: Any) -> Any:
        """These positions with others at some rows."""

    @abstractmethod
    def step(self, position: Any) -> Any:
        """Decisions taken."""

    @abstractmethod
    def bitwidths(self, position: Any) -> NDArray[np.intp]:
        """Of all layers, undecided ones as they start, ``[..., layers]``."""

    @abstractmethod
    def index(self, position: Any) -> Any:
        """`Problem.index` of these bitwidths."""

    @abstractmethod
    def economics(self, position: Any) -> Economics:
        """Where the costs stand."""

    @abstractmethod
    def observation(self, position: Any, measured: Measured) -> Any:
        """What an agent sees there, after these measurements."""

    @abstractmethod
    def decided(self, position: Any) -> NDArray[np.float64]:
        """Totals of the decided layers, ``[..., totals]``."""

    def complete(self, position: Any) -> Any:
        """Whether every layer has been decided."""
        return self.step(position) == len(self.problem.steps)

    def allowed(self, position: Any) -> NDArray[np.bool_]:
        """What cost budget and measurements leave for the next decision, ``[..., bitwidths]``.

        Everything where none is left to take.
        """
        problem, last = self.problem, len(self.problem.steps) - 1
        step = np.asarray(self.step(position))
        if problem.measured is None:
            allowed = problem.allowed(np.minimum(step, last), self.decided(position))
        else:
            # What was measured beyond the budget has been left out.
            chosen = self.bitwidths(position)[..., problem.steps]
            allowed = problem.measured.after(step, chosen)
        return allowed | (step > last)[..., None]

    def executed(self, position: Any, choice: Any) -> Any:
        """The choice, or what is taken in its place where it is masked: `nearest_allowed`."""
        return nearest_allowed(len(self.problem.bitwidths))[self._masks(position), choice]

    def _masks(self, position: Any) -> Any:
        """`allowed` as numbers."""
        return np.packbits(self.allowed(position), axis=-1, bitorder="little")[..., 0]


class Standing(NamedTuple):
    """A position of `ComputedPrefixes`: its fields are scalars, or arrays ``[positions, ...]``.

    Attributes:
        step: Decisions taken.
        bitwidths: Of all layers, ``[..., layers]``.
        decided: Totals of the decided layers, ``[..., totals]``.
        last_bitwidth: Of the last decision; 0 before the first.
        decided_bits: Sum over all decisions.
        economics: Follow from ``step`` and ``decided``.
    """

    step: Any
    bitwidths: NDArray[np.intp]
    decided: NDArray[np.float64]
    last_bitwidth: Any
    decided_bits: Any
    economics: Economics


class ComputedPrefixes(Prefixes):
    """Works everything out at each decision; see `Prefixes`."""

    def __init__(self, problem: Problem, observe: Observer):
        super().__init__(problem, observe)
        self._choices = np.array(problem.bitwidths, dtype=np.intp)
        # Rows of equal length: smaller groups repeat their layers.
        widest = max(map(len, problem.groups))
        self._layers = np.array([(g * widest)[:widest] for g in problem.groups], dtype=np.intp)

    def start(self, count: int | None = None) -> Standing:
        """See `Prefixes.start`."""
        bitwidths = np.array(self.problem.start, dtype=np.intp)
        if count is None:
            return self._standing(0, bitwidths, self.problem.at_start, 0, 0)
        none = np.zeros(count, dtype=np.intp)
        decided = np.tile(self.problem.at_start, (count, 1))
        return self._standing(none, np.tile(bitwidths, (count, 1)), decided, none, none)

    def after(self, position: Standing, choice: Any) -> Standing:
        """See `Prefixes.after`."""
        step, bitwidths, decided, _, decided_bits, _ = position
        bitwidths = bitwidths.copy()
        if bitwidths.ndim == 1:
            bitwidth: Any = self.problem.bitwidths[choice]
            for layer in self.problem.groups[step]:
                bitwidths[layer] = bitwidth
        else:
            bitwidth = self._choices[choice]
            every = np.arange(len(bitwidths))[:, None]
            bitwidths[every, self._layers[step]] = bitwidth[:, None]
        decided = self.problem.decide(step, decided, bitwidth)
        return self._standing(step + 1, bitwidths, decided, bitwidth, decided_bits + bitwidth)

    def part(self, positions: Standing, rows: NDArray[np.intp]) -> Standing:
        """See `Prefixes.part`."""
        return self._standing(*(field[rows] for field in positions[:-1]))

    def replaced(self, positions: Standing, rows: NDArray[np.intp], others: Standing) -> Standing:
        """See `Prefixes.replaced`."""
        fields = [field.copy() for field in positions[:-1]]
        for field, other in zip(fields, others[:-1], strict=True):
            field[rows] = other
        return self._standing(*fields)

    def step(self, position: Standing) -> Any:
        """See `Prefixes.step`."""
        return position.step

    def bitwidths(self, position: Standing) -> NDArray[np.intp]:
        """See `Prefixes.bitwidths`."""
        return position.bitwidths

    def index(self, position: Standing) -> Any:
        """See `Prefixes.index`."""
        return self.problem.index(position.bitwidths)

    def economics(self, position: Standing) -> Economics:
        """See `Prefixes.economics`."""
        return position.economics

    def observation(self, position: Standing, measured: Measured) -> Any:
        """See `Prefixes.observation`."""
        step, bitwidths, _, last_bitwidth, decided_bits, economics = position
        return self.observe(
            Situation(step, bitwidths, economics, last_bitwidth, decided_bits, *measured)
        )

    def decided(self, position: Standing) -> NDArray[np.float64]:
        """See `Prefixes.decided`."""
        return position.decided

    def everything(self) -> Standing:
        """All prefixes, by length and then by choices."""
        choices = len(self._choices)
        level = self.start(1)
        levels = [level]
        for _ in self.problem.steps:
            count = len(level.step)
            parents = self.part(level, np.repeat(np.arange(count), choices))
            level = self.after(parents, np.tile(np.arange(choices), count))
            levels.append(level)
        return self._standing(*map(np.concatenate, list(zip(*levels, strict=True))[:-1]))

    def _standing(
        self, step: Any, bitwidths: Any, decided: Any, last_bitwidth: Any, decided_bits: Any
    ) -> Standing:
        economics = self.problem.economics(step, decided)
        return Standing(step, bitwidths, decided, last_bitwidth, decided_bits, economics)


class TabledPrefixes(Prefixes):
    """Looks everything up; a position is the number of a prefix, by length and then by choices.

    So prefix 0 is empty, and the ``c``-th choice of ``C`` leads from prefix ``p`` to ``p * C + 1 +
    c``. See `Prefixes`.
    """

    def __init__(self, problem: Problem, observe: Observer):
        super().__init__(problem, observe)
        computed = ComputedPrefixes(problem, observe)
        standing = computed.everything()
        self._choices = len(problem.bitwidths)
        self._step, self._bitwidths, self._decided, self._last, self._decided_bits, _ = standing
        self._index = computed.index(standing)
        *shares, figures = standing.economics
        self._economics = np.stack(np.broadcast_arrays(*shares, *figures.values()), axis=1)
        self._shares = len(shares)
        self._met: dict[int, Economics] = {}
        self._complete = int(np.searchsorted(self._step, len(problem.steps)))
        self._observations: NDArray[np.float32] | None = None
        if observe.measured is not None:
            count = len(self._step)
            unmeasured = Measured(np.ones(count), np.zeros(count), np.zeros(count, dtype=np.bool_))
            self._observations = computed.observation(standing, unmeasured)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by what it is made from."""
        return type(self), (self.problem, self.observe)

    def start(self, count: int | None = None) -> Any:
        """See `Prefixes.start`."""
        return 0 if count is None else np.zeros(count, dtype=np.intp)

    def after(self, position: Any, choice: Any) -> Any:
        """See `Prefixes.after`."""
        return position * self._choices + choice + 1

    def part(self, positions: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """See `Prefixes.part`."""
        return positions[rows]

    def replaced(
        self, positions: NDArray[np.intp], rows: NDArray[np.intp], others: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """See `Prefixes.replaced`."""
        positions = positions.copy()
        positions[rows] = others
        return positions

    def step(self, position: Any) -> Any:
        """See `Prefixes.step`."""
        return rows_of(self._step, position)

    def bitwidths(self, position: Any) -> NDArray[np.intp]:
        """See `Prefixes.bitwidths`."""
        return rows_of(self._bitwidths, position)

    def index(self, position: Any) -> Any:
        """See `Prefixes.index`."""
        return rows_of(self._index, position)

    def economics(self, position: Any) -> Economics:
        """See `Prefixes.economics`."""
        if not isinstance(position, int):
            return self._economics_of(rows_of(self._economics, position).T)
        if position not in self._met:
            self._met[position] = self._economics_of(self._economics[position].tolist())
        return self._met[position]

    def observation(self, position: Any, measured: Measured) -> Any:
        """See `Prefixes.observation`."""
        if self._observations is not None:
            return self.observe.remeasured(rows_of(self._observations, position), measured)
        standing = (self._step, self._bitwidths, self._last, self._decided_bits)
        step, bitwidths, last_bitwidth, decided_bits = (
            rows_of(part, position) for part in standing
        )
        economics = self.economics(position)
        return self.observe(
            Situation(step, bitwidths, economics, last_bitwidth, decided_bits, *measured)
        )

    def decided(self, position: Any) -> NDArray[np.float64]:
        """See `Prefixes.decided`."""
        return rows_of(self._decided, position)

    def allowed(self, position: Any) -> NDArray[np.bool_]:
        """See `Prefixes.allowed`."""
        return rows_of(self._allowed, position)

    @cached_property
    def _allowed(self) -> NDArray[np.bool_]:
        """Made when it is asked for: many problems mask nothing."""
        table = super().allowed(np.arange(len(self._step)))
        table.setflags(write=False)  # rows of it are handed out
        return table

    def _masks(self, position: Any) -> Any:
        return self._allowed_masks[position]

    @cached_property
    def _allowed_masks(self) -> Any:
        return super()._masks(np.arange(len(self._step)))

    def complete(self, position: Any) -> Any:
        """See `Prefixes.complete`."""
        return position >= self._complete

    def _economics_of(self, columns: Any) -> Economics:
        figures = dict(zip(self.problem.figures, columns[self._shares :], strict=True))
        return Economics._make([*columns[: self._shares], figures])
