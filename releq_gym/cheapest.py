"""The integer program behind searchers and known optima."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cheapest(
    costs: ArrayLike,
    losses: ArrayLike,
    max_loss: float,
    figures: ArrayLike = (),
    max_figures: ArrayLike = (),
) -> NDArray[np.intp] | None:
    """The choice of least cost whose losses sum up to ``max_loss`` at most, exactly.

    Args:
        costs: ``[steps, bitwidths]``.
        losses: Likewise, in whatever unit ``max_loss`` has.
        max_loss: The limit.
        figures: Further sums that are limited, ``[figures, steps, bitwidths]``.
        max_figures: Their limits, ``[figures]``.

    Returns:
        The position of the bitwidth for each step, or None where no choice is within the limits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    costs = np.asarray(costs, dtype=np.float64)
    count = costs.size
    one_each = coo_array((np.ones(count), (np.arange(count) // costs.shape[1], np.arange(count))))
    sums = np.vstack([np.reshape(losses, (1, count)), np.reshape(figures, (-1, count))])
    limits = np.append(max_loss, max_figures)
    # In units of the limit, the solver's tolerance means the same for every sum.
    units = np.where(limits > 0, limits, 1.0)
    with _without_stray_line():
        solved = milp(
            costs.ravel() / max(np.abs(costs).max(), np.finfo(np.float64).tiny),
            integrality=np.ones(count),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint(sums / units[:, None], -np.inf, limits / units),
            ],
            options={"mip_rel_gap": 0.0},
        )
    return None if solved.x is None else solved.x.reshape(costs.shape).argmax(axis=1)


@contextlib.contextmanager
def _without_stray_line() -> Iterator[None]:
    """HiGHS 1.12, which SciPy 1.17 contains, prints a left-over line past Python's stdout."""
    try:
        kept = os.dup(1)
    except OSError:  # there is no stdout
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
