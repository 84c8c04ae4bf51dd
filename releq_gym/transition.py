"""The record that a reward sees."""

from __future__ import annotations

from typing import NamedTuple


class Transition(NamedTuple):
    """One measured assignment, as handed to rewards; every number is of the search split.

    Where a reward has a method ``batch``, that gets many at once: then every field that can differ
    is a float64 array ``[transitions]``, and ``bitwidths`` an integer array
    ``[transitions, layers]``.

    Attributes:
        bitwidths: One per quantized layer, first to last, undecided layers at the maximum.
        accuracy: Fraction classified correctly, in [0, 1].
        full_precision_accuracy: Of the unquantized network on the same images.
        relative_accuracy: ``accuracy / full_precision_accuracy``; may exceed 1.
        loss_points: Full-precision minus quantized accuracy, in percentage points.
        max_loss_points: The loss that the reward tolerates where it states one, else the task, in
            percentage points.
        cost: Under the active cost model, all layers at 8 bits = 1.
        state_of_quantization: The paper's, in (0, 1].
        average_bitwidth: Plain mean over the layers.
        weighted_bitwidth: Mean weighted by the number of weights.
        terminated: Whether every layer has been decided.
        highest_cost: Of all assignments there are to choose from, 1 at least.
    """

    bitwidths: tuple[int, ...]
    accuracy: float
    full_precision_accuracy: float
    relative_accuracy: float
    loss_points: float
    max_loss_points: float
    cost: float
    state_of_quantization: float
    average_bitwidth: float
    weighted_bitwidth: float
    terminated: bool
    highest_cost: float = 1.0
