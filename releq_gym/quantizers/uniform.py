"""Uniform: a symmetric integer grid whose step is fitted to the weights and then kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from releq_gym.quantizers.base import (
    QUANTIZERS,
    SMALLEST_SCALE,
    Grid,
    Quantizer,
    check_bitwidth,
    largest_code,
    sign_codes,
    straight_through,
    symmetric_grid,
)
from releq_gym.quantizers.rounding import nearest_codes, round_to_grid, round_to_sign

LOOKUP_COST = 64
"""What finding one weight in a sorted row costs, in weights passed over."""

BLOCK = 2**17
"""Numbers that are worked on at a time, so that they stay in the cache."""

FINALISTS = 3
"""So many steps of the search are refined."""

REFINEMENTS = 3
"""So many alternations of codes and step do that; none raises the error."""

REMEMBERED = 512
"""Layers whose steps are remembered, mostly a few kilobytes each."""

_FITTED: dict[tuple[bytes, torch.Size, torch.device, float], list[Tensor]] = {}
"""Steps at 1, 2, ... bits by what they were fitted to, the last used one last."""


@QUANTIZERS.register("uniform")
@dataclass(frozen=True)
class Uniform(Quantizer):
    """``step * clip(round(w / step), -Q, Q)`` with ``Q = 2**(bitwidth - 1) - 1``.

    The step has the least squared error on the full-precision weights and stays fixed during
    retraining. The gradient passes inside the grid, ``|w| <= Q step``, and is zero outside. 1 bit
    is sign times ``step``, the mean of ``|w|``, which has the least squared error there.

    Attributes:
        per_channel: One step per output channel instead of one per layer.
        half: How far the levels lie from whole multiples of the step, see `largest_code`.
    """

    name: ClassVar[str] = "uniform"
    half: ClassVar[float] = 0.0
    per_channel: bool = False

    def init(self, weight: Tensor, bitwidth: int, axis: int = 0) -> dict[str, Tensor]:
        """The fitted ``step``: a scalar, or one per output channel, broadcastable to the weight."""
        return self.init_each(weight, (bitwidth,), axis)[bitwidth]

    def init_each(
        self, weight: Tensor, bitwidths: Iterable[int], axis: int = 0
    ) -> dict[int, dict[str, Tensor]]:
        """`init` at each of several bitwidths, for the work of the largest one."""
        chosen = tuple(bitwidths)
        for bitwidth in chosen:
            check_bitwidth(bitwidth)
        with torch.no_grad():
            weight = weight.detach().to(torch.float32)
            rows = weight.movedim(axis, 0).flatten(1) if self.per_channel else weight.reshape(1, -1)
            steps = _fitted(rows, max(chosen, default=1), self.half)
        channels = [-1 if dim == axis else 1 for dim in range(weight.dim())]
        shape = channels if self.per_channel else ()
        return {
            bitwidth: {"step": steps[bitwidth - 1].reshape(shape).clone()} for bitwidth in chosen
        }

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """See `grid_codes`."""
        return grid_codes(weight, state["step"], bitwidth, self.half)

    def quantize(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Tensor:
        """See `Quantizer.quantize`."""
        check_bitwidth(bitwidth)
        return quantize_to_grid(weight, state["step"], bitwidth, self.half)

    def grid(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Grid:
        """See `Quantizer.grid`."""
        return symmetric_grid(weight, state["step"], bitwidth, self.half)


def quantize_to_grid(
    weight: Tensor, step: Tensor, bitwidth: int, half: float = 0.0, step_gradient: float = 1.0
) -> Tensor:
    """The product of `grid_codes`, faster.

    Args:
        weight: Any shape.
        step: Positive; a scalar, or broadcastable to the weight.
        bitwidth: 1 to 8.
        half: See `largest_code`.
        step_gradient: Factor of the step's gradient.
    """
    if bitwidth == 1:
        return round_to_sign(weight, step, step_gradient)
    units, largest = weight.detach() / step.detach(), largest_code(bitwidth, half)
    return round_to_grid(weight, units, step, largest, step_gradient)


def grid_codes(
    weight: Tensor, step: Tensor, bitwidth: int, half: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Nearest codes on the symmetric grid and their scale; differentiable in both tensors.

    Codes are -1 and +1 at 1 bit, and odd, their scale half a step, where the levels lie half a
    step from its multiples.
    """
    if bitwidth == 1:
        return sign_codes(weight, step), step
    units, largest = weight / step, largest_code(bitwidth, half)
    codes = nearest_codes(units.detach(), largest)
    codes = straight_through(codes, units.clamp(-largest, largest))
    return (2 * codes, step / 2) if half else (codes, step)


def least_squares_step(rows: Tensor, bitwidth: int, half: float = 0.0) -> Tensor:
    """The step with the least squared error for each row of weights, as far as it is looked for.

    The error has many local minima in the step, so at each bitwidth it is computed, over all
    weights, for a range of steps and then for a finer one around the best. The grid of one bit
    less is part of the grid with the same step, so its step competes too: more bits never have
    more error. Rows of few different weights, most of them zero, may have a better step between
    those that are tried, at five bits or more, where the error is tiny.

    Args:
        rows: Weights, float32 ``[steps, weights per step]``.
        bitwidth: At least 1.
        half: See `largest_code`.

    Returns:
        Positive steps, float32 ``[steps]``; at 1 bit the scale.
    """
    return least_squares_steps(rows, bitwidth, half)[-1]


def least_squares_steps(rows: Tensor, bitwidth: int, half: float = 0.0) -> list[Tensor]:
    """`least_squares_step` at 1, 2, ... ``bitwidth`` bits, for the work of the last one."""
    # NumPy sorts much faster than torch.
    magnitudes = torch.from_numpy(np.sort(rows.detach().abs().cpu().numpy(), axis=1))
    step = magnitudes.mean(1, dtype=torch.float64).clamp_min(SMALLEST_SCALE)[:, None]
    sums = torch.nn.functional.pad(magnitudes.cumsum(1, dtype=torch.float64), (1, 0))
    exact = magnitudes.double()
    mean, widest = step, exact[:, -1:].clamp_min(SMALLEST_SCALE)
    found = [step]
    for bits in range(2, bitwidth + 1):
        largest = largest_code(bits, half)
        # With few weights the error is a comb of valleys, as narrow as the codes are many.
        count = min(max(2**14 // magnitudes.shape[1], 32), 8 * int(largest) + 32)
        exponents = torch.linspace(0, 1, count, dtype=torch.float64)
        steps = mean / largest * (2 * widest / mean) ** exponents
        best = _best(steps, _errors(magnitudes, sums, steps, largest))
        steps = best * torch.linspace(0.88, 1.12, int(largest) + 8, dtype=torch.float64)
        best = _best(steps, _errors(magnitudes, sums, steps, largest), FINALISTS)
        # Of 1 bit what was found is the scale, half a step where the levels are half a step away.
        fewer = found[-1] / (1 - half) if bits == 2 else found[-1]
        steps = torch.cat([fewer, best], 1)
        for _ in range(REFINEMENTS):
            steps, errors = _refit(exact, sums, steps, largest)
        found.append(_best(steps, errors))
    return [step[:, 0].to(rows) for step in found]


def _fitted(rows: Tensor, bitwidth: int, half: float) -> list[Tensor]:
    """`least_squares_steps`, remembered: a search quantizes the same weights again and again."""
    content = rows.cpu().contiguous().numpy()
    key = hashlib.blake2b(content.data, digest_size=16).digest(), rows.shape, rows.device, half
    steps = _FITTED.pop(key, [])
    if len(steps) < bitwidth:
        steps = least_squares_steps(rows, bitwidth, half)
    _FITTED[key] = steps  # the last that was used comes last
    while len(_FITTED) > REMEMBERED:
        _FITTED.pop(next(iter(_FITTED)), None)
    return steps


def _best(steps: Tensor, errors: Tensor, count: int = 1) -> Tensor:
    """Of the steps of each row those with the least error, ``[rows, count]``."""
    return steps.gather(1, errors.topk(count, 1, largest=False)[1])


def _errors(magnitudes: Tensor, sums: Tensor, steps: Tensor, largest: float) -> Tensor:
    """The squared error of each step, up to a constant for each row.

    Args:
        magnitudes: Of the weights, ascending, ``[rows, weights]``.
        sums: Of the first 0, 1, ... of them, float64 ``[rows, weights + 1]``.
        steps: Candidates, float64 ``[rows, candidates]``.
        largest: The largest code.
    """
    count = magnitudes.shape[1]
    if _looks_up(count, largest):
        product, energy = _sums(magnitudes, sums, steps, largest)
        return steps * (steps * energy - 2 * product)
    # What rounding leaves of each weight: large sums would hide it.
    divisors = steps.to(magnitudes.dtype)
    left = torch.empty_like(divisors)
    space = divisors.new_empty(2, 0)
    for rows, columns in _blocks(steps, count):
        some = divisors[rows, columns, None]
        size = some.numel() * count
        if size > space.shape[1]:
            space = divisors.new_empty(2, size)
        units, codes = space[:, :size].view(2, *some.shape[:2], count)
        torch.div(magnitudes[rows, None], some, out=units)
        nearest_codes(units, largest, out=codes)
        torch.sum(units.sub_(codes).square_(), 2, out=left[rows, columns])
    return steps.square() * left


def _refit(
    magnitudes: Tensor, sums: Tensor, steps: Tensor, largest: float
) -> tuple[Tensor, Tensor]:
    """The best steps for the codes that ``steps`` give, and their errors as in `_errors`."""
    product, energy = _sums(magnitudes, sums, steps, largest)
    # A row without any weight at a nonzero code (all zeros) keeps its step.
    fitted = torch.where(product > 0, product / energy.clamp_min(0.25), steps)
    return fitted, -fitted * product


def _sums(magnitudes: Tensor, sums: Tensor, steps: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """Of codes times weights, and of squared codes, over each row, for each of its steps."""
    product, energy = steps.new_empty(2, *steps.shape)
    count = magnitudes.shape[1]
    if not _looks_up(count, largest):
        for rows, columns in _blocks(steps, count):
            codes = magnitudes[rows, None] / steps[rows, columns, None].to(magnitudes.dtype)
            nearest_codes(codes, largest, out=codes)
            product[rows, columns] = (codes * magnitudes[rows, None]).sum(2)
            energy[rows, columns] = codes.square_().sum(2)
        return product, energy
    # Sums by codes, from the running sums at the weights where the codes change.
    half = largest % 1
    levels = torch.arange(1 + half, largest + 1, dtype=torch.float64)  # but for the lowest
    for rows, columns in _blocks(steps, len(levels)):
        # Steps side by side, so that one lookup ends near the next.
        thresholds = steps[rows, None, columns] * (levels[:, None] - 0.5)
        below = torch.searchsorted(magnitudes[rows], thresholds.flatten(1).to(magnitudes.dtype))
        above = sums[rows, -1:] - sums[rows].gather(1, below)
        product[rows, columns] = above.view(thresholds.shape).sum(1) + half * sums[rows, -1:]
        weights_above = (count - below).double().view(thresholds.shape)
        energy[rows, columns] = (2 * levels - 1) @ weights_above + half**2 * count
    return product, energy


def _looks_up(count: int, largest: float) -> bool:
    """Whether as many lookups as there are codes are cheaper than a pass over the weights."""
    return count > LOOKUP_COST * largest


def _blocks(steps: Tensor, size: int) -> Iterator[tuple[slice, slice]]:
    """Parts of ``steps`` whose work, ``size`` numbers for each step, stays in the cache."""
    width = min(max(BLOCK // size, 1), steps.shape[1])
    height = max(BLOCK // (size * width), 1)
    for row in range(0, len(steps), height):
        for column in range(0, steps.shape[1], width):
            yield slice(row, row + height), slice(column, column + width)
