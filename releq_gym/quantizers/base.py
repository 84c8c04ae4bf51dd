"""What a quantizer is, how quantized weights are stored, and the rules all quantizers share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from releq_gym.layers import BITWIDTHS
from releq_gym.plain_numbers import is_whole
from releq_gym.registry import Registry

SMALLEST_SCALE = 1e-12
"""Stands in for a scale of zero (a layer of zeros), so that nothing is divided by zero."""

SQNR_RANGE_DB = (-20.0, 80.0)
"""What `sqnr_db` is clipped to: noise ten times the weights, and (nearly) exact weights."""


@dataclass(frozen=True)
class Codes:
    """Integer weights and what turns them back: ``weight = codes * scale``.

    Attributes:
        codes: Integers in the shape of the weight; int8 where they fit, else int16.
        scale: float32, a scalar or broadcastable to the weight (one value per output channel).
    """

    codes: Tensor
    scale: Tensor

    def decode(self) -> Tensor:
        """The quantized weight as float32; the one place where codes become weights."""
        return self.codes.to(torch.float32) * self.scale


class Grid(NamedTuple):
    """Where weights lie among the levels of a layer.

    Attributes:
        position: In the shape of the weight, in units of steps: 0 is the lowest level, 1 the next,
            ``levels - 1`` the highest, and weights outside lie below or above those. Rises with
            the weight and is differentiable by it; the levels themselves count as given.
        step: The distance between two levels where they are equidistant; positive, without
            gradient, a scalar or broadcastable to the weight.
        levels: How many there are.
    """

    position: Tensor
    step: Tensor
    levels: int


@dataclass(frozen=True)
class Quantizer(ABC):
    """Maps full-precision weights onto the few levels that a bitwidth affords.

    ``init`` looks at the weights once, before retraining, and returns the tensors that the
    quantizer keeps for this layer. A quantizer is one formula, ``scaled_codes``; ``quantize`` and
    ``encode`` both follow from it and so agree to the bit:
    ``quantize(w, state, b) == encode(w, state, b).decode()``. Those shipped here override
    ``quantize`` with the same values and gradients in fewer operations, which is what a training
    step of a small network spends its time on.

    At 1 bit every quantizer stores ``sign(w)``, with ``sign(0) = +1``, times a positive scale that
    starts as the mean of ``|w|``, and the gradient passes straight through (DoReFa-Net, eq. 7).

    Attributes:
        name: What it is registered under.
        learned: Which tensors of the state are trained together with the weights.
        refuses_ptq: Why it cannot be used without retraining; empty where it can.
    """

    name: ClassVar[str]
    learned: ClassVar[tuple[str, ...]] = ()
    refuses_ptq: ClassVar[str] = ""

    def init(self, weight: Tensor, bitwidth: int, axis: int = 0) -> dict[str, Tensor]:
        """The state for one layer at one bitwidth; empty for quantizers without any.

        Args:
            weight: Full-precision weight.
            bitwidth: 1 to 8.
            axis: Which axis of the weight holds the output channels: 1 for transposed
                convolutions, else 0.

        Raises:
            ValueError: If the bitwidth is outside 1 to 8.
        """
        check_bitwidth(bitwidth)
        return {}

    def init_each(
        self, weight: Tensor, bitwidths: Iterable[int], axis: int = 0
    ) -> dict[int, dict[str, Tensor]]:
        """`init` at each of several bitwidths; cheaper where they share work."""
        return {bitwidth: self.init(weight, bitwidth, axis) for bitwidth in bitwidths}

    @abstractmethod
    def scaled_codes(
        self, weight: Tensor, state: dict[str, Tensor], bitwidth: int
    ) -> tuple[Tensor, Tensor]:
        """Whole-numbered codes as floats, with straight-through gradients, and their scale."""

    def quantize(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Tensor:
        """The quantized weight, same shape, with straight-through gradients.

        Raises:
            ValueError: If the bitwidth is outside 1 to 8.
        """
        check_bitwidth(bitwidth)
        codes, scale = self.scaled_codes(weight, state, bitwidth)
        return codes * scale

    def grid(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Grid:
        """Where the weights lie among the levels; regularizers of the retraining ask for it.

        Raises:
            ValueError: If the quantizer does not say, or the bitwidth is outside 1 to 8.
        """
        raise ValueError(
            f"The quantizer {self.name!r} does not say where its levels lie, so no regularizer can "
            "draw weights to them. Give it a method grid, or use regularizer='none'."
        )

    def encode(self, weight: Tensor, state: dict[str, Tensor], bitwidth: int) -> Codes:
        """The quantized weight as integers and a scale.

        Raises:
            ValueError: If the bitwidth is outside 1 to 8.
        """
        check_bitwidth(bitwidth)
        with torch.no_grad():
            codes, scale = self.scaled_codes(weight, state, bitwidth)
            fits = codes.numel() == 0 or codes.abs().max() <= torch.iinfo(torch.int8).max
            scale = scale.to(torch.float32, copy=True)
            return Codes(codes.to(torch.int8 if fits else torch.int16), scale)


QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer", "releq_gym.quantizers")


def make_quantizer(name: str | Quantizer, /, **kwargs: object) -> Quantizer:
    """The quantizer called ``name``, built with ``kwargs``; a quantizer is returned as it is.

    Raises:
        ValueError: See `Registry.make`.
    """
    if isinstance(name, Quantizer) and not kwargs:
        return name
    return QUANTIZERS.make(name, **kwargs)


def check_bitwidth(bitwidth: int) -> None:
    """Refuses what no quantizer can do."""
    if not is_whole(bitwidth) or bitwidth not in BITWIDTHS:
        raise ValueError(f"A bitwidth is a whole number from 1 to 8; got {bitwidth!r}.")


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """``value`` forwards, to the bit, with the gradient of ``surrogate`` (same shape, finite)."""
    return value.detach() + (surrogate - surrogate.detach())


def round_through(values: Tensor) -> Tensor:
    """Rounds to the nearest whole number (ties to even); the gradient is that of no rounding."""
    return straight_through(values.round(), values)


def sign_codes(weight: Tensor, scale: Tensor) -> Tensor:
    """1-bit codes, -1 or +1; ``sign_codes(w, s) * s`` has gradient 1 by w and sign(w) by s."""
    ones = torch.ones_like(weight)
    return straight_through(torch.where(weight < 0, -ones, ones), weight / scale.detach())


def mean_magnitude(weight: Tensor) -> Tensor:
    """The mean of ``|w|`` over the layer, a positive scalar without gradient: the 1-bit scale."""
    return weight.detach().abs().mean().clamp_min(SMALLEST_SCALE)


def largest_code(bitwidth: int, half: float = 0.0) -> float:
    """Of a symmetric grid of two or more bits, in steps.

    Args:
        bitwidth: 2 to 8.
        half: 0 for whole multiples of the step, 2**bitwidth - 1 of them; 1/2 for the 2**bitwidth
            levels half a step away from those, zero not among them.
    """
    return 2 ** (bitwidth - 1) - 1 + half


def symmetric_grid(weight: Tensor, scale: Tensor, bitwidth: int, half: float = 0.0) -> Grid:
    """The grid of the multiples of ``scale`` up to `largest_code` times it.

    At 1 bit its levels are ``-scale`` and ``scale``.
    """
    check_bitwidth(bitwidth)
    scale = scale.detach()
    if bitwidth == 1:
        return Grid((weight / scale + 1) / 2, 2 * scale, 2)
    largest = largest_code(bitwidth, half)
    return Grid(weight / scale + largest, scale, round(2 * largest) + 1)


def sqnr_db(weight: Tensor, quantizer: Quantizer, axis: int = 0) -> tuple[float, ...]:
    """Signal-to-quantization-noise ratio of a weight at each of 1 to 8 bits, without retraining.

    Args:
        weight: Full-precision weight, finite.
        quantizer: What quantizes it.
        axis: Axis of the output channels, as for `Quantizer.init`.

    Returns:
        ``10 log10(sum w^2 / sum (w - q(w))^2)`` in dB at 1, 2, ... 8 bits, clipped to
        `SQNR_RANGE_DB`; a weight that is reproduced exactly has the upper end.
    """
    low, high = SQNR_RANGE_DB
    with torch.no_grad():
        signal = weight.double().square().sum().item()
        ratios = []
        for bitwidth, state in quantizer.init_each(weight, BITWIDTHS, axis).items():
            quantized = quantizer.quantize(weight, state, bitwidth)
            noise = (weight - quantized).double().square().sum().item()
            exact = noise <= signal * 10 ** (-high / 10)
            ratio = high if exact else 10 * math.log10(max(signal, 1e-300) / noise)
            ratios.append(min(max(ratio, low), high))
    return tuple(ratios)
