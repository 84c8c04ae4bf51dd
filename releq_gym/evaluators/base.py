"""The one question an environment asks: what accuracy does this assignment give?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class Evaluator(Protocol):
    """Anything that turns bitwidths into an accuracy.

    Attributes:
        name: Which evaluator and what it evaluates, as logs state it.
        net: Name of the network.
        layers: The quantized layers, first to last.
        bitwidths: The bitwidths it can evaluate, ascending.
        repeats: How many independent repeats a configuration has; 1 means deterministic.
        images: Size of the search split.
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
