"""The paper's state of quantization as a cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from releq_gym.costs import COSTS, Figures, per_bit
from releq_gym.layers import Layer

MEMORY_TO_MAC_ENERGY = 120
"""Energy of fetching a weight over that of one multiply-accumulate."""


def layer_importance(layer: Layer) -> int:
    """``weights * E_mem/E_mac + MACs``: what one bit of this layer weighs in the paper."""
    return layer.weights * MEMORY_TO_MAC_ENERGY + layer.macs


@COSTS.register("quantization_state")
@dataclass(frozen=True)
class QuantizationState:
    """The default: memory accesses and multiply-accumulates, proportional to bits.

    What it counts: ``(weights * 120 + MACs) * bitwidth``, one weight access worth 120 MACs.
    Units: MAC energies times bits (``mac_bits``).
    What it leaves out: activations, partial sums, biases, scales, whatever a device does worse
        than in proportion to bits.
    Source: ReLeQ, arXiv 1811.01704, the state of quantization.
    """

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        return {"mac_bits": per_bit([layer_importance(layer) for layer in layers], bitwidths)}
