"""Everything about a search problem that no episode changes: layers, costs, limits, reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.costs import CostModel
from releq_gym.costs.quantization_state import layer_importance
from releq_gym.evaluators.base import Evaluator
from releq_gym.layers import BITWIDTHS
from releq_gym.registry import UnknownNameError
from releq_gym.rewards import Reward
from releq_gym.transition import Transition

TOLERANCE = 1e-9
"""Relative slack of a cost limit, for sums in floating point."""


class Problem:
    """Assigns bitwidths to layers: what may be chosen, what it costs, what it is worth.

    Args:
        evaluator: Answers what accuracy an assignment gives.
        reward: Called on a `Transition`.
        cost_model: Called with layers and bitwidths.
        bitwidths: The choice per layer; None takes all that the evaluator has.
        fixed_bitwidths: Layers that are not chosen, by name.
        cost_budget: Limits that no assignment may exceed, ``{figure: limit}``; ``"cost"`` is the
            normalised headline.

    Attributes:
        layers: All quantized layers, first to last.
        bitwidths: The choice per layer, ascending.
        steps: Indices of the layers that are chosen, in order.
        decided: Those decided after 0, 1, 2, ... steps, as index arrays.
        start: The assignment before any choice: fixed layers as fixed, others at the maximum.
        figures: Names of the physical figures, the headline first.

    Raises:
        ValueError: For bitwidths the evaluator lacks, unknown layers or figures, a budget that
            cannot be met.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        reward: Reward,
        cost_model: CostModel,
        bitwidths: Sequence[int] | None = None,
        fixed_bitwidths: Mapping[str, int] | None = None,
        cost_budget: Mapping[str, float] | None = None,
    ):
        self.evaluator, self.reward = evaluator, reward
        self._options: dict[str, Any] = {
            "reward": reward,
            "cost_model": cost_model,
            "bitwidths": bitwidths,
            "fixed_bitwidths": fixed_bitwidths,
            "cost_budget": cost_budget,
        }
        self.layers = evaluator.layers
        self.bitwidths = _check_bitwidths(bitwidths, evaluator)
        fixed = _check_fixed(fixed_bitwidths or {}, evaluator)
        self.steps = tuple(i for i in range(len(self.layers)) if i not in fixed)
        if not self.steps:
            raise ValueError("fixed_bitwidths fixes every layer; leave at least one to choose.")
        self.decided = [np.array(self.steps[:n], dtype=np.intp) for n in range(len(self.steps) + 1)]
        self.start = tuple(fixed.get(i, self.bitwidths[-1]) for i in range(len(self.layers)))
        self.max_loss_points = getattr(evaluator, "max_loss_points", 0.3)

        self._build_tables(cost_model)
        self._choices = [
            (fixed[i],) if i in fixed else self.bitwidths for i in range(len(self.layers))
        ]
        self._least = self._least_figures()
        self._limits = self._check_budget(dict(cost_budget or {}))
        self.has_budget = bool(self._limits)

    def __deepcopy__(self, memo: dict) -> Problem:
        """Shared between copies: nothing in it changes."""
        return self

    def with_evaluator(self, evaluator: Evaluator) -> Problem:
        """The same problem with another source of accuracies, for instance report data."""
        return Problem(evaluator, **self._options)

    # What an assignment costs and is worth

    def totals(self, bitwidths: Sequence[int] | NDArray) -> NDArray[np.float64]:
        """Sums over the layers: the figures, then state of quantization, plain and weighted bits.

        Args:
            bitwidths: One per layer.
        """
        return self._table[self._rows, bitwidths].sum(axis=0)

    def layer_costs(self, bitwidth: int) -> NDArray[np.float64]:
        """The headline figure of every layer at this bitwidth, ``[layers]``."""
        return self._table[:, bitwidth, 0]

    def cost(self, totals: NDArray[np.float64]) -> float:
        """The headline figure over that of all layers at 8 bits."""
        return float(totals[0]) / self._cost_at_8

    def weighted_bitwidth(self, totals: NDArray[np.float64]) -> float:
        """Bits per weight."""
        return float(totals[-1]) / self._weights

    def transition(
        self,
        bitwidths: Sequence[int],
        accuracy: float,
        terminated: bool = True,
        totals: NDArray[np.float64] | None = None,
    ) -> Transition:
        """The record of one measured assignment.

        Args:
            bitwidths: One per layer.
            accuracy: Measured, in [0, 1].
            terminated: Whether every layer has been decided.
            totals: `totals` of these bitwidths, where the caller has them.
        """
        if totals is None:
            totals = self.totals(bitwidths)
        full = self.evaluator.full_precision_accuracy
        return Transition(
            bitwidths=tuple(bitwidths),
            accuracy=accuracy,
            full_precision_accuracy=full,
            relative_accuracy=accuracy / full,
            loss_points=100.0 * (full - accuracy),
            max_loss_points=self.max_loss_points,
            cost=self.cost(totals),
            state_of_quantization=float(totals[-3]),
            average_bitwidth=float(totals[-2]) / len(self.layers),
            weighted_bitwidth=self.weighted_bitwidth(totals),
            terminated=terminated,
        )

    def objective(self, bitwidths: Sequence[int], accuracy: float) -> float:
        """The reward of a complete assignment at this accuracy."""
        return float(self.reward(self.transition(bitwidths, accuracy)))

    def figure_totals(self, totals: NDArray[np.float64]) -> dict[str, float]:
        """The physical figures by name."""
        return dict(zip(self.figures, totals[: len(self.figures)].tolist(), strict=True))

    # What may be chosen

    def index(self, bitwidths: Sequence[int] | NDArray) -> int:
        """Mixed-radix number of an assignment, first layer most significant, modulo 2**64."""
        return int(self._radix @ self._digit[bitwidths])

    def allowed(self, step: int, bitwidths: NDArray) -> NDArray[np.bool_]:
        """Which bitwidths the cost budget leaves for the layer of this step.

        Args:
            step: Index into `steps`; the layers of earlier steps count as decided.
            bitwidths: One per layer; those of undecided layers are ignored.
        """
        if not self.has_budget:
            return np.ones(len(self.bitwidths), dtype=np.bool_)
        layer = self.steps[step]
        rest = self._spent(step, bitwidths) - self._least[layer]
        choices = self._table[layer, self.bitwidths, : len(self.figures)]
        return ((rest + choices)[:, list(self._limits)] <= list(self._limits.values())).all(axis=1)

    def least_cost(self, step: int, bitwidths: NDArray) -> float:
        """The least cost still reachable after ``step`` decisions."""
        return float(self._spent(step, bitwidths)[0]) / self._cost_at_8

    def budget_left(self, step: int, bitwidths: NDArray) -> float:
        """Share of the tightest limit that the least completion leaves; 1 without a budget."""
        if not self.has_budget:
            return 1.0
        spent = self._spent(step, bitwidths)
        return min(1.0 - spent[i] / limit for i, limit in self._limits.items())

    # Construction

    def _build_tables(self, cost_model: CostModel) -> None:
        figures = cost_model(self.layers, BITWIDTHS)
        self.figures = tuple(figures)
        shape = (len(self.layers), len(BITWIDTHS))
        columns = []
        for name, values in figures.items():
            values = np.asarray(values, dtype=np.float64)
            if values.shape != shape:
                raise ValueError(
                    f"The cost model's figure {name!r} has shape {values.shape}; "
                    f"[layers, bitwidths 1 to 8] is {shape}."
                )
            columns.append(values)
        bits = np.asarray(BITWIDTHS, dtype=np.float64)
        importance = np.array([layer_importance(layer) for layer in self.layers], dtype=np.float64)
        weights = np.array([layer.weights for layer in self.layers], dtype=np.float64)
        columns += [
            np.outer(importance / (importance.sum() * BITWIDTHS[-1]), bits),
            np.outer(np.ones(len(self.layers)), bits),
            np.outer(weights, bits),
        ]
        # Indexed by bitwidth, so column 0 is never read.
        self._table = np.full((len(self.layers), len(BITWIDTHS) + 1, len(columns)), np.nan)
        self._table[:, 1:, :] = np.stack(columns, axis=2)
        used = self._table[:, self.bitwidths, : len(figures)]
        if not (np.isfinite(used).all() and (used >= 0).all()):
            raise ValueError("The cost model's figures must be finite and not negative.")
        self._rows = np.arange(len(self.layers))
        self._weights = float(weights.sum())
        self._cost_at_8 = float(self.totals(np.full(len(self.layers), 8))[0])
        if not self._cost_at_8 > 0:
            raise ValueError("The cost model gives all layers at 8 bits no cost; it cannot rank.")
        digits = np.zeros(len(BITWIDTHS) + 1, dtype=np.uint64)
        digits[list(self.evaluator.bitwidths)] = np.arange(len(self.evaluator.bitwidths))
        self._digit = digits
        radix = [
            pow(len(self.evaluator.bitwidths), power, 2**64)
            for power in reversed(range(len(self.layers)))
        ]
        self._radix = np.array(radix, dtype=np.uint64)

    def _least_figures(self) -> NDArray[np.float64]:
        """Least value of every figure per layer, ``[layers, figures]``."""
        return np.array(
            [
                self._table[i, list(choices), : len(self.figures)].min(axis=0)
                for i, choices in enumerate(self._choices)
            ]
        )

    def _spent(self, step: int, bitwidths: NDArray) -> NDArray[np.float64]:
        """Figures of the decided layers plus the least of all others."""
        decided = self.decided[step]
        values = self._least.copy()
        values[decided] = self._table[decided, np.asarray(bitwidths)[decided], : len(self.figures)]
        return values.sum(axis=0)

    def _check_budget(self, budget: dict[str, float]) -> dict[int, float]:
        """The limits by figure index, checked to be reachable, with room for rounding."""
        limits: dict[int, float] = {}
        least = self._least.sum(axis=0)
        for name, limit in budget.items():
            if name != "cost" and name not in self.figures:
                hint = "These are the figures of the active cost model."
                raise UnknownNameError("figure in cost_budget", name, ["cost", *self.figures], hint)
            index = 0 if name == "cost" else self.figures.index(name)
            unit = self._cost_at_8 if name == "cost" else 1.0
            if not limit * unit * (1 + TOLERANCE) >= least[index]:
                raise ValueError(
                    f"cost_budget {{{name!r}: {limit}}} cannot be met: the least reachable is "
                    f"{least[index] / unit:.6g}."
                )
            limits[index] = min(limit * unit * (1 + TOLERANCE), limits.get(index, np.inf))
        if len(limits) > 1:
            self._check_common_least(list(limits))
        return limits

    def _check_common_least(self, limited: list[int]) -> None:
        """Several limits hold together only if one choice per layer is least in all of them."""
        for layer, choices in zip(self.layers, self._choices, strict=True):
            values = self._table[self.layers.index(layer), list(choices)][:, limited]
            if not (values == values.min(axis=0)).all(axis=1).any():
                names = ", ".join(self.figures[i] for i in limited)
                raise ValueError(
                    f"cost_budget limits {names}, whose least values in layer {layer.name!r} lie "
                    "at different bitwidths, so they cannot be guaranteed together; limit one."
                )

    def describe(self) -> dict[str, Any]:
        """What identifies the problem, as plain JSON."""
        return {
            "evaluator": self.evaluator.name,
            "net": self.evaluator.net,
            "bitwidths": list(self.bitwidths),
            "start": list(self.start),
            "steps": list(self.steps),
            "reward": repr(self.reward),
            "cost_budget": {self.figures[i]: limit for i, limit in self._limits.items()},
        }


def _check_bitwidths(bitwidths: Sequence[int] | None, evaluator: Evaluator) -> tuple[int, ...]:
    if bitwidths is None:
        return tuple(evaluator.bitwidths)
    chosen = tuple(sorted({int(bitwidth) for bitwidth in bitwidths}))
    missing = [bitwidth for bitwidth in chosen if bitwidth not in evaluator.bitwidths]
    if missing or not chosen:
        raise ValueError(
            f"bitwidths={list(bitwidths)} must be a non-empty subset of what {evaluator.name} "
            f"has: {', '.join(map(str, evaluator.bitwidths))}."
        )
    return chosen


def _check_fixed(fixed: Mapping[str, int], evaluator: Evaluator) -> dict[int, int]:
    names = [layer.name for layer in evaluator.layers]
    indexed = {}
    for name, bitwidth in fixed.items():
        if name not in names:
            raise UnknownNameError("layer in fixed_bitwidths", name, names)
        if bitwidth not in evaluator.bitwidths:
            raise ValueError(
                f"fixed_bitwidths[{name!r}] = {bitwidth!r} is not among the bitwidths of "
                f"{evaluator.name}: {', '.join(map(str, evaluator.bitwidths))}."
            )
        indexed[names.index(name)] = int(bitwidth)
    return indexed
