"""Whether something is a number, numpy's among them; a bool is none. And numpy's as JSON."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np


def is_whole(value: object) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is a real number, infinity and NaN included."""
    return isinstance(value, Real) and not isinstance(value, bool)


def as_json(value: object) -> Any:
    """The ``default`` of `json.dumps` that takes numpy's numbers and arrays, too.

    Raises:
        TypeError: For anything else.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON.")
