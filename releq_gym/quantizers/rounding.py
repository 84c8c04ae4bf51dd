"""Straight-through gradients in a few operations: rounding to a grid, and to two signs.

Automatic differentiation of `Quantizer.scaled_codes` gives the same gradients up to floating-point
noise, through some ten tensors of the weight's size. Tests hold the two against each other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

JUST_OUTSIDE = 1 + 1e-7
"""Moves a bound to the next float32, so that a weight on the bound itself counts as inside."""


def round_to_grid(
    weight: Tensor, units: Tensor, step: Tensor, largest: float, step_gradient: float = 1.0
) -> Tensor:
    """``step`` times the nearest code to ``units``, as a function of ``weight`` and ``step``.

    Codes are ``largest`` and all that lie a whole number below it, down to ``-largest``. The
    gradient by a weight is 1 inside the grid, ``|units| <= largest``, and 0 outside. That by the
    step is the code minus ``units`` inside and ``-largest`` or ``largest`` outside.

    Args:
        weight: Receives the gradient; its values are in ``units``.
        units: The weight over the step, same shape, without gradient.
        step: A scalar, or broadcastable to the weight.
        largest: The largest code, whole, or a whole number and a half.
        step_gradient: Factor of the step's gradient.
    """
    return _RoundToGrid.apply(weight, units, step, largest, step_gradient)


def nearest_codes(units: Tensor, largest: float, out: Tensor | None = None) -> Tensor:
    """The code next to each number, see `round_to_grid`; without gradient, in ``out`` if given."""
    codes, half = torch.clamp(units, -largest, largest, out=out), largest % 1
    return codes.sub_(half).round_().add_(half) if half else codes.round_()


def round_to_sign(weight: Tensor, scale: Tensor, scale_gradient: float = 1.0) -> Tensor:
    """``sign(weight) * scale`` with ``sign(0) = +1``; gradient 1 by weight, the sign by scale.

    Args:
        weight: Any shape.
        scale: Positive; a scalar, or broadcastable to the weight.
        scale_gradient: Factor of the scale's gradient.
    """
    return _RoundToSign.apply(weight, scale, scale_gradient)


class _RoundToGrid(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        weight: Tensor, units: Tensor, step: Tensor, largest: float, step_gradient: float
    ) -> Tensor:
        return nearest_codes(units, largest).mul_(step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, units, step, ctx.largest, ctx.step_gradient = inputs
        ctx.save_for_backward(units, step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        units, step = ctx.saved_tensors
        bound = ctx.largest * JUST_OUTSIDE
        by_weight = _keep_inside(gradient, units, bound)
        by_step = None
        if ctx.needs_input_grad[2]:
            codes = nearest_codes(units, ctx.largest)
            moved = codes.sub_(_keep_inside(units, units, bound)).mul_(gradient)
            by_step = moved.sum_to_size(step.shape) * ctx.step_gradient
        return by_weight, None, by_step, None, None


class _RoundToSign(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, scale: Tensor, scale_gradient: float) -> Tensor:
        return torch.copysign(scale, weight + 0.0)  # -0.0 becomes 0.0, whose sign is +

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        weight, scale, ctx.scale_gradient = inputs
        ctx.save_for_backward(weight, scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, scale = ctx.saved_tensors
        by_scale = None
        if ctx.needs_input_grad[1]:
            signs = torch.copysign(torch.ones_like(scale), weight + 0.0)
            by_scale = (signs * gradient).sum_to_size(scale.shape) * ctx.scale_gradient
        return gradient, by_scale, None


def _keep_inside(values: Tensor, units: Tensor, bound: float) -> Tensor:
    """``values`` where ``|units| < bound``, else 0: one pass where a mask takes four."""
    return torch.ops.aten.hardtanh_backward(values, units, -bound, bound)
