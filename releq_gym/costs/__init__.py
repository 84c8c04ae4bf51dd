"""Cost models: what an assignment costs. One frozen dataclass per file, or several of a kind.

A cost model is called with the layers and the bitwidths of interest (1 to 8, whatever is chosen
from) and returns named physical figures, each a float64 array ``[layers, bitwidths]``, NaN where
it knows none; the total of an assignment is a sum over its layers. The first figure is the
headline: divided by its total at 8 bits it is ``cost``.

A model whose parameters can follow what is measured, such as the bitwidth of activations, has a
method ``of(evaluator)`` that returns it with those filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.layers import Layer
from releq_gym.registry import Registry

Figures = Mapping[str, NDArray[np.float64]]
CostModel = Callable[[Sequence[Layer], Sequence[int]], Figures]

COSTS: Registry[Callable[..., CostModel]] = Registry("cost", "releq_gym.costs")


def make_cost(name: str | CostModel, /, **kwargs: Any) -> CostModel:
    """The cost model called ``name`` with its parameters; a callable is returned as it is.

    Raises:
        ValueError: See `Registry.make`.
    """
    if isinstance(name, str) and (":" in name or Path(name).suffix in (".csv", ".json")):
        raise ValueError(
            f"The cost {name!r} is no name of one. A table in a file is cost='lookup', "
            f"cost_kwargs={{'path': {name!r}}}; a function of yours is passed itself from Python, "
            "named package.module:function on the command line."
        )
    return COSTS.make(name, **kwargs)


def per_bit(weights: Sequence[float], bitwidths: Sequence[int]) -> NDArray[np.float64]:
    """``weight * bitwidth`` for every layer and bitwidth, ``[layers, bitwidths]``."""
    return np.multiply.outer(
        np.asarray(weights, dtype=np.float64), np.asarray(bitwidths, dtype=np.float64)
    )
