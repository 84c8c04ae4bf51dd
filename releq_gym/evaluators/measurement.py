"""What a live evaluator measures and its memo keeps: one assignment, retrained with one seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from releq_gym.evaluators.base import Evaluation, Evaluator
from releq_gym.plain_numbers import is_whole


class Measurement(NamedTuple):
    """One assignment, retrained once and tested on one split.

    Attributes:
        correct: Images classified correctly, or the sum of their scores under another metric;
            0 where the retraining diverged.
        images: Size of the split.
        milliseconds: Wall time of quantization, retraining and testing when it was measured.
        diverged: Whether the retraining ran into NaN or infinity.
    """

    correct: float
    images: int
    milliseconds: float
    diverged: bool

    @property
    def accuracy(self) -> float:
        """Fraction of the split that is classified correctly, or the mean score; at least 0."""
        return max(self.correct / self.images, 0.0)


def pooled(measured: Sequence[Measurement]) -> Evaluation:
    """The answer that the retrainings of one assignment give together."""
    return Evaluation(
        accuracy=max(
            0.0, sum(one.correct for one in measured) / sum(one.images for one in measured)
        ),
        milliseconds=sum(one.milliseconds for one in measured),
        diverged=any(one.diverged for one in measured),
    )


def seeds_of(repeat: int, repeats: int) -> Sequence[int]:
    """The seeds of the retrainings that answer for ``repeat``: its own, or with -1 all of them.

    Raises:
        ValueError: For a repeat that does not exist.
    """
    if not -1 <= repeat < repeats:
        raise ValueError(
            f"Repeat {repeat!r} does not exist; use 0 to {repeats - 1}, or -1 for the mean over "
            "all."
        )
    return range(repeats) if repeat == -1 else (int(repeat),)


def check_assignment(bitwidths: Sequence[int], evaluator: Evaluator) -> list[int]:
    """The bitwidths of an assignment that the evaluator can measure, as plain integers.

    Raises:
        ValueError: For a wrong number of them, or one that is not the evaluator's.
    """
    for bitwidth in bitwidths:
        if not is_whole(bitwidth):
            raise ValueError(f"A bitwidth has to be a whole number; got {bitwidth!r}.")
    assignment = [int(bitwidth) for bitwidth in bitwidths]
    if len(assignment) != len(evaluator.layers):
        raise ValueError(
            f"{evaluator.net} has {len(evaluator.layers)} quantized layers; got {len(assignment)} "
            "bitwidths. Give one per layer, first to last."
        )
    for bitwidth in assignment:
        if bitwidth not in evaluator.bitwidths:
            raise ValueError(
                f"A bitwidth of {bitwidth} is not among {list(evaluator.bitwidths)}, the ones of "
                "this evaluator; its argument bitwidths=[...] decides."
            )
    return assignment
