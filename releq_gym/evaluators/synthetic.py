"""Invented landscapes of any depth whose optimum is known exactly: for tuning and for tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_gym.evaluators.base import Evaluation, ManyEvaluations
from releq_gym.evaluators.measurement import check_assignment
from releq_gym.layers import MAX_LOSS_POINTS, Layer

IMAGES = 10_000
FULL_PRECISION_CORRECT = 9_200
CHANCE_CORRECT = 1_000
LAYERS = range(4, 65)
"""How deep a landscape can be."""


def is_synthetic(task: object) -> bool:
    """Whether a task name asks for this family."""
    return isinstance(task, str) and task.split("-")[0] == "synthetic"


def make_synthetic(task: str) -> SyntheticEvaluator:
    """The landscape called ``synthetic-LAYERS-SEED``.

    Raises:
        ValueError: For anything else.
    """
    parts = task.split("-")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts[1:]):
        raise ValueError(
            f"Unknown synthetic task {task!r}: its form is synthetic-LAYERS-SEED, such as "
            "synthetic-20-0. (gym.make and agents.pretrain also take families, synthetic-20-any.)"
        )
    return SyntheticEvaluator(int(parts[1]), int(parts[2]))


class SyntheticEvaluator:
    """A deterministic landscape over a made-up network; fulfils `Evaluator`.

    The loss, in images of 10,000, is a sum of three kinds of terms:

    * *unary*: every layer loses a geometric series that falls with its bitwidth, at a scale of
      its own, and nothing at 8 bits;
    * *neighbour*: two adjacent layers below their thresholds lose more together than alone;
    * *cliff*: below its critical bitwidth a layer takes the network down.

    Accuracy is that of full precision minus the loss, never below chance. Since terms couple only
    neighbours, `optimum` finds the cheapest assignment within a loss by dynamic programming. The
    layers' sizes and signal-to-quantization-noise ratios are invented too; the latter hint at the
    unary term, with noise, as they do in real networks.

    Args:
        layers: 4 to 64.
        seed: Of the landscape.
    """

    repeats = 1
    net = "synthetic"
    bitwidths = tuple(range(2, 9))
    images = 0
    full_precision_accuracy = FULL_PRECISION_CORRECT / IMAGES
    max_loss_points = MAX_LOSS_POINTS

    def __init__(self, layers: int, seed: int):
        if layers not in LAYERS:
            raise ValueError(f"A synthetic task has 4 to 64 layers, not {layers}.")
        self.name = f"synthetic-{layers}-{seed}"
        rng = np.random.default_rng([layers, seed])
        choices = np.array(self.bitwidths)
        # How many bits a layer needs before its loss is about an image, and how fast it falls.
        needed = rng.uniform(2.2, 6.2, layers)
        decay = rng.uniform(2.0, 4.0, layers)
        unary = np.floor(decay[:, None] ** (needed[:, None] - choices))
        unary -= unary[:, -1:]
        cliff = np.clip(np.floor(needed - rng.uniform(1.0, 2.5, layers)), 1, 5)
        unary[choices[None, :] < cliff[:, None]] += 2_000
        self._unary = unary.astype(np.int64)
        threshold = rng.integers(3, 6, layers)
        strength = rng.integers(0, 7, layers - 1)
        short = np.maximum(threshold[:, None] - choices[None, :], 0)
        self._neighbour = (
            strength[:, None, None] * short[:-1, :, None] * short[1:, None, :]
        ).astype(np.int64)
        self._rows = np.arange(layers)
        self._known = frozenset(self.bitwidths)
        self.layers = _invent_layers(rng, needed)

    def __deepcopy__(self, memo: dict) -> SyntheticEvaluator:
        return self

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """Exact: the same at every repeat.

        Raises:
            ValueError: For a wrong number of bitwidths, or one that is not the evaluator's.
        """
        if len(bitwidths) != len(self.layers) or not self._known.issuperset(bitwidths):
            check_assignment(bitwidths, self)
        return Evaluation(float(self._accuracies(np.asarray(bitwidths))))

    def evaluate_many(
        self, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """Many answers at once.

        Args:
            bitwidths: ``[assignments, layers]``.
            repeats: One per assignment; all the same to this landscape.
        """
        return ManyEvaluations(
            self._accuracies(bitwidths),
            np.zeros(len(bitwidths)),
            np.zeros(len(bitwidths), dtype=np.bool_),
        )

    def _accuracies(self, bitwidths: NDArray) -> NDArray[np.float64]:
        digits = bitwidths - self.bitwidths[0]
        loss = self._unary[self._rows, digits].sum(axis=-1)
        pairs = digits[..., :-1], digits[..., 1:]
        loss = loss + self._neighbour[self._rows[:-1], *pairs].sum(axis=-1)
        return np.maximum(FULL_PRECISION_CORRECT - loss, CHANCE_CORRECT) / IMAGES

    def optimum(
        self, layer_costs: ArrayLike, max_loss_points: float | None = None
    ) -> tuple[int, ...]:
        """The cheapest assignment within a loss, exactly.

        Dynamic programming over (layer, its bitwidth, images lost so far).

        Args:
            layer_costs: Cost of each layer at each of ``bitwidths``, [layers, bitwidths].
            max_loss_points: Tolerated loss; None is the task's.
        """
        points = self.max_loss_points if max_loss_points is None else max_loss_points
        budget = math.floor(points * IMAGES / 100 + 1e-9)
        count = len(self.bitwidths)
        costs = np.asarray(layer_costs, dtype=np.float64)
        best = np.full((count, budget + 1), np.inf)
        for digit in range(count):
            if self._unary[0, digit] <= budget:
                best[digit, self._unary[0, digit]] = costs[0, digit]
        parents = []
        for layer in range(1, len(self.layers)):
            following = np.full_like(best, np.inf)
            parent = np.full((count, budget + 1, 2), -1)
            for before in range(count):
                for digit in range(count):
                    lost = int(
                        self._unary[layer, digit] + self._neighbour[layer - 1, before, digit]
                    )
                    if lost > budget:
                        continue
                    reached = best[before, : budget + 1 - lost] + costs[layer, digit]
                    better = reached < following[digit, lost:]
                    following[digit, lost:][better] = reached[better]
                    origin = np.flatnonzero(better)
                    parent[digit, lost + origin] = np.stack(
                        [np.full_like(origin, before), origin], axis=1
                    )
            parents.append(parent)
            best = following
        digit, lost = (int(i) for i in np.unravel_index(best.argmin(), best.shape))
        digits = [digit]
        for parent in reversed(parents):
            digit, lost = (int(i) for i in parent[digit, lost])
            digits.append(digit)
        return tuple(self.bitwidths[digit] for digit in reversed(digits))


def _invent_layers(rng: np.random.Generator, needed: NDArray) -> tuple[Layer, ...]:
    count = len(needed)
    channels = (2 ** np.linspace(4, 8, count + 1)).astype(int)
    side = np.linspace(16, 4, count).astype(int)
    hint = needed + rng.normal(0.0, 0.4, count)
    layers = []
    for i in range(count):
        last = i == count - 1
        shape = (10, int(channels[i])) if last else (int(channels[i + 1]), int(channels[i]), 3, 3)
        positions = 1 if last else int(side[i] ** 2)
        layers.append(
            Layer(
                name=f"layer{i}",
                kind="linear" if last else "conv",
                weight_shape=shape,
                stride=1,
                output_positions=positions,
                macs=math.prod(shape) * positions,
                weight_std=float(1.0 / math.sqrt(math.prod(shape[1:]))),
                sqnr_db=tuple(
                    float(np.clip(20.0 + 6.0 * (bitwidth - hint[i]), -20.0, 80.0))
                    for bitwidth in range(1, 9)
                ),
            )
        )
    return tuple(layers)
