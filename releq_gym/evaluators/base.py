"""The one question an environment asks: what accuracy does this assignment give?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from releq_gym.layers import Layer


class Evaluation(NamedTuple):
    """One measured answer.

    Attributes:
        accuracy: Fraction of the search split that is classified correctly, in [0, 1].
        milliseconds: What measuring it cost, or had cost when the table was built.
        diverged: Whether the retraining ran into NaN or infinity.
    """

    accuracy: float
    milliseconds: float = 0.0
    diverged: bool = False


class ManyEvaluations(NamedTuple):
    """`Evaluation` of many assignments, every field an array ``[assignments]``."""

    accuracy: NDArray[np.float64]
    milliseconds: NDArray[Any]
    diverged: NDArray[np.bool_]


@runtime_checkable
class Evaluator(Protocol):
    """Anything that turns bitwidths into an accuracy.

    Attributes:
        name: Which evaluator and what it evaluates, as logs state it.
        net: Name of the network.
        layers: The quantized layers, first to last.
        bitwidths: The bitwidths it can evaluate, ascending.
        repeats: How many independent repeats a configuration has; 1 means deterministic.
        images: Size of the search split; 0 where accuracies are exact.

    It may have more, which is made use of where it is there: ``max_loss_points``, the tolerated
    loss in percentage points (else 0.3); ``activation_bitwidth`` (else 32) and ``per_channel``,
    which cost models go by; ``measured``, the assignments that alone it can answer for;
    ``provenance``, anything about it as JSON, for logs and results; the two methods of
    `evaluate_many`.
    """

    name: str
    net: str
    layers: tuple[Layer, ...]
    bitwidths: tuple[int, ...]
    repeats: int
    images: int

    @property
    def full_precision_accuracy(self) -> float:
        """Of the unquantized network on the search split, in [0, 1]."""
        ...

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """The accuracy of one assignment.

        Args:
            bitwidths: One per layer, first to last, each from ``self.bitwidths``.
            repeat: Which of the independent repeats, ``0 <= repeat < self.repeats``; -1 asks for
                the mean over all of them.
        """
        ...


def evaluate_many(
    evaluator: Evaluator,
    bitwidths: NDArray[np.intp],
    repeats: NDArray[np.intp],
    indices: NDArray[np.uint64] | None = None,
) -> ManyEvaluations:
    """Many answers: by methods of the evaluator that give many, else one after the other.

    These are ``evaluate_many(bitwidths, repeats)``, and ``evaluate_indices(indices, repeats)`` of
    one that has its answers in the order of `AssignmentIndex`.

    Args:
        evaluator: Whom to ask.
        bitwidths: ``[assignments, layers]``.
        repeats: One per assignment; all -1 for the mean.
        indices: By `AssignmentIndex` of the evaluator's bitwidths, where the caller has them.
    """
    by_index = getattr(evaluator, "evaluate_indices", None)
    if by_index is not None and indices is not None:
        return by_index(indices, repeats)
    own = getattr(evaluator, "evaluate_many", None)
    if own is not None:
        return own(bitwidths, repeats)
    answers = [
        evaluator.evaluate(tuple(row), repeat)
        for row, repeat in zip(bitwidths.tolist(), repeats.tolist(), strict=True)
    ]
    return in_columns(answers)


def in_columns(answers: Sequence[Evaluation]) -> ManyEvaluations:
    """Answers as arrays."""
    columns = list(zip(*answers, strict=True)) or [(), (), ()]
    return ManyEvaluations(*map(np.array, columns))
