"""Activations of 8 bits: what flows into a quantized layer, rounded to a grid fitted beforehand."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from releq_gym.layers import FULL_PRECISION
from releq_gym.networks.profile import QUANTIZABLE
from releq_gym.quantizers.base import round_through
from releq_gym.quantizers.uniform import least_squares_step

ACTIVATION_BITWIDTHS = (8, FULL_PRECISION)

BATCH = 64
"""Inputs that go through at a time while steps are fitted."""

SAMPLE = 2**16
"""Activations per layer that its step is fitted to."""


class QuantizeActivation(nn.Module):
    """Rounds to 256 equidistant levels, one step per tensor.

    The levels are ``0 .. 255`` steps where no input is negative, as behind a ReLU, else
    ``-127 .. 127``. The gradient passes straight through between the outermost ones and is zero
    outside.

    Attributes:
        step: float32 scalar.
        lowest: The least level in steps, 0 or -127.
        highest: The greatest, 255 or 127.
    """

    step: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, step: float = 1.0, *, signed: bool = True):
        super().__init__()
        self.register_buffer("step", torch.tensor(step, dtype=torch.float32))
        self.register_buffer("lowest", torch.tensor(-127.0 if signed else 0.0))
        self.register_buffer("highest", torch.tensor(127.0 if signed else 255.0))

    @classmethod
    def fit(cls, activations: Tensor) -> QuantizeActivation:
        """The one whose step has the least squared error on a sample of activations."""
        flat = _sample(activations.detach()).float()
        signed = bool(flat.min() < 0)
        # A signed grid of 9 bits reaches 255, as an unsigned one of 8 does.
        step = least_squares_step(flat[None], 8 if signed else 9)
        return cls(float(step), signed=signed)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rounded inputs, same shape and type."""
        levels = torch.clamp(inputs / self.step, self.lowest, self.highest)
        return round_through(levels) * self.step


def with_quantized_activations(
    module: nn.Module, layers: Sequence[str], images: Tensor
) -> nn.Module:
    """A copy whose named layers take inputs of 8 bits.

    The steps are fitted once, to the full-precision network, and stay as they are in retraining.

    Args:
        module: In full precision; left as it is.
        layers: Names of layers.
        images: Inputs ``[n, ...]`` as the network sees them, to fit the steps to.

    Raises:
        ValueError: Where another layer shares a weight: its inputs would stay as they are.
    """
    quantized = copy.deepcopy(module).eval()
    held = [part.weight for part in quantized.modules() if isinstance(part, QUANTIZABLE)]
    for name in layers:
        weight = quantized.get_submodule(name).weight
        if sum(one is weight for one in held) > 1:
            raise ValueError(
                f"Other layers share the weight of {name!r}, whose inputs would not be rounded; "
                "use activation_bitwidth=32."
            )
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            seen[name].append(_sample(args[0] if args else keywords["input"]))

        return hook

    hooks = [
        quantized.get_submodule(name).register_forward_pre_hook(keep(name), with_kwargs=True)
        for name in layers
    ]
    with torch.inference_mode():
        for batch in images.split(BATCH):
            quantized(batch)
    for hook in hooks:
        hook.remove()
    for name in layers:
        found = QuantizeActivation.fit(torch.cat(seen[name])).to(images.device)
        attach(quantized.get_submodule(name), found)
    return quantized


def _sample(activations: Tensor) -> Tensor:
    """Some of them, drawn: equally spaced ones may all lie in the padding of an image."""
    flat = activations.flatten()
    if len(flat) <= SAMPLE:
        return flat.clone()
    drawn = torch.randint(len(flat), (SAMPLE,), generator=torch.Generator().manual_seed(0))
    return flat[drawn.to(flat.device)]


def activation_bitwidth(module: nn.Module, layers: Sequence[str]) -> int:
    """8 where all the named layers round their inputs, 32 where none does.

    Raises:
        ValueError: Where some do and some do not.
    """
    rounding = [hasattr(module.get_submodule(name), "input_quantizer") for name in layers]
    if any(rounding) != all(rounding):
        raise ValueError(
            "Some quantized layers round their inputs and some do not; use "
            "with_quantized_activations on all of them, or on none."
        )
    return 8 if any(rounding) else FULL_PRECISION


def attach(layer: nn.Module, quantizer: QuantizeActivation) -> None:
    """Lets a layer round what flows into it."""
    layer.input_quantizer = quantizer
    layer.register_forward_pre_hook(_quantize_input, with_kwargs=True)


def _quantize_input(
    layer: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    assert isinstance(layer.input_quantizer, QuantizeActivation)
    if args:
        return (layer.input_quantizer(args[0]), *args[1:]), keywords
    return (), keywords | {"input": layer.input_quantizer(keywords["input"])}
