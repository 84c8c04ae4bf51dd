"""Uniform: a symmetric integer grid whose step is fitted to the weights and then kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from releq_gym.quantizers.base import (
    QUANTIZERS,
    SMALLEST_SCALE,
    Quantizer,
    check_bitwidth,
    round_through,
    sign_codes,
)

SEARCH_SAMPLE = 2**14
"""Weights that the search for a step looks at (2**11 per step where there are many steps)."""

REFINEMENTS = 10
"""At most so many alternations of codes and step, over all weights; each lowers the error."""


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
        check_bitwidth(bitwidth)
        with torch.no_grad():
            weight = weight.detach().to(torch.float32)
            rows = weight.movedim(axis, 0).flatten(1) if self.per_channel else weight.reshape(1, -1)
            steps = least_squares_step(rows, bitwidth)
        if not self.per_channel:
            return {"step": steps.reshape(())}
        shape = [-1 if dim == axis else 1 for dim in range(weight.dim())]
        return {"step": steps.reshape(shape)}

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """Codes in [-Q, Q] and the step."""
        return grid_codes(weight, state["step"], bitwidth), state["step"]


def grid_codes(weight: Tensor, step: Tensor, bitwidth: int) -> Tensor:
    """Nearest codes on the symmetric grid; -1 and +1 at 1 bit. Differentiable in both tensors."""
    if bitwidth == 1:
        return sign_codes(weight, step)
    largest = 2 ** (bitwidth - 1) - 1
    return round_through((weight / step).clamp(-largest, largest))


def least_squares_step(rows: Tensor, bitwidth: int) -> Tensor:
    """The step with the least squared error for each row of weights.

    The error has many local minima in the step. Candidates from a fiftieth of the largest
    magnitude to all of it, then a finer set around the best, find the valley; alternating between
    nearest codes and the step that fits them best, both exact, walks to its floor.

    Args:
        rows: Weights, float32 ``[steps, weights per step]``.
        bitwidth: 1 to 8.

    Returns:
        Positive steps, float32 ``[steps]``.
    """
    magnitudes = rows.abs()
    if bitwidth == 1:
        return magnitudes.mean(1).clamp_min(SMALLEST_SCALE)
    largest = 2 ** (bitwidth - 1) - 1
    sample_size = max(SEARCH_SAMPLE // magnitudes.shape[0], 2**11)
    sample = magnitudes[:, :: -(-magnitudes.shape[1] // sample_size)]
    widest = magnitudes.amax(1).clamp_min(SMALLEST_SCALE) / largest
    coarse = torch.logspace(-1.7, 0, 40)
    step = _best_candidate(sample, widest, coarse, largest)
    step = _best_candidate(sample, step, torch.linspace(0.92, 1.08, 41), largest)
    for _ in range(REFINEMENTS):
        previous = step
        step, _ = _refit(magnitudes, step, largest)
        if torch.allclose(step, previous, rtol=1e-4, atol=0):
            break
    return step


def _best_candidate(magnitudes: Tensor, step: Tensor, ratios: Tensor, largest: int) -> Tensor:
    """Whichever multiple of each step, refitted, leaves the least error."""
    best, least = step, torch.full_like(step, torch.inf)
    for ratio in ratios.tolist():
        fitted, error = _refit(magnitudes, step * ratio, largest)
        best = torch.where(error < least, fitted, best)
        least = torch.minimum(error, least)
    return best


def _refit(magnitudes: Tensor, step: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """The best step for the codes that ``step`` gives, and its error less ``sum w^2``."""
    codes = (magnitudes / step[:, None]).round_().clamp_(max=largest)
    product = (codes * magnitudes).sum(1)
    energy = codes.square_().sum(1)
    # A row without any nonzero code (all zeros) keeps its step.
    fitted = torch.where(energy > 0, product / energy.clamp_min(1), step)
    return fitted, -fitted * product
