"""Stripes as published: an accelerator that takes its activations bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from releq_gym.costs import COSTS, Figures
from releq_gym.costs.accelerator import StripesArray
from releq_gym.layers import Layer


@COSTS.register("stripes")
@dataclass(frozen=True)
class Stripes(StripesArray):
    """A cycle per bit of an activation; weights are multiplied whole.

    Fewer bits per weight save memory traffic alone, so the headline is the energy.

    What it counts: energy of multiplying, of the buffer and of the weights' memory; cycles of an
        array that multiplies whole weights with one bit of the activations at a time, layers that
        do not fill it included, or those of fetching the weights where they take longer.
    Units: ``microjoules``, ``cycles``, ``milliseconds``, of one image.
    What it leaves out: layers that are not quantized, leakage, control, DRAM: all weights lie on
        the chip.
    Source: Judd et al., "Stripes: bit-serial deep neural network computing", MICRO 2016 (16 tiles
        of 16 filters, 16 inputs, 16 positions, multipliers as wide as 16-bit weights); energies
        from Horowitz, ISSCC 2014. The clock is a round number of that order.

    Attributes:
        activation_bitwidth: See `Array`, as for all others.
    """

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        serial = np.full(len(bitwidths), float(self.activation_bitwidth))
        found = self.figures(
            layers,
            cycles=serial,
            stored_bits=np.asarray(bitwidths, dtype=np.float64),
            mac_share=2 * serial / 8,  # the multipliers are 16 bits wide, whatever the weights are
        )
        return {name: found[name] for name in ("microjoules", "cycles", "milliseconds")}
