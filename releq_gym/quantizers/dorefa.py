"""DoReFa: the range follows the largest weight, through a tanh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from releq_gym.quantizers.base import (
    QUANTIZERS,
    SMALLEST_SCALE,
    Quantizer,
    mean_magnitude,
    round_through,
    sign_codes,
)


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

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """Odd codes in [-n, n] and ``1 / n``."""
        if bitwidth == 1:
            scale = mean_magnitude(weight)
            return sign_codes(weight, scale), scale
        n = 2**bitwidth - 1
        squashed = weight.tanh()
        unit = squashed / (2 * squashed.abs().amax().clamp_min(SMALLEST_SCALE)) + 0.5
        return 2 * round_through(unit * n) - n, weight.new_full((), 1 / n)


@QUANTIZERS.register("dorefa_scaled")
@dataclass(frozen=True)
class DoReFaScaled(DoReFa):
    """DoReFa multiplied back by ``max|w|``, so that a layer keeps its magnitude without retraining.

    The gradient follows this maximum too.
    """

    name: ClassVar[str] = "dorefa_scaled"
    refuses_ptq: ClassVar[str] = ""

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """Odd codes in [-n, n] and ``max|w| / n``."""
        codes, scale = super().scaled_codes(weight, state, bitwidth)
        return codes, scale if bitwidth == 1 else scale * weight.abs().amax()
