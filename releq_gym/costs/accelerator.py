"""What arrays of multipliers have in common: how layers fill them, what they fetch, the energy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_gym.costs import Figures
from releq_gym.layers import Layer
from releq_gym.plain_numbers import is_real

MAC_PICOJOULES = 0.3
"""An 8-bit product (0.2) and its addition to 32 bits (0.1) at 45 nm: Horowitz, "Computing's energy
problem", ISSCC 2014."""

BUFFER_PICOJOULES_PER_BIT = 20 / 64
"""Of a 32 KB SRAM, from there."""

CHIP_PICOJOULES_PER_BIT = 100 / 64
"""Of a 1 MB SRAM, from there."""

DRAM_PICOJOULES_PER_BIT = 1_300 / 64
"""From there, the lower end of its range."""


@dataclass(frozen=True)
class Array:
    """An array of tiles; at a time, each multiplies some inputs with some filters.

    All tiles work on the same outputs' positions. Tiles that work on one group of channels share
    its inputs; a tile never works on two groups. Where a layer does not fill the array, the rest
    idles. The weights of a layer are fetched from their memory once per image, while the layer is
    computed, tile by tile; a layer takes what takes longer, computing or that. Activations stay in
    a buffer beside the array.

    Attributes:
        activation_bitwidth: Bits of every activation.
        tiles: Of the array.
        filters: Output channels that a tile works on at a time.
        inputs: Products of each of them that are summed up at a time.
        positions: Output positions at a time.
        weight_bits_per_cycle: Bandwidth of the memory that holds the weights.
        weight_picojoules_per_bit: Energy of a bit from there.
        megahertz: Clock.
    """

    activation_bitwidth: int = 8
    tiles: int = 1
    filters: int = 1
    inputs: int = 1
    positions: int = 1
    weight_bits_per_cycle: float = 256
    weight_picojoules_per_bit: float = DRAM_PICOJOULES_PER_BIT
    megahertz: float = 1_000

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not (is_real(value) and 0 < value < math.inf):
                raise ValueError(f"{name}={value!r} must be a number above 0.")

    def figures(
        self,
        layers: Sequence[Layer],
        *,
        cycles: ArrayLike,
        stored_bits: ArrayLike,
        mac_share: ArrayLike,
        wider: ArrayLike = 1,
    ) -> Figures:
        """Cycles, milliseconds and microjoules of one image, each ``[layers, bitwidths]``.

        Args:
            layers: The layers.
            cycles: That the array takes for one filling, per bitwidth.
            stored_bits: Of a weight, per bitwidth.
            mac_share: Energy of a multiply-accumulate over that of one with 8 x 8 bits, per
                bitwidth.
            wider: By how much more inputs are summed up at a time, per bitwidth.
        """
        of = _Columns(layers)
        rounds = np.ceil(of.groups * np.ceil(of.filters / self.filters) / self.tiles)
        moves = np.ceil(of.positions / self.positions)
        fillings = rounds * moves * np.ceil(of.inputs / (self.inputs * np.asarray(wider)))
        stored = of.weights * np.asarray(stored_bits)
        activations = of.positions * (self._sets(of) * of.inputs + of.groups * of.filters)
        taken = np.maximum(fillings * cycles, np.ceil(stored / self.weight_bits_per_cycle))
        picojoules = (
            of.macs * np.asarray(mac_share) * MAC_PICOJOULES
            + (activations * self.activation_bitwidth + stored * moves) * BUFFER_PICOJOULES_PER_BIT
            + stored * self.weight_picojoules_per_bit
        )
        return {
            "cycles": taken,
            "milliseconds": taken / (self.megahertz * 1e3),
            "microjoules": picojoules / 1e6,
        }

    def _sets(self, of: _Columns) -> NDArray[np.float64]:
        """Sets of inputs that are read for an output: a group's in every round it is worked on."""
        counts = []
        for groups, filters in zip(of.groups.flat, of.filters.flat, strict=True):
            tiles = np.ceil(filters / self.filters)  # that one group takes, in one round or several
            first = np.arange(groups) * tiles
            rounds = (first + tiles - 1) // self.tiles - first // self.tiles + 1
            counts.append([rounds.sum()])
        return np.array(counts)


@dataclass(frozen=True)
class StripesArray(Array):
    """That of Stripes: as many weights per cycle as there are multipliers, all kept on the chip.

    Source: Judd et al., "Stripes: bit-serial deep neural network computing", MICRO 2016.
    """

    tiles: int = 16
    filters: int = 16
    inputs: int = 16
    positions: int = 16
    weight_bits_per_cycle: float = 16 * 16 * 16 * 16
    weight_picojoules_per_bit: float = CHIP_PICOJOULES_PER_BIT


class _Columns:
    """Numbers of the layers, each ``[layers, 1]``, to be spread over bitwidths."""

    def __init__(self, layers: Sequence[Layer]):
        def column(values: list[float]) -> NDArray[np.float64]:
            return np.array(values, dtype=np.float64)[:, None]

        self.weights = column([layer.weights for layer in layers])
        self.macs = column([layer.macs for layer in layers])
        self.groups = column([layer.channel_groups for layer in layers])
        self.filters = column([layer.output_dim / layer.channel_groups for layer in layers])
        self.positions = column([layer.output_positions for layer in layers])
        # Products that are summed up into one output.
        self.inputs = self.macs / (self.groups * self.filters * self.positions)
