"""Which of the measured repeats an environment sees: a small named integer hash."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = 2**64 - 1


def splitmix64(value: int) -> int:
    """Steele, Lea and Flood's SplitMix64 finaliser, on the integers modulo 2**64."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def first_repeat(key: int, index: int, repeats: int) -> int:
    """The repeat that an environment sees first of an assignment.

    Later visits go on from there, round robin. Repeats are exchangeable, so a rotation from a
    random start gives any one environment the same evidence as a random order would.

    Args:
        key: `splitmix64` of the environment's seed.
        index: Mixed-radix number of the assignment.
        repeats: How many there are.
    """
    return splitmix64(key ^ index) % repeats


def first_repeats(
    keys: NDArray[np.uint64], indices: NDArray[np.uint64], repeats: int
) -> NDArray[np.intp]:
    """`first_repeat` of many environments, each with its own assignment."""
    # As `splitmix64`, but that the integers of an array wrap around by themselves.
    value = keys ^ indices
    value += np.uint64(0x9E3779B97F4A7C15)
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    # The remainder, which numpy is slow at.
    value -= value // np.uint64(repeats) * np.uint64(repeats)
    return value.astype(np.intp)
