"""LSQ: the uniform grid with a step that is learned together with the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from releq_gym.quantizers.base import (
    QUANTIZERS,
    SMALLEST_SCALE,
    Grid,
    check_bitwidth,
    largest_code,
    straight_through,
    symmetric_grid,
)
from releq_gym.quantizers.uniform import Uniform, grid_codes, quantize_to_grid


@QUANTIZERS.register("lsq")
@dataclass(frozen=True)
class LSQ(Uniform):
    """The grid of `Uniform`, its step trained by gradient descent from `Uniform`'s.

    The step's gradient is ``round(w / step) - w / step`` inside the grid and -Q or Q outside,
    times ``1 / sqrt(N Q)`` for N weights per step; the weight's is 1 inside and 0 outside. At
    1 bit the step's is ``sign(w)`` (with Q = 1) and the weight's 1. Without retraining this is
    `Uniform`, and should be called so.

    Source: Esser et al., "Learned Step Size Quantization", ICLR 2020, equations 1 to 3 and
    section 2.2 (on a symmetric grid, initialised by least squares).
    """

    name: ClassVar[str] = "lsq"
    learned: ClassVar[tuple[str, ...]] = ("step",)
    refuses_ptq: ClassVar[str] = (
        "Without retraining LSQ learns nothing and equals 'uniform'; use quantizer='uniform'."
    )

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """See `grid_codes`."""
        step = positive_step(state)
        step = straight_through(step, step * step_gradient(weight, step, bitwidth, self.half))
        return grid_codes(weight, step, bitwidth, self.half)

    def quantize(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Tensor:
        """See `Quantizer.quantize`."""
        check_bitwidth(bitwidth)
        step = positive_step(state)
        gradient = step_gradient(weight, step, bitwidth, self.half)
        return quantize_to_grid(weight, step, bitwidth, self.half, gradient)

    def grid(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Grid:
        """See `Quantizer.grid`."""
        return symmetric_grid(weight, positive_step(state), bitwidth, self.half)


def positive_step(state: dict[str, Tensor]) -> Tensor:
    """Training may push a step through zero; only its magnitude has a meaning.

    The gradient is that of the magnitude below the smallest, too: the step of weights that are
    all zero begins there, and has to learn like another.
    """
    magnitude = state["step"].abs()
    return magnitude + (SMALLEST_SCALE - magnitude).clamp_min(0).detach()


def step_gradient(weight: Tensor, step: Tensor, bitwidth: int, half: float = 0.0) -> float:
    """What the step's gradient is multiplied by."""
    largest = 1 if bitwidth == 1 else largest_code(bitwidth, half)
    return 1 / math.sqrt(weight.numel() / step.numel() * largest)
