"""Whether something is a number, numpy's among them; a bool is none."""

from __future__ import annotations

from numbers import Integral, Real


def is_whole(value: object) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is a real number, infinity and NaN included."""
    return isinstance(value, Real) and not isinstance(value, bool)
