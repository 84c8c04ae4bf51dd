"""Uniform: a symmetric integer grid whose step is fitted to the weights and then kept."""

from __future__ import annotations

from collections.abc import Iterable
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
    round_through,
    sign_codes,
    symmetric_grid,
)
from releq_gym.quantizers.rounding import round_to_grid, round_to_sign

LOOKUP_COST = 64
"""What finding one weight in a sorted row costs, in weights passed over."""

BLOCK = 2**17
"""Numbers that are worked on at a time, so that they stay in the cache."""

REFINEMENTS = 4
"""So many alternations of codes and step follow the search; none raises the error."""


@QUANTIZERS.register("uniform")
@dataclass(frozen=True)
class Uniform(Quantizer):
    """``step * clip(round(w / step), -Q, Q)`` with ``Q = 2**(bitwidth - 1) - 1``.

    The step has the least squared error on the full-precision weights and stays fixed during
    retraining. The gradient passes inside the grid, ``|w| <= Q step``, and is zero outside. 1 bit
    is sign times ``step``, the mean of ``|w|``, which has the least squared error there.

    Attributes:
        per_channel: One step per output channel instead of one per layer.
    """

    name: ClassVar[str] = "uniform"
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
            steps = least_squares_steps(rows, max(chosen, default=1))
        shape = [-1 if dim == axis else 1 for dim in range(weight.dim())]
        return {
            bitwidth: {"step": steps[bitwidth - 1].reshape(shape if self.per_channel else ())}
            for bitwidth in chosen
        }

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """Codes in [-Q, Q] and the step."""
        return grid_codes(weight, state["step"], bitwidth), state["step"]

    def quantize(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Tensor:
        """See `Quantizer.quantize`."""
        check_bitwidth(bitwidth)
        return quantize_to_grid(weight, state["step"], bitwidth)

    def grid(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Grid:
        """See `Quantizer.grid`."""
        return symmetric_grid(weight, state["step"], bitwidth)


def quantize_to_grid(
    weight: Tensor, step: Tensor, bitwidth: int, step_gradient: float = 1.0
) -> Tensor:
    """``grid_codes(weight, step, bitwidth) * step``, faster.

    Args:
        weight: Any shape.
        step: Positive; a scalar, or broadcastable to the weight.
        bitwidth: 1 to 8.
        step_gradient: Factor of the step's gradient.
    """
    if bitwidth == 1:
        return round_to_sign(weight, step, step_gradient)
    largest = 2 ** (bitwidth - 1) - 1
    return round_to_grid(weight, weight.detach() / step.detach(), step, largest, step_gradient)


def grid_codes(weight: Tensor, step: Tensor, bitwidth: int) -> Tensor:
    """Nearest codes on the symmetric grid; -1 and +1 at 1 bit. Differentiable in both tensors."""
    if bitwidth == 1:
        return sign_codes(weight, step)
    largest = 2 ** (bitwidth - 1) - 1
    return round_through((weight / step).clamp(-largest, largest))


def least_squares_step(rows: Tensor, bitwidth: int) -> Tensor:
    """The step with the least squared error for each row of weights.

    The error has many local minima in the step, so at each bitwidth it is computed, over all
    weights, for a range of steps and then for a finer one around the best. The grid of one bit
    less is part of the grid with the same step, so its step competes too: more bits never have
    more error.

    Args:
        rows: Weights, float32 ``[steps, weights per step]``.
        bitwidth: At least 1.

    Returns:
        Positive steps, float32 ``[steps]``.
    """
    return least_squares_steps(rows, bitwidth)[-1]


def least_squares_steps(rows: Tensor, bitwidth: int) -> list[Tensor]:
    """`least_squares_step` at 1, 2, ... ``bitwidth`` bits, for the work of the last one."""
    # NumPy sorts much faster than torch.
    magnitudes = torch.from_numpy(np.sort(rows.detach().abs().cpu().numpy(), axis=1))
    step = magnitudes.mean(1, dtype=torch.float64).clamp_min(SMALLEST_SCALE)[:, None]
    sums = torch.nn.functional.pad(magnitudes.cumsum(1, dtype=torch.float64), (1, 0))
    exact = magnitudes.double()
    mean, widest = step, exact[:, -1:].clamp_min(SMALLEST_SCALE)
    found = [step]
    for bits in range(2, bitwidth + 1):
        largest = 2 ** (bits - 1) - 1
        # With few weights the error is a comb of valleys, as narrow as the codes are many.
        count = min(max(2**14 // magnitudes.shape[1], 32), 8 * largest + 32)
        exponents = torch.linspace(0, 1, count, dtype=torch.float64)
        steps = mean / largest * (2 * widest / mean) ** exponents
        best = _best(*_refit(magnitudes, sums, steps, largest))
        around = torch.linspace(0.88, 1.12, largest + 8, dtype=torch.float64)
        best = _best(*_refit(magnitudes, sums, best * around, largest))
        steps = torch.cat([found[-1], best], 1)
        for _ in range(REFINEMENTS):
            steps, error = _refit(exact, sums, steps, largest)
        found.append(_best(steps, error))
    return [step[:, 0].to(rows) for step in found]


def _best(steps: Tensor, error: Tensor) -> Tensor:
    """Of the steps of each row the one with the least error, ``[rows, 1]``."""
    return steps.gather(1, error.argmin(1, keepdim=True))


def _refit(magnitudes: Tensor, sums: Tensor, steps: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """The best steps for the codes that ``steps`` give, and their error less ``sum w^2``.

    Args:
        magnitudes: Of the weights, ascending, ``[rows, weights]``.
        sums: Of the first 0, 1, ... of them, float64 ``[rows, weights + 1]``.
        steps: Candidates, float64 ``[rows, candidates]``.
        largest: The largest code.
    """
    # A sum by codes is Q lookups in the running sums instead of a pass over the weights.
    looking_up = magnitudes.shape[1] > LOOKUP_COST * largest
    size = largest if looking_up else magnitudes.shape[1]
    columns = min(max(BLOCK // size, 1), steps.shape[1])
    rows = min(max(BLOCK // (size * columns), 1), len(steps))
    space = magnitudes.new_empty(rows * columns * size)
    products, energies = [], []
    for of_rows in zip(magnitudes.split(rows), sums.split(rows), steps.split(rows), strict=True):
        weights, running, candidates = of_rows
        parts = [
            _look_up(weights, running, block, largest)
            if looking_up
            else _pass_over(weights, block, largest, space)
            for block in candidates.split(columns, 1)
        ]
        products.append(torch.cat([product for product, _ in parts], 1))
        energies.append(torch.cat([energy for _, energy in parts], 1))
    product, energy = torch.cat(products).double(), torch.cat(energies).double()
    # A row without any nonzero code (all zeros) keeps its step.
    fitted = torch.where(energy > 0, product / energy.clamp_min(1), steps)
    return fitted, -fitted * product


def _look_up(
    magnitudes: Tensor, sums: Tensor, steps: Tensor, largest: int
) -> tuple[Tensor, Tensor]:
    """Sums of codes times weights and of squared codes, from where the codes change."""
    codes = torch.arange(1, largest + 1, dtype=torch.float64)
    # Steps side by side, so that one lookup ends near the next.
    thresholds = (steps[:, None] * (codes[:, None] - 0.5)).to(magnitudes.dtype)
    below = torch.searchsorted(magnitudes, thresholds.flatten(1))
    above = (sums[:, -1:] - sums.gather(1, below)).view(thresholds.shape)
    count = (magnitudes.shape[1] - below).double().view(thresholds.shape)
    return above.sum(1), (2 * codes - 1) @ count


def _pass_over(
    magnitudes: Tensor, steps: Tensor, largest: int, space: Tensor
) -> tuple[Tensor, Tensor]:
    """The same sums from all weights; ``space`` is for the codes of all candidates."""
    count = magnitudes.shape[1]
    codes = space[: steps.numel() * count].view(*steps.shape, count)
    torch.div(magnitudes[:, None], steps.to(magnitudes.dtype)[:, :, None], out=codes)
    codes.round_().clamp_(max=largest)
    product = (magnitudes[:, None] @ codes.transpose(1, 2)).squeeze(1)
    return product, codes.square_().sum(2)
