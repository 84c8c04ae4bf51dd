"""Everything about a search problem that no episode changes: layers, costs, limits, reward."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from releq_gym.assignment_index import AssignmentIndex
from releq_gym.choices import MeasuredChoices, check_bitwidths, check_fixed, check_groups
from releq_gym.costs import CostModel
from releq_gym.costs.quantization_state import layer_importance
from releq_gym.evaluators.base import Evaluator
from releq_gym.layers import BITWIDTHS, MAX_LOSS_POINTS, Layer
from releq_gym.own_code import failure_of
from releq_gym.plain_numbers import is_real
from releq_gym.registry import UnknownNameError
from releq_gym.rewards import REWARD_ADVICE, Reward
from releq_gym.transition import Transition

BETTER_POINTS = 5.0
"""So much better than full precision no quantized network is, if the two were measured alike."""

TOLERANCE = 1e-9
"""Relative slack of a cost limit, for sums in floating point."""


RESERVED = frozenset(
    {
        "bitwidths", "executed_bitwidth", "evaluated", "accuracy", "relative_accuracy",
        "loss_points", "diverged", "cost", "state_of_quantization", "average_bitwidth",
        "weighted_bitwidth", "net", "episode", "final_obs", "final_info",
    }
)  # fmt: skip
"""What stands in ``info`` already, so that no figure may be called that."""


class Economics(NamedTuple):
    """Where the costs of an episode stand, or of many: every field a float, or an array of them.

    Attributes:
        cost: Under the active cost model, all layers at 8 bits = 1.
        least_cost: The least still reachable.
        budget_left: Share of the tightest cost limit that the least completion leaves; 1 without
            a budget.
        state_of_quantization: The paper's.
        average_bitwidth: Bits per layer.
        weighted_bitwidth: Bits per weight.
        figures: The cost model's physical figures by name, in the order of `Problem.figures`.
    """

    cost: Any
    least_cost: Any
    budget_left: Any
    state_of_quantization: Any
    average_bitwidth: Any
    weighted_bitwidth: Any
    figures: dict[str, Any]


class Problem:
    """Assigns bitwidths to layers: what may be chosen, what it costs, what it is worth.

    Args:
        evaluator: Answers what accuracy an assignment gives.
        reward: Called on a `Transition`.
        cost_model: Called with layers and bitwidths; where it has a method ``of``, that is given
            the evaluator before.
        bitwidths: The choice per layer; None takes all that the evaluator has.
        fixed_bitwidths: Layers that are not chosen, by name.
        groups: Layers that share one bitwidth, by name; all others are on their own.
        cost_budget: Limits that no assignment may exceed, ``{figure: limit}``; ``"cost"`` is the
            normalised headline.

    Attributes:
        layers: All quantized layers, first to last.
        bitwidths: The choice per layer, ascending.
        groups: Per step the indices of the layers that it decides, ascending; steps are in the
            order of their first layers.
        steps: Those first layers.
        step_names: The layer of each step by name, or the first one and how many more there are.
        at_start: The totals of the fixed layers.
        start: The assignment before any choice: fixed layers as fixed, others at the maximum.
        figures: Names of the physical figures, the headline first.
        max_loss_points: The loss that is tolerated, in percentage points: the reward's where it
            states one, else the evaluator's.
        measured: What may be chosen where only some assignments were measured, see
            `MeasuredChoices`; else None.
        limits: The most that totals may be, by their position; empty without a cost budget.
        has_budget: Whether there is one.
        has_masks: Whether some choices may be masked.
        index: Of an assignment, or of many, among all that the evaluator has.

    Raises:
        ValueError: For bitwidths the evaluator lacks, unknown layers or figures, groups that are
            empty, overlap or hold a fixed layer, a budget that cannot be met.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        reward: Reward,
        cost_model: CostModel,
        bitwidths: Sequence[int] | None = None,
        fixed_bitwidths: Mapping[str, int] | None = None,
        groups: Sequence[Sequence[str]] | None = None,
        cost_budget: Mapping[str, float] | None = None,
    ):
        self.evaluator, self.reward = evaluator, reward
        if not 0 < evaluator.full_precision_accuracy <= 1:
            raise ValueError(
                f"{evaluator.name} has a full-precision accuracy of "
                f"{evaluator.full_precision_accuracy}; it has to be a fraction above 0, since "
                "others are relative to it."
            )
        self.layers = evaluator.layers
        self.bitwidths = check_bitwidths(bitwidths, evaluator)
        fixed = check_fixed(fixed_bitwidths or {}, evaluator)
        if len(fixed) == len(self.layers):
            raise ValueError("fixed_bitwidths fixes every layer; leave at least one to choose.")
        self.groups = check_groups(() if groups is None else groups, fixed, evaluator)
        self.steps = tuple(group[0] for group in self.groups)
        self.step_names = tuple(map(self._name, self.groups))
        self.start = tuple(fixed.get(i, self.bitwidths[-1]) for i in range(len(self.layers)))
        tolerated = getattr(reward, "max_loss_points", None)
        stated = getattr(evaluator, "max_loss_points", MAX_LOSS_POINTS)
        self.max_loss_points: float = stated if tolerated is None else tolerated

        of_evaluator = getattr(cost_model, "of", None)
        self._build_tables(cost_model if of_evaluator is None else of_evaluator(evaluator))
        self._build_steps(list(fixed))
        if not isinstance(cost_budget or {}, Mapping):
            raise ValueError(f"cost_budget={cost_budget!r} must be a dict of {{figure: limit}}.")
        self.limits = self._check_budget(dict(cost_budget or {}))
        self._options: dict[str, Any] = {  # copies: the caller may change his
            "reward": reward,
            "cost_model": cost_model,
            "bitwidths": None if bitwidths is None else self.bitwidths,
            "fixed_bitwidths": dict(fixed_bitwidths or {}),
            "groups": None if groups is None else [list(group) for group in groups],
            "cost_budget": dict(cost_budget or {}),
        }
        self._rooms = [
            (figure, limit - self._choices_and_least[:, :, figure])
            for figure, limit in self.limits.items()
        ]
        self.has_budget = bool(self.limits)
        self.measured = self._measured_choices()
        self.has_masks = self.has_budget or self.measured is not None

    def __deepcopy__(self, memo: dict) -> Problem:
        """Shared between copies: nothing in it changes."""
        return self

    def with_evaluator(self, evaluator: Evaluator) -> Problem:
        """The same problem with another source of accuracies, for instance report data."""
        return Problem(evaluator, **self._options)

    def with_cost(
        self, cost_model: CostModel, cost_budget: Mapping[str, float] | None = None
    ) -> Problem:
        """The same problem under another cost model and budget.

        Raises:
            ValueError: Where there is a budget already, which another model would void.
        """
        if before := self._options["cost_budget"]:
            raise ValueError(
                f"There is a cost_budget already, {dict(before)}, in figures of the cost model "
                "that is to be replaced; give model and budget together, in one place."
            )
        changed = {"cost_model": cost_model, "cost_budget": cost_budget}
        return Problem(self.evaluator, **{**self._options, **changed})

    # Totals: sums over layers of the figures, the state of quantization, plain and weighted bits.
    # Every method takes one situation or arrays of them, with the last axis of totals innermost.

    @property
    def size(self) -> int:
        """How many assignments there are to choose from, budgets apart; a Python int."""
        return len(self.bitwidths) ** len(self.steps)

    def totals(self, bitwidths: Sequence[int] | NDArray) -> NDArray[np.float64]:
        """The totals of an assignment, ``[figures + 3]``.

        Args:
            bitwidths: One per layer.
        """
        return self._table[self._rows, bitwidths].sum(axis=0)

    def figures_of(self, bitwidths: Sequence[int]) -> dict[str, float]:
        """The physical figures of an assignment by name, the headline first."""
        return dict(zip(self.figures, self.totals(bitwidths).tolist(), strict=False))

    def decide(
        self, step: int | NDArray, decided: NDArray[np.float64], bitwidth: int | NDArray
    ) -> NDArray[np.float64]:
        """Totals of the decided layers after those of ``step`` have got their bitwidth."""
        return decided + self._step_table[step, bitwidth]

    def economics(self, step: Any, decided: NDArray[np.float64]) -> Economics:
        """Where the costs stand after ``step`` decisions, undecided layers as they start.

        Args:
            step: Decisions taken, or an array of them.
            decided: Totals of the decided layers, as `decide` returns them.
        """
        # Plain floats are much faster than numpy's where there is one situation.
        single = decided.ndim == 1
        totals: Any = decided + self._undecided_start[step]
        least: Any
        if single:
            totals = totals.tolist()
            least = decided.item(0) + self._undecided_least.item(step, 0)
        else:
            totals = totals.T
            least = decided[:, 0] + self._undecided_least[step, 0]
        spent: Any = 0.0
        for figure, limit in self.limits.items():
            total = decided[..., figure] + self._undecided_least[step, figure]
            spent = np.maximum(spent, total / limit)
        return Economics(
            cost=totals[0] / self._cost_at_8,
            least_cost=least / self._cost_at_8,
            budget_left=1.0 - (float(spent) if single else spent),
            state_of_quantization=totals[-3],
            average_bitwidth=totals[-2] / len(self.layers),
            weighted_bitwidth=totals[-1] / self._weights,
            figures=dict(zip(self.figures, totals, strict=False)),
        )

    # What an assignment costs and is worth

    def layer_costs(self, bitwidth: int) -> NDArray[np.float64]:
        """The headline figure of every layer at this bitwidth, ``[layers]``."""
        return self._table[:, bitwidth, 0]

    def cost(self, bitwidths: Sequence[int] | NDArray) -> float:
        """The headline figure of an assignment over that of all layers at 8 bits."""
        return float(self.totals(bitwidths)[0]) / self._cost_at_8

    def transition(
        self,
        bitwidths: Sequence[int] | NDArray,
        accuracy: Any,
        terminated: Any = True,
        economics: Economics | None = None,
    ) -> Transition:
        """The record of one measured assignment, or of many as arrays.

        Args:
            bitwidths: One per layer.
            accuracy: Measured, in [0, 1].
            terminated: Whether every layer has been decided.
            economics: `economics` of these bitwidths, where the caller has them.
        """
        if economics is None:
            economics = self.economics(len(self.steps), self.totals(bitwidths))
        full = self.evaluator.full_precision_accuracy
        return Transition(
            bitwidths,  # type: ignore[arg-type]  # an array where there are many
            accuracy,
            full,
            accuracy / full,
            100.0 * (full - accuracy),
            self.max_loss_points,
            economics.cost,
            economics.state_of_quantization,
            economics.average_bitwidth,
            economics.weighted_bitwidth,
            terminated,
            self._highest_cost,
        )

    def objective(self, bitwidths: Sequence[int], accuracy: float) -> float:
        """The reward of a complete assignment at this accuracy."""
        return self.reward_of(self.transition(tuple(bitwidths), accuracy))

    def reward_of(self, transition: Transition) -> float:
        """What the reward says, checked to be a number.

        Raises:
            ValueError: Where it is not: a NaN would poison whatever learns from it.
        """
        try:
            reward = self.reward(transition)
        except Exception as error:
            raise failure_of("reward", self.reward, error, REWARD_ADVICE) from error
        if isinstance(reward, np.ndarray) and reward.ndim == 0:
            reward = reward[()]
        if isinstance(reward, float | int | np.number) and math.isfinite(reward):
            return float(reward)
        raise ValueError(
            f"The reward {_described(self.reward)} returned {reward!r} for {transition}; it must "
            "return a finite number."
        )

    def refuse_accuracy(self, bitwidths: Sequence[int], accuracy: float) -> NoReturn:
        """Of an evaluator that answers with no fraction."""
        raise ValueError(
            f"{self.evaluator.name} answered with an accuracy of {accuracy!r} for "
            f"{' '.join(map(str, bitwidths))}; it has to be a fraction, from 0 to 1."
        )

    def admits(self, bitwidths: Sequence[int]) -> bool:
        """Whether an assignment may be the answer: as chosen, fixed and grouped, in the budget."""
        chosen = [bitwidths[layer] for layer in self.steps]
        measured = self.measured is None or tuple(chosen) in self.measured
        return measured and self._fits(bitwidths, chosen)

    def _fits(self, bitwidths: Sequence[int], chosen: Sequence[int]) -> bool:
        """`admits`, whether or not it was measured."""
        if tuple(bitwidths) != self.assignment(chosen) or not set(chosen) <= set(self.bitwidths):
            return False
        totals = self.totals(bitwidths) if self.limits else ()
        return all(totals[figure] <= limit for figure, limit in self.limits.items())

    def rank(self, bitwidths: Sequence[int], accuracy: float) -> tuple[float, ...]:
        """By what answers are compared: the cautious objective, at the accuracy less a caution.

        Among equals the lower cost goes first, then the higher accuracy, then fewer bits: where a
        cost model has plateaus, an accuracy floor tells nothing of those on one of them.
        """
        cautious = self.transition(tuple(bitwidths), self.cautious(accuracy))
        reward = self.reward_of(cautious)
        return reward, -cautious.cost, accuracy, -cautious.weighted_bitwidth

    def cautious(self, accuracy: float) -> float:
        """An accuracy less one standard error of its images (`caution`), 0 at least."""
        return max(accuracy - self.caution(accuracy), 0.0)

    def caution(self, accuracy: float) -> float:
        """One standard error of an accuracy's distance from full precision, as a fraction.

        Of the sampling of the search images, at least: if every image that tells the two networks
        apart speaks against the quantized one, their number is Poisson. 0 where accuracies are
        exact, or nothing is lost.
        """
        lost = max(self.evaluator.full_precision_accuracy - accuracy, 0.0)
        return math.sqrt(lost / self.evaluator.images) if self.evaluator.images else 0.0

    # What may be chosen

    def assignment(self, chosen: Sequence[int]) -> tuple[int, ...]:
        """The bitwidths of all layers, from one per step.

        Args:
            chosen: Of the first steps; layers of later ones are as they start.
        """
        bitwidths = list(self.start)
        for group, bitwidth in zip(self.groups, chosen, strict=False):
            for layer in group:
                bitwidths[layer] = bitwidth
        return tuple(bitwidths)

    def allowed(self, step: int | NDArray, decided: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which bitwidths the cost budget leaves for this step, ``[bitwidths]``."""
        if not self.has_budget:
            return np.ones((*decided.shape[:-1], len(self.bitwidths)), dtype=np.bool_)
        fits = [decided[..., figure, None] <= room[step] for figure, room in self._rooms]
        return np.logical_and.reduce(fits)

    def possible(self) -> NDArray[np.bool_]:
        """What each step may take in some assignment that is allowed, ``[steps, bitwidths]``."""
        if self.measured is not None:
            return self.measured.ever()
        before = self.at_start + self._undecided_least[0] - self._undecided_least[:-1]
        return self.allowed(np.arange(len(self.steps)), before)

    # Construction

    def _build_tables(self, cost_model: CostModel) -> None:
        figures = _called(cost_model, self.layers)
        if not isinstance(figures, Mapping) or not figures:
            raise ValueError(
                "A cost model returns {figure: array [layers, bitwidths 1 to 8]}, the headline "
                f"first; this one returned {figures!r:.80}."
            )
        self.figures = tuple(figures)
        shape = (len(self.layers), len(BITWIDTHS))
        columns = []
        for name, values in figures.items():
            if name in RESERVED:
                raise ValueError(
                    f"The cost model calls a figure {name!r}, which info has already; give it the "
                    "name of its unit, such as 'milliseconds'."
                )
            if not isinstance(name, str) or np.asarray(values).dtype.kind not in "biuf":
                raise ValueError(
                    f"The cost model's figure {name!r} has to have a name and to be an array of "
                    f"real numbers [layers, bitwidths]; it is {values!r:.60}."
                )
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
        self._check_figures()
        self._rows = np.arange(len(self.layers))
        self._weights = float(weights.sum())
        self._cost_at_8 = float(self.totals([8] * len(self.layers))[0])
        if not self._cost_at_8 > 0:
            raise ValueError("The cost model gives all layers at 8 bits no cost; it cannot rank.")
        if not self._table[:, self.bitwidths[-1], 0].sum() > 0:
            raise ValueError(
                f"The cost model gives all layers at {self.bitwidths[-1]} bits no cost, which is "
                "the most they may have; it cannot rank."
            )
        self.index = AssignmentIndex(self.evaluator.bitwidths, len(self.layers))

    def _check_figures(self) -> None:
        """Of all bitwidths that may occur, and of 8 bits, which the cost is relative to."""
        occurring = sorted({*self.bitwidths, *self.start, BITWIDTHS[-1]})
        figures = self._table[:, occurring, : len(self.figures)]
        wrong = np.argwhere(~(np.isfinite(figures) & (figures >= 0)))
        if len(wrong):
            layer, bitwidth, figure = wrong[0]
            bits, row = occurring[bitwidth], self._table[layer, :, figure]
            known = np.flatnonzero(np.isfinite(row) & (row >= 0)).tolist()
            if BITWIDTHS[-1] not in known:
                cure = f"{BITWIDTHS[-1]} bits are always needed: costs are relative to them."
            else:
                cure = f"Choose among bitwidths={known}, which it knows there."
                if known[0] < bits:
                    cure += " A lookup table fills what lies between them by interpolate=True."
            raise ValueError(
                f"The cost model's figure {self.figures[figure]!r} must be finite and not "
                f"negative; for layer {self.layers[layer].name!r} at {bits} bit{'s' * (bits > 1)} "
                f"it is {figures[layer, bitwidth, figure]}. {cure}"
            )

    def _build_steps(self, fixed: list[int]) -> None:
        """What each step adds, and what later ones add at the start and at the least."""
        self.at_start = self._table[fixed, [self.start[layer] for layer in fixed]].sum(axis=0)
        self._step_table = np.array([self._table[list(group)].sum(axis=0) for group in self.groups])
        choices = self._step_table[:, list(self.bitwidths)]
        start, least = choices[:, -1], choices.min(axis=1)
        highest = float(self.at_start[0] + choices[:, :, 0].max(axis=1).sum()) / self._cost_at_8
        self._highest_cost = highest if highest > 1 + TOLERANCE else 1.0
        after = range(len(self.groups) + 1)
        self._undecided_start = np.array([start[step:].sum(axis=0) for step in after])
        self._undecided_least = np.array([least[step:].sum(axis=0) for step in after])
        self._choices_and_least = choices + self._undecided_least[1:, None]

    def _check_budget(self, budget: dict[str, float]) -> dict[int, float]:
        """The limits by column of the totals, checked to be reachable, with room for rounding."""
        limits: dict[int, float] = {}
        least = self.at_start + self._undecided_least[0]
        for name, limit in budget.items():
            if name != "cost" and name not in self.figures:
                hint = "These are the figures of the active cost model."
                raise UnknownNameError("figure in cost_budget", name, ["cost", *self.figures], hint)
            index = 0 if name == "cost" else self.figures.index(name)
            unit = self._cost_at_8 if name == "cost" else 1.0
            if not is_real(limit) or not limit > 0:
                raise ValueError(f"cost_budget {{{name!r}: {limit!r}}} must be a number above 0.")
            if not limit * unit * (1 + TOLERANCE) >= least[index]:
                raise ValueError(
                    f"cost_budget {{{name!r}: {limit}}} cannot be met: the least reachable is "
                    f"{_rounded_up(least[index] / unit)}."
                )
            limits[index] = min(float(limit) * unit * (1 + TOLERANCE), limits.get(index, np.inf))
        if len(limits) > 1:
            self._check_common_least(list(limits))
        return limits

    def _measured_choices(self) -> MeasuredChoices | None:
        """Of what was measured, that which may be the answer."""
        measured = getattr(self.evaluator, "measured", None)
        if measured is None:
            return None
        chosen = [[one[layer] for layer in self.steps] for one in measured]
        pairs = zip(measured, chosen, strict=True)
        choices = [choice for bitwidths, choice in pairs if self._fits(bitwidths, choice)]
        if not choices:
            raise ValueError(
                f"{self.evaluator.name} has measured nothing that bitwidths, fixed_bitwidths, "
                "groups and cost_budget leave."
            )
        return MeasuredChoices(choices, self.bitwidths)

    def _check_common_least(self, limited: list[int]) -> None:
        """Several limits hold together only if one choice per step is least in all of them."""
        for name, table in zip(self.step_names, self._step_table, strict=True):
            values = table[list(self.bitwidths)][:, limited]
            if not (values == values.min(axis=0)).all(axis=1).any():
                names = ", ".join(self.figures[i] for i in limited)
                raise ValueError(
                    f"cost_budget limits {names}, whose least values in layer {name!r} lie "
                    "at different bitwidths, so they cannot be guaranteed together; limit one."
                )

    def _name(self, group: tuple[int, ...]) -> str:
        first, more = self.layers[group[0]].name, len(group) - 1
        return f"{first} + {more}" if more else first

    def describe(self) -> dict[str, Any]:
        """What identifies the problem, as plain JSON."""
        return {
            "evaluator": self.evaluator.name,
            "net": self.evaluator.net,
            **getattr(self.evaluator, "provenance", {}),
            "bitwidths": list(self.bitwidths),
            "start": list(self.start),
            "groups": [list(group) for group in self.groups],
            "reward": _described(self.reward),
            "max_loss_points": self.max_loss_points,
            "cost": _described(self._options["cost_model"]),
            "cost_budget": dict(self._options["cost_budget"]),
        }


def _called(cost_model: CostModel, layers: Sequence[Layer]) -> Any:
    """What a cost model says of these layers; whatever one of the user's own raises is a sentence.

    Raises:
        ValueError: Where it cannot be called, or fails.
    """
    try:
        return cost_model(layers, BITWIDTHS)
    except Exception as error:
        advice = (
            "It gets all layers and the bitwidths 1 to 8 at once, and returns {figure: array "
            "[layers, bitwidths]}, such as np.outer([layer.macs for layer in layers], bitwidths)."
        )
        raise failure_of("cost model", cost_model, error, advice) from error


def _rounded_up(limit: float) -> str:
    """In six digits that can be met, as far as `TOLERANCE` does not see to that."""
    digits = Context(prec=6, rounding=ROUND_CEILING)
    return f"{float(digits.create_decimal_from_float(limit * (1 - TOLERANCE))):g}"


def _described(function: object) -> str:
    """A dataclass with its parameters; anything else by its name, without its address."""
    if dataclasses.is_dataclass(function):
        return repr(function)
    return getattr(function, "__qualname__", type(function).__qualname__)
