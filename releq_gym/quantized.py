"""Quantizes a module, and keeps quantized and full-precision networks in files."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_gym.networks.profile import QUANTIZABLE, output_axis
from releq_gym.quantizers.base import Codes, Quantizer
from releq_gym.registry import UnknownNameError

FORMAT = "releq-quantized/1"


class FakeQuantize(nn.Module):
    """The parametrization of one layer's weight: full precision in, quantized out.

    Learned tensors of the quantizer's state are parameters, the others buffers.

    Args:
        quantizer: What quantizes.
        weight: The full-precision weight before retraining.
        bitwidth: 1 to 8.
        axis: Axis of the output channels.
    """

    def __init__(self, quantizer: Quantizer, weight: Tensor, bitwidth: int, axis: int = 0):
        super().__init__()
        state = quantizer.init(weight.detach(), bitwidth, axis)
        self.quantizer, self.bitwidth = quantizer, int(bitwidth)
        self._names = tuple(state)
        for name, tensor in state.items():
            if name in quantizer.learned:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    @property
    def state(self) -> dict[str, Tensor]:
        """The quantizer's tensors for this layer."""
        return {name: getattr(self, name) for name in self._names}

    def forward(self, weight: Tensor) -> Tensor:
        """The quantized weight."""
        return self.quantizer.quantize(weight, self.state, self.bitwidth)

    def encode(self, weight: Tensor) -> Codes:
        """The quantized weight as integers and a scale."""
        return self.quantizer.encode(weight, self.state, self.bitwidth)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.quantizer}, bitwidth={self.bitwidth}"


def quantize_network(
    module: nn.Module, layers: Sequence[str], bitwidths: Sequence[int], quantizer: Quantizer
) -> nn.Module:
    """A copy whose named layers compute with quantized weights, ready to be retrained.

    The weights stay in full precision underneath, as
    ``<layer>.parametrizations.weight.original``; biases and batch norm are untouched.

    Args:
        module: The full-precision network; not changed.
        layers: Dotted names of convolutions and fully connected layers.
        bitwidths: One per name, 1 to 8.
        quantizer: What quantizes.

    Raises:
        ValueError: If a name is no such layer, or a bitwidth is missing or outside 1 to 8.
    """
    if len(layers) != len(bitwidths):
        raise ValueError(
            f"{len(layers)} layers need as many bitwidths, one each; got {len(bitwidths)}."
        )
    quantized = copy.deepcopy(module)
    found = {name: m for name, m in quantized.named_modules() if isinstance(m, QUANTIZABLE)}
    for name, bitwidth in zip(layers, bitwidths, strict=True):
        if name not in found:
            raise UnknownNameError("layer", name, found)
        layer = found[name]
        fake = FakeQuantize(quantizer, layer.weight, bitwidth, output_axis(layer))
        parametrize.register_parametrization(layer, "weight", fake)
    return quantized


def bake(module: nn.Module) -> nn.Module:
    """A copy with plain quantized weights instead of parametrizations: fast, and as accurate."""
    baked = copy.deepcopy(module)
    for name in fake_quantizers(baked):
        layer = baked.get_submodule(name)
        # torch deletes the property from the layer's class, which all copies share.
        shared = type(layer)
        layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
        parametrize.remove_parametrizations(layer, "weight")
    return baked


def fake_quantizers(module: nn.Module) -> dict[str, FakeQuantize]:
    """The `FakeQuantize` of every layer that `quantize_network` quantized, by layer name."""
    found = {}
    for name, layer in module.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            last = layer.parametrizations.weight[-1]
            if isinstance(last, FakeQuantize):
                found[name] = last
    return found
