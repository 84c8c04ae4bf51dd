"""Costs that count bits: plain, weighted by parameters, packed bytes, bit operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from releq_gym.costs import COSTS, Figures, per_bit
from releq_gym.layers import FULL_PRECISION, Layer
from releq_gym.plain_numbers import is_real

if TYPE_CHECKING:
    from releq_gym.evaluators.base import Evaluator


@COSTS.register("average_bitwidth")
@dataclass(frozen=True)
class AverageBitwidth:
    """Every layer counts the same.

    What it counts: bits, averaged over the layers.
    Units: bits per layer (``bits_per_layer``).
    What it leaves out: that layers differ in size by orders of magnitude.
    Source: the averages of ReLeQ's table, arXiv 1811.01704; its released code's reward.
    """

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        return {"bits_per_layer": per_bit([1.0 / len(layers)] * len(layers), bitwidths)}


@COSTS.register("weighted_bitwidth")
@dataclass(frozen=True)
class WeightedBitwidth:
    """Every weight counts the same.

    What it counts: bits, averaged over the weights of all quantized layers.
    Units: bits per weight (``bits_per_weight``).
    What it leaves out: computation; scales and biases.
    Source: the usual "average bits" of the mixed-precision literature.
    """

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        total = sum(layer.weights for layer in layers)
        return {"bits_per_weight": per_bit([layer.weights / total for layer in layers], bitwidths)}


@COSTS.register("model_size")
@dataclass(frozen=True)
class ModelSize:
    """What the quantized layers take in memory.

    What it counts: the weights of each layer packed without gaps and rounded up to whole bytes,
        plus its scales.
    Units: bytes.
    What it leaves out: biases, batch norm and layers that are not quantized, the same for every
        assignment; file headers.
    Source: counting.

    Attributes:
        scale_bytes: Bytes per scale; 4 for float32.
        scales_per_channel: One scale per output channel instead of one per layer; None means as
            the evaluator quantizes, else one per layer.
    """

    scale_bytes: float = 4
    scales_per_channel: bool | None = None

    def __post_init__(self) -> None:
        if not is_real(self.scale_bytes) or not 0 <= self.scale_bytes < math.inf:
            raise ValueError(f"scale_bytes={self.scale_bytes!r} must be a number, 0 or more.")
        if not isinstance(self.scales_per_channel, bool | None):
            raise ValueError(
                f"scales_per_channel={self.scales_per_channel!r} must be True, False or None."
            )

    def of(self, evaluator: Evaluator) -> ModelSize:
        """As that quantizes, where it was not said."""
        if self.scales_per_channel is not None:
            return self
        return replace(self, scales_per_channel=getattr(evaluator, "per_channel", False))

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        packed = np.ceil(per_bit([layer.weights for layer in layers], bitwidths) / 8)
        scales = [layer.output_dim if self.scales_per_channel else 1 for layer in layers]
        return {"bytes": packed + self.scale_bytes * np.asarray(scales, dtype=np.float64)[:, None]}


@COSTS.register("bit_operations")
@dataclass(frozen=True)
class BitOperations:
    """Multiply-accumulates weighted by the bits of both operands ("BOPs").

    What it counts: ``MACs * weight bitwidth * activation_bitwidth``.
    Units: bit operations per image (``bit_operations``).
    What it leaves out: memory; accumulator width.
    Source: Baskin et al., "UNIQ", arXiv 1804.10969, without its accumulator term.

    Attributes:
        activation_bitwidth: Bits of every activation; None means those of the evaluator, else 32.
    """

    activation_bitwidth: float | None = None

    def __post_init__(self) -> None:
        bits = self.activation_bitwidth
        if bits is not None and not (is_real(bits) and 0 < bits < math.inf):
            raise ValueError(f"activation_bitwidth={bits!r} must be a number above 0.")

    def of(self, evaluator: Evaluator) -> BitOperations:
        """With its activations, where none were stated."""
        if self.activation_bitwidth is not None:
            return self
        bits = getattr(evaluator, "activation_bitwidth", FULL_PRECISION)
        return replace(self, activation_bitwidth=bits)

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        activation = self.activation_bitwidth or FULL_PRECISION
        macs = [layer.macs * activation for layer in layers]
        return {"bit_operations": per_bit(macs, bitwidths)}
