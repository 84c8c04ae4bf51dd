"""WRPN: a fixed grid over [-1, 1] that does not look at the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from releq_gym.quantizers.base import (
    QUANTIZERS,
    Grid,
    Quantizer,
    check_bitwidth,
    mean_magnitude,
    round_through,
    sign_codes,
    symmetric_grid,
)
from releq_gym.quantizers.rounding import round_to_grid, round_to_sign


@QUANTIZERS.register("wrpn")
@dataclass(frozen=True)
class WRPN(Quantizer):
    """Clips to [-1, 1] and rounds to multiples of ``1 / n``, ``n = 2**(bitwidth - 1) - 1``.

    Without a scale, a layer whose weights all lie below ``1 / (2 n)`` becomes zero: few bits are
    a hard problem here. The gradient passes inside [-1, 1] and is zero outside. 1 bit is not
    defined by the method; it is sign times the current mean of ``|w|``.

    Source: Mishra et al., "WRPN: Wide Reduced-Precision Networks", ICLR 2018, section 3.2 (its
    quantizer; not its widening of layers).
    """

    name: ClassVar[str] = "wrpn"

    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """Codes in [-n, n] and ``1 / n``."""
        if bitwidth == 1:
            scale = mean_magnitude(weight)
            return sign_codes(weight, scale), scale
        n = 2 ** (bitwidth - 1) - 1
        return round_through(weight.clamp(-1, 1) * n), weight.new_full((), 1 / n)

    def quantize(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Tensor:
        """See `Quantizer.quantize`."""
        check_bitwidth(bitwidth)
        if bitwidth == 1:
            return round_to_sign(weight, mean_magnitude(weight))
        n = 2 ** (bitwidth - 1) - 1
        return round_to_grid(weight, weight.detach() * n, weight.new_full((), 1 / n), n)

    def grid(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Grid:
        """See `Quantizer.grid`."""
        if bitwidth == 1:
            return symmetric_grid(weight, mean_magnitude(weight), bitwidth)
        return symmetric_grid(weight, weight.new_full((), 1 / (2 ** (bitwidth - 1) - 1)), bitwidth)
