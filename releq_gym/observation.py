"""What an agent sees: the layer embeddings, each one table of names and meanings.

*Scales* are the same for every network; *shares* are relative to the network at hand. Every
value lies in [0, 1], and every network gives an observation of the same size, so that one policy
can serve many.

Layers that share a bitwidth (``groups``) are decided in one step. ``"layer"`` then shows weights,
MACs and shares of all of them together, their least signal-to-noise ratio, and all else of the
first; ``"paper"`` shows the first; ``"full"`` shows every layer by itself and marks all of them as
current.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from releq_gym.layers import BITWIDTHS, KINDS, Layer
from releq_gym.problem import Economics, Problem
from releq_gym.registry import Registry

LOSS_SCALE_POINTS = 0.1
"""Losses are shown on a log scale on which this many points stand out from zero."""

MAX_LAYERS = 64
"""Rows of the ``"full"`` observation; a deeper network gets as many as it has layers."""


class Situation(NamedTuple):
    """Where an episode stands, or many of them: every field a scalar, or an array of them.

    Attributes:
        step: Decisions taken.
        bitwidths: int array ``[..., layers]``.
        economics: `Problem.economics` of them.
        last_bitwidth: Of the last decision; 0 before the first.
        decided_bits: Sum over all decisions.
        relative_accuracy: Last measured in this episode; 1 before the first measurement.
        loss_points: Likewise; 0 before.
        evaluated: Whether the last step measured.
    """

    step: Any
    bitwidths: NDArray[np.intp]
    economics: Economics
    last_bitwidth: Any
    decided_bits: Any
    relative_accuracy: Any
    loss_points: Any
    evaluated: Any


class Measured(NamedTuple):
    """The part of a `Situation` that measurements decide."""

    relative_accuracy: Any
    loss_points: Any
    evaluated: Any


class Feature(NamedTuple):
    """One number of an observation."""

    name: str
    meaning: str


Measure = Callable[[Sequence[Layer]], float]
"""Of the layers that a step decides, which are mostly one."""


def _log2(value: float, scale: float) -> float:
    """``log2(value)`` as a share of ``scale``, within [0, 1]."""
    return min(max(math.log2(max(value, 1.0)) / scale, 0.0), 1.0)


def _weight_std(group: Sequence[Layer]) -> float:
    """The decades from 1e-4 to 10 mapped to [0, 1]."""
    return min(max((math.log10(max(group[0].weight_std, 1e-12)) + 4.0) / 5.0, 0.0), 1.0)


def _scaled(name: str, meaning: str, scale: float) -> tuple[Feature, Measure]:
    """An attribute of the first `Layer` on a log scale."""
    feature = Feature(name, f"log2 of {meaning}, over {scale:g}")
    return feature, lambda group: _log2(getattr(group[0], name), scale)


def _summed(name: str, meaning: str, scale: float) -> tuple[Feature, Measure]:
    """An attribute of `Layer`, of all layers of a group together, on a log scale."""
    feature = Feature(name, f"log2 of {meaning}, over {scale:g}")
    return feature, lambda group: _log2(sum(getattr(layer, name) for layer in group), scale)


def _is_kind(kind: str) -> tuple[Feature, Measure]:
    feature = Feature(f"kind_{kind}", f"1 for a layer of kind {kind}")
    return feature, lambda group: float(group[0].kind == kind)


def _sqnr(bitwidth: int) -> tuple[Feature, Measure]:
    def measure(group: Sequence[Layer]) -> float:
        least = min(layer.sqnr_db[bitwidth - 1] for layer in group)
        return min(max((least + 10.0) / 70.0, 0.0), 1.0)

    return Feature(
        f"sqnr_{bitwidth}", f"quantization SNR at {bitwidth} bits, -10 to 60 dB; a group's least"
    ), measure


STATIC: dict[Feature, Measure] = dict(
    [
        *map(_is_kind, KINDS),
        _scaled("output_dim", "output channels or features", 16),
        _scaled("input_dim", "input channels or features", 16),
        _scaled("kernel_area", "kernel positions", 8),
        _scaled("stride", "the product of strides", 6),
        _scaled("output_positions", "output positions per image", 20),
        _summed("weights", "the number of weights, a group's together", 28),
        _summed("macs", "multiply-accumulates per image, a group's together", 36),
        (
            Feature("weight_std", "log10 of the weights' standard deviation, from 1e-4 to 10"),
            _weight_std,
        ),
        *map(_sqnr, BITWIDTHS),
    ]
)
"""Of one layer alone, or of the first of a group where nothing else is said."""

PLACE = (
    Feature("position", "index of the layer, a group's first, over the last layer's"),
    Feature("layers", "log2 of the number of layers, over 8"),
    Feature("cost_share", "the layer's or group's share of the cost at the maximum bitwidth"),
    Feature("undecided_share", "share of that cost in it and in later layers and groups"),
)
"""Of one layer in its network."""

MEASURED = (
    Feature("relative_accuracy", "last measured in this episode; 1 before the first measurement"),
    Feature("loss", "its loss, log10(1 + points / 0.1) over 3"),
    Feature("evaluated", "1 where the last step measured"),
)
"""Of the episode so far, by measurements alone."""

DYNAMIC = (
    Feature("previous_bitwidth", "bitwidth of the last decision over 8; 0 before the first"),
    Feature("mean_decided", "mean of the decisions so far over 8; 0 before the first"),
    Feature("state_of_quantization", "the paper's"),
    *MEASURED,
    Feature("cost", "cost now, undecided layers at the maximum bitwidth"),
    Feature("least_cost", "least cost still reachable"),
    Feature("budget_left", "share of the tightest cost limit not yet spent; 1 without a budget"),
)
"""Of the episode so far."""

_STATIC_BY_NAME = {feature.name: (feature, measure) for feature, measure in STATIC.items()}
_PAPER_STATIC = [
    _STATIC_BY_NAME[name] for name in ("output_dim", "input_dim", "kernel_area", "weight_std")
]

PAPER = (
    Feature("index", "index of the layer over the number of layers"),
    *(feature for feature, _ in _PAPER_STATIC),
    Feature("bitwidth", "current bitwidth of the layer over 8"),
    *(
        feature
        for feature in DYNAMIC
        if feature.name in ("state_of_quantization", "relative_accuracy")
    ),
)
"""What the paper's agent sees."""

LAYER = (*STATIC, *PLACE, *DYNAMIC)
"""The default observation."""


class Observer:
    """Turns situations into observations of one problem.

    Attributes:
        space: Where they lie.
        names: Names of the entries, or of the parts of a Dict.
        measured: Which entries show `MEASURED`, or the first of it; all others follow from the
            decisions alone. None where observations are no arrays ``[..., features]``.
    """

    space: gym.Space[Any]
    names: tuple[str, ...]
    measured: range | None = None

    def __call__(self, situation: Situation) -> Any:
        """A fresh observation."""
        raise NotImplementedError

    def remeasured(self, rows: NDArray[np.float32], measured: Measured) -> NDArray[np.float32]:
        """Observations with other measurements; only where ``self.measured`` is not None.

        Args:
            rows: One, which is copied, or many, which are written to.
            measured: What they are to show.
        """
        assert self.measured is not None
        return _filled(rows, self.measured.start, measured_values(measured)[: len(self.measured)])


OBSERVATIONS: Registry[Callable[[Problem], Observer]] = Registry("observation")


def layer_rows(
    problem: Problem, groups: Sequence[tuple[int, ...]] | None = None
) -> NDArray[np.float32]:
    """`STATIC` and `PLACE` of every layer or group, float32 ``[groups, features]``.

    Args:
        problem: Whose layers.
        groups: Indices of layers, by first layer; None means every layer by itself.
    """
    layers = problem.layers
    if groups is None:
        groups = [(index,) for index in range(len(layers))]
    at_maximum = problem.layer_costs(problem.bitwidths[-1])
    shares = np.array([at_maximum[list(group)].sum() for group in groups]) / at_maximum.sum()
    undecided = np.cumsum(shares[::-1])[::-1]
    rows = [
        [
            *(measure([layers[index] for index in group]) for measure in STATIC.values()),
            group[0] / max(len(layers) - 1, 1),
            _log2(len(layers), 8),
            share,
            min(later, 1.0),
        ]
        for group, share, later in zip(groups, shares, undecided, strict=True)
    ]
    return np.array(rows, dtype=np.float32)


def _clip(value: float) -> float:
    return 0.0 if value < 0.0 else min(value, 1.0)


def _clip_array(value: NDArray) -> NDArray:
    return np.minimum(np.maximum(value, 0.0), 1.0)


def _log10(value: float) -> float:
    """Exactly numpy's, as the vector environment computes it."""
    return float(np.log10(value))


def measured_values(measured: Measured) -> tuple[Any, Any, Any]:
    """`MEASURED` of one situation, or of many."""
    relative_accuracy, loss, evaluated = measured
    clip: Any
    most: Any
    least: Any
    log10: Any
    if isinstance(loss, np.ndarray):
        clip, most, least, log10 = _clip_array, np.maximum, np.minimum, np.log10
    else:
        clip, most, least, log10 = _clip, max, min, _log10
    shown = least(log10(most(1.0 + loss / LOSS_SCALE_POINTS, 1.0)) / 3.0, 1.0)
    return clip(relative_accuracy), shown, evaluated


def dynamic_values(situation: Situation) -> tuple[Any, ...]:
    """`DYNAMIC` of a situation, or of many."""
    step, _, economics, last, decided_bits, relative_accuracy, loss, evaluated = situation
    clip: Any = _clip_array if isinstance(loss, np.ndarray) else _clip
    return (
        last / 8,
        decided_bits / (8 * (step + (step == 0))),
        economics.state_of_quantization,
        *measured_values(Measured(relative_accuracy, loss, evaluated)),
        clip(economics.cost),
        clip(economics.least_cost),
        clip(economics.budget_left),
    )


@OBSERVATIONS.register("layer")
class LayerObserver(Observer):
    """The row of the layer or group to decide, and where the episode stands (`LAYER`)."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.space = gym.spaces.Box(0.0, 1.0, (len(LAYER),), np.float32)
        self.names = tuple(feature.name for feature in LAYER)
        chosen = {layer for group in problem.groups for layer in group}
        fixed = [(layer,) for layer in range(len(problem.layers)) if layer not in chosen]
        everything = sorted([*problem.groups, *fixed])
        rows = layer_rows(problem, everything)[[group[0] in problem.steps for group in everything]]
        # After the last decision the last layer stays in view.
        self._template = np.zeros((len(rows) + 1, len(LAYER)), dtype=np.float32)
        self._template[:, : rows.shape[1]] = np.vstack([rows, rows[-1:]])
        self._dynamic = rows.shape[1]
        first = LAYER.index(MEASURED[0])
        self.measured = range(first, first + len(MEASURED))

    def __call__(self, situation: Situation) -> NDArray[np.float32]:
        """float32 ``[..., features]``."""
        return _filled(
            rows_of(self._template, situation.step), self._dynamic, dynamic_values(situation)
        )


@OBSERVATIONS.register("paper")
class PaperObserver(Observer):
    """What the paper's agent sees of the layer to decide, the first of a group (`PAPER`)."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.space = gym.spaces.Box(0.0, 1.0, (len(PAPER),), np.float32)
        self.names = tuple(feature.name for feature in PAPER)
        # After the last decision the last layer stays in view.
        self._layers = np.array([*problem.steps, problem.steps[-1]])
        rows = [
            [
                index / len(problem.layers),
                *(measure(problem.layers[index : index + 1]) for _, measure in _PAPER_STATIC),
                *[0.0] * 3,
            ]
            for index in self._layers.tolist()
        ]
        self._template = np.array(rows, dtype=np.float32)
        self._dynamic = len(PAPER) - 3
        self.measured = range(len(PAPER) - 1, len(PAPER))

    def __call__(self, situation: Situation) -> NDArray[np.float32]:
        """float32 ``[..., features]``."""
        layer = self._layers[situation.step]
        bitwidths = situation.bitwidths
        current = bitwidths[layer] if bitwidths.ndim == 1 else _pick(bitwidths, layer)
        clip = _clip_array if bitwidths.ndim > 1 else _clip
        state = situation.economics.state_of_quantization
        dynamic = (current / 8, state, clip(situation.relative_accuracy))
        return _filled(rows_of(self._template, situation.step), self._dynamic, dynamic)


@OBSERVATIONS.register("full")
class FullObserver(Observer):
    """All layers' rows, the bitwidths so far and where the episode stands: Markov.

    A Dict of float32 Boxes in [0, 1], padded to `MAX_LAYERS` rows: ``layers`` [rows, features],
    ``bitwidths`` [rows] over 8, ``decided`` [rows], ``current`` [rows] 1 for the layer to decide,
    or all of its group (all 0 at the end), ``mask`` [rows] 1 for real layers, ``episode``
    [features].
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        rows = layer_rows(problem)
        count, groups = len(rows), problem.groups
        size = max(MAX_LAYERS, count)
        self._layers = np.zeros((size, rows.shape[1]), dtype=np.float32)
        self._layers[:count] = rows
        self._mask = np.zeros(size, dtype=np.float32)
        self._mask[:count] = 1.0
        # One row per number of decisions taken.
        self._current = np.zeros((len(groups) + 1, size), dtype=np.float32)
        self._decided = np.zeros((len(groups) + 1, size), dtype=np.float32)
        self._decided[:, :count] = 1.0
        for step, group in enumerate(groups):
            self._current[step, list(group)] = 1.0
            self._decided[: step + 1, list(group)] = 0.0
        shapes = {
            "layers": self._layers.shape,
            "bitwidths": (size,),
            "decided": (size,),
            "current": (size,),
            "mask": (size,),
            "episode": (len(DYNAMIC),),
        }
        self.space = gym.spaces.Dict(
            {name: gym.spaces.Box(0.0, 1.0, shape, np.float32) for name, shape in shapes.items()}
        )
        self.names = tuple(shapes)

    def __call__(self, situation: Situation) -> dict[str, NDArray[np.float32]]:
        """The Dict, every array fresh."""
        step, batch = situation.step, np.shape(situation.step)
        bitwidths = np.zeros((*batch, len(self._mask)), dtype=np.float32)
        bitwidths[..., : situation.bitwidths.shape[-1]] = situation.bitwidths / 8
        episode = np.empty((*batch, len(DYNAMIC)), dtype=np.float32)
        return {
            "layers": np.broadcast_to(self._layers, (*batch, *self._layers.shape)).copy(),
            "bitwidths": bitwidths,
            "decided": self._decided[step].copy(),
            "current": self._current[step].copy(),
            "mask": np.broadcast_to(self._mask, (*batch, *self._mask.shape)).copy(),
            "episode": _filled(episode, 0, dynamic_values(situation)),
        }


def rows_of(table: NDArray, numbers: Any) -> Any:
    """The row with this number as a view, or an array of rows as a copy."""
    # Of many, `take` is several times faster than indexing; of one, indexing is.
    many = isinstance(numbers, np.ndarray)
    return table.take(numbers, axis=0) if many else table[numbers]


def _filled(rows: NDArray[np.float32], first: int, values: Iterable[Any]) -> NDArray[np.float32]:
    """Rows as `rows_of` gives them, with columns filled in: one in a copy, many in place.

    Args:
        rows: ``[..., features]``.
        first: The first of these columns.
        values: One per column.
    """
    if rows.ndim == 1:
        rows = rows.copy()
        for column, value in enumerate(values, first):
            rows[column] = value
    else:
        for column, value in enumerate(values, first):
            rows[:, column] = value
    return rows


def _pick(bitwidths: NDArray[np.intp], layers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each row the entry of its layer."""
    return np.take_along_axis(bitwidths, layers[:, None], axis=1)[:, 0]
