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


def first_repeat(seed: int, index: int, repeats: int) -> int:
    """The repeat that an environment with this seed sees first of an assignment.

    Later visits go on from there, round robin. Repeats are exchangeable, so a rotation from a
    random start gives any one environment the same evidence as a random order would.

    Args:
        seed: The environment's.
        index: Mixed-radix number of the assignment.
        repeats: How many there are.
    """
    return splitmix64(splitmix64(seed & _MASK) ^ index) % repeats


def first_repeats(
    seeds: NDArray[np.uint64], indices: NDArray[np.uint64], repeats: int
) -> NDArray[np.intp]:
    """`first_repeat` of many environments, each with its own assignment."""
    start = _splitmix64_array(_splitmix64_array(seeds) ^ indices)
    return (start % np.uint64(repeats)).astype(np.intp)


def _splitmix64_array(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`splitmix64` on arrays, whose integers wrap around by themselves."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
