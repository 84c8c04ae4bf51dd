"""Bit Fusion: multipliers composed of 2-bit bricks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from releq_gym.costs import COSTS, Figures
from releq_gym.costs.accelerator import Array
from releq_gym.layers import Layer

BRICKS = (2, 4, 8)
"""Bits that operands have after they were filled up to whole bricks."""


@COSTS.register("bit_fusion")
@dataclass(frozen=True)
class BitFusion(Array):
    """A systolic array of units of 16 two-bit bricks each, fused to fit the operands.

    A unit multiplies one pair of 8-bit operands, or four pairs with 2-bit weights, and so on. A
    bitwidth that no brick ends at costs as the next one: 3 as 4; 5, 6 and 7 as 8; 1 as 2.

    What it counts: cycles of the array, layers that do not fill it included, or those of fetching
        the weights from DRAM where they take longer; energy of multiplying, of the buffer and of
        DRAM.
    Units: ``cycles``, ``milliseconds``, ``microjoules``, of one image.
    What it leaves out: layers that are not quantized, leakage, control, the array's filling and
        draining; activations are taken to fit on the chip.
    Source: Sharma et al., "Bit Fusion", ISCA 2018, arXiv 1712.01507; its 512 units, here as 16
        inputs x 32 filters, at 500 MHz; energies from Horowitz, ISSCC 2014, a brick taking a
        sixteenth of an 8-bit multiplication. The bandwidth is a round number.

    Attributes:
        activation_bitwidth: 2, 4 or 8; see `Array` for the others.
    """

    filters: int = 32
    inputs: int = 16
    megahertz: float = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation_bitwidth not in BRICKS:
            raise ValueError(
                f"activation_bitwidth={self.activation_bitwidth}; Bit Fusion multiplies activations"
                " of 2, 4 or 8 bits."
            )

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``."""
        filled = np.array([min(brick for brick in BRICKS if brick >= b) for b in bitwidths])
        bricks = filled / 2 * self.activation_bitwidth / 2
        return self.figures(
            layers,
            cycles=np.ones(len(filled)),
            stored_bits=filled,
            mac_share=bricks / 16,
            wider=16 / bricks,
        )
