"""An accelerator that takes its weights bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from releq_gym.costs import COSTS, Figures
from releq_gym.costs.accelerator import StripesArray
from releq_gym.layers import Layer


@COSTS.register("weight_serial")
@dataclass(frozen=True)
class WeightSerial(StripesArray):
    """A cycle per bit of a weight: what the ReLeQ evaluation calls Stripes.

    What it counts: cycles of an array that multiplies whole activations with one bit of the weights
        at a time, layers that do not fill it included, or those of fetching the weights where
        they take longer; energy of multiplying, of the buffer and of the weights' memory.
    Units: ``cycles``, ``milliseconds``, ``microjoules``, of one image.
    What it leaves out: layers that are not quantized, leakage, control, DRAM: all weights lie on
        the chip, as in DaDianNao and Stripes. The published Stripes takes *activations* bit by
        bit (`stripes`).
    Source: the shape of Stripes' array (Judd et al., MICRO 2016: 16 tiles of 16 filters, 16 inputs,
        16 positions) with the roles of weights and activations exchanged, as arXiv 1811.01704,
        section 6, needs it; energies from Horowitz, ISSCC 2014. The clock is a round number of
        that order; the bandwidth feeds 16-bit weights to every multiplier in each cycle.

    Attributes:
        activation_bitwidth: See `Array`, as for all others.
    """

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        bits = np.asarray(bitwidths, dtype=np.float64)
        return self.figures(
            layers,
            cycles=bits,
            stored_bits=bits,
            mac_share=bits / 8 * self.activation_bitwidth / 8,
        )
