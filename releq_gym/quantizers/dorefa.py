"""DoReFa: the range follows the largest weight, through a tanh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from releq_gym.quantizers.base import (
    QUANTIZERS,
    SMALLEST_SCALE,
    Grid,
    Quantizer,
    check_bitwidth,
    mean_magnitude,
    round_through,
    sign_codes,
    symmetric_grid,
)
from releq_gym.quantizers.rounding import round_to_sign


@QUANTIZERS.register("dorefa")
@dataclass(frozen=True)
class DoReFa(Quantizer):
    """``2 round(n t) / n - 1`` with ``t = tanh(w) / (2 max|tanh(w)|) + 1/2``, ``n = 2**k - 1``.

    The levels are the 2**k odd multiples of ``1 / n`` in [-1, 1]: there is no zero level at any
    bitwidth. Gradients pass the rounding unchanged and follow the tanh and the maximum. 1 bit is
    sign times the current mean of ``|w|``.

    Source: Zhou et al., "DoReFa-Net", arXiv:1606.06160, equations 7 and 9.
    """

    name: ClassVar[str] = "dorefa"
    refuses_ptq: ClassVar[str] = (
        "DoReFa rescales every layer to [-1, 1] (its standard deviation grows five- to sevenfold), "
        "so that even 8 bits are far from full precision until the net is retrained."
    )
    keeps_magnitude: ClassVar[bool] = False

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """Odd codes in [-n, n] and ``1 / n``; times ``max|w|`` where that is kept."""
        if bitwidth == 1:
            scale = mean_magnitude(weight)
            return sign_codes(weight, scale), scale
        n = 2**bitwidth - 1
        squashed = weight.tanh()
        unit = squashed / (2 * squashed.abs().amax().clamp_min(SMALLEST_SCALE)) + 0.5
        scale = weight.new_full((), 1 / n)
        if self.keeps_magnitude:
            scale = scale * weight.abs().amax()
        return 2 * round_through(unit * n) - n, scale

    def quantize(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Tensor:
        """See `Quantizer.quantize`."""
        check_bitwidth(bitwidth)
        if bitwidth == 1:
            return round_to_sign(weight, mean_magnitude(weight))
        return _Squash.apply(weight, 2**bitwidth - 1, self.keeps_magnitude)[0]

    def grid(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Grid:
        """See `Quantizer.grid`; the levels are equidistant in ``tanh(w)``, and so is the step."""
        if bitwidth == 1:
            return symmetric_grid(weight, mean_magnitude(weight), bitwidth)
        check_bitwidth(bitwidth)
        n = 2**bitwidth - 1
        squashed = weight.tanh()
        peak = squashed.detach().abs().amax().clamp_min(SMALLEST_SCALE)
        return Grid((squashed / (2 * peak) + 0.5) * n, 2 * peak / n, n + 1)


@QUANTIZERS.register("dorefa_scaled")
@dataclass(frozen=True)
class DoReFaScaled(DoReFa):
    """DoReFa multiplied back by ``max|w|``, so that a layer keeps its magnitude without retraining.

    The gradient follows this maximum too.
    """

    name: ClassVar[str] = "dorefa_scaled"
    refuses_ptq: ClassVar[str] = ""
    keeps_magnitude: ClassVar[bool] = True


class _Squash(torch.autograd.Function):
    """`DoReFa.scaled_codes` from 2 bits on, its gradient without temporary tensors.

    Of several largest weights the first one receives the gradient of the maxima.
    """

    @staticmethod
    def forward(weight: Tensor, n: int, keeps_magnitude: bool) -> tuple[Tensor, ...]:
        squashed = weight.tanh()
        least, most = squashed.aminmax()
        peak = torch.maximum(-least, most).clamp_min(SMALLEST_SCALE)
        scale = weight.new_full((), 1 / n)
        if keeps_magnitude:
            scale = scale * weight.abs().amax()
        codes = (squashed / (2 * peak)).add_(0.5).mul_(n).round_().mul_(2).sub_(n)
        return codes.mul_(scale), squashed, peak, scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        weight, ctx.n, ctx.keeps_magnitude = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(weight, *output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        weight, quantized, squashed, peak, scale = ctx.saved_tensors
        largest = weight.abs().argmax()
        top = weight.take(largest)
        # The codes are n / peak times tanh(w), but for the rounding.
        inner = gradient * (scale * ctx.n / peak)
        by_peak = (inner * squashed).sum() / -peak
        inner.put_(largest, by_peak * top.sign(), accumulate=True)
        by_weight = torch.ops.aten.tanh_backward(inner, squashed)
        if ctx.keeps_magnitude:
            by_top = (gradient * quantized).sum() / top.abs().clamp_min(SMALLEST_SCALE)
            by_weight.put_(largest, by_top * top.sign(), accumulate=True)
        return by_weight, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], weight: Tensor, n: int, keeps_magnitude: bool
    ) -> tuple[tuple[Tensor, ...], int]:
        """One weight after the other: vmap does not know how to put a number in its place."""
        assert in_dims[0] is not None
        outputs = [_Squash.apply(one, n, keeps_magnitude) for one in weight.unbind(in_dims[0])]
        return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True)), 0
