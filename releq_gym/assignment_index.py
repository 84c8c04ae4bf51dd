"""Where an assignment stands among all of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import NDArray


class AssignmentIndex:
    """Mixed radix, first layer most significant, modulo 2**64.

    Args:
        bitwidths: The choice per layer, ascending; its first is digit 0.
        layers: How many there are.

    Attributes:
        count: How many assignments there are.
    """

    def __init__(self, bitwidths: Sequence[int], layers: int):
        self.count = len(bitwidths) ** layers
        radix = [pow(len(bitwidths), power, 2**64) for power in reversed(range(layers))]
        # Indexed by bitwidth.
        self._values = np.zeros((layers, max(bitwidths) + 1), dtype=np.uint64)
        self._values[:, list(bitwidths)] = np.outer(
            np.array(radix, dtype=np.uint64), np.arange(len(bitwidths), dtype=np.uint64)
        )
        known = [int(bitwidth) for bitwidth in bitwidths]
        self._plain = [{b: row[b] for b in known} for row in self._values.tolist()]

    def __call__(self, bitwidths: Sequence[int] | NDArray) -> Any:
        """The index of one assignment, an int; of many ``[assignments, layers]``, uint64.

        Raises:
            ValueError: For one assignment with another number of layers or another bitwidth; many
                are not checked.
        """
        if isinstance(bitwidths, np.ndarray):
            if bitwidths.ndim == 2:
                # Layer by layer: few long operations.
                return sum(map(np.take, self._values, bitwidths.T))
            bitwidths = bitwidths.tolist()
        try:
            values: Any = map(getitem, self._plain, bitwidths)
            if len(bitwidths) == len(self._plain):
                return sum(values) % 2**64
        except KeyError:
            pass
        raise ValueError(
            f"{' '.join(map(str, bitwidths))} is no assignment: it takes {len(self._plain)} of the "
            f"bitwidths {' '.join(map(str, self._plain[0]))}, one per layer."
        )
