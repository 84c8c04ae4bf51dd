"""The integer program behind searchers and known optima."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cheapest(
    costs: ArrayLike,
    losses: ArrayLike,
    max_loss: float,
    figures: ArrayLike = (),
    max_figures: ArrayLike = (),
    interactions: Mapping[tuple[int, int], ArrayLike] | None = None,
) -> NDArray[np.intp] | None:
    """The choice of least cost whose losses sum up to ``max_loss`` at most, exactly.

    Args:
        costs: ``[steps, bitwidths]``.
        losses: Likewise, in whatever unit ``max_loss`` has.
        max_loss: The limit.
        figures: Further sums that are limited, ``[figures, steps, bitwidths]``.
        max_figures: Their limits, ``[figures]``.
        interactions: What two steps lose together beside their own losses, by their positions,
            ``[bitwidths of the one, bitwidths of the other]``.

    Returns:
        The position of the bitwidth for each step, or None where no choice is within the limits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    costs = np.asarray(costs, dtype=np.float64)
    steps, options = costs.shape
    count, interactions = costs.size, interactions or {}
    every = count + len(interactions) * options**2  # and one variable per product
    one_each = coo_array(
        (np.ones(count), (np.arange(count) // options, np.arange(count))), shape=(steps, every)
    )
    sums = np.vstack([np.reshape(losses, (1, count)), np.reshape(figures, (-1, count))])
    sums = np.pad(sums, ((0, 0), (0, every - count)))
    limits = np.append(max_loss, max_figures)
    # In units of the limit, the solver's tolerance means the same for every sum.
    units = np.where(limits > 0, limits, 1.0)
    constraints = [LinearConstraint(one_each, 1, 1)]
    if interactions:
        sums[0, count:] = np.ravel(list(interactions.values()))
        constraints.append(LinearConstraint(_products(steps, options, list(interactions)), 0, 0))
    constraints.append(LinearConstraint(sums / units[:, None], -np.inf, limits / units))
    with _without_stray_line():
        solved = milp(
            np.append(
                costs / max(np.abs(costs).max(), np.finfo(np.float64).tiny), np.zeros(every - count)
            ),
            integrality=np.arange(every) < count,
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )
    return None if solved.x is None else solved.x[:count].reshape(costs.shape).argmax(axis=1)


def _products(steps: int, options: int, pairs: Sequence[tuple[int, int]]) -> Any:
    """Rows that are 0 where further variables are the products of both steps' choices.

    Summed over the choices of one step, products are the choices of the other (Adams and Sherali,
    1986), which binds them more tightly than a bound by each factor.
    """
    from scipy.sparse import hstack, kron

    each, summed = np.eye(options), np.ones((1, options))
    sides = np.vstack([np.kron(each, summed), np.kron(summed, each)])
    chosen = kron(np.eye(steps)[np.ravel(pairs)], each)
    return hstack([-chosen, kron(np.eye(len(pairs)), sides)])


_STDOUT = threading.Lock()


@contextlib.contextmanager
def _without_stray_line() -> Iterator[None]:
    """HiGHS 1.12, which SciPy 1.17 contains, prints a left-over line past Python's stdout.

    One thread at a time: two that put stdout back out of order would lose it.
    """
    with _STDOUT:
        yield from _redirected()


def _redirected() -> Iterator[None]:
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
