"""Finds the layers of a module that can be quantized, and what each of them costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from releq_gym.layers import Layer
from releq_gym.networks.resolve import NetworkLike, resolve_network
from releq_gym.quantizers.base import Quantizer, make_quantizer, sqnr_db

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
QUANTIZABLE = (*CONVS, *TRANSPOSED, nn.Linear)


def network_layers(
    net: NetworkLike,
    input_shape: Sequence[int] | None = None,
    quantizer: str | Quantizer = "uniform",
) -> tuple[Layer, ...]:
    """The layers of any network that can be quantized, in order of first execution.

    One image of zeros is sent through in evaluation mode; the module is left as it was. A layer
    that is used twice is one layer with the positions and MACs of both uses; one that is never
    executed is left out.

    Args:
        net: A module, with the weights that are to be quantized; or whatever `resolve_network`
            takes, which is built, so that a registered net is untrained.
        input_shape: Of one image, without the batch axis; only registered nets know theirs.
        quantizer: Whose noise ``sqnr_db`` states, or its name.

    Raises:
        ValueError: If the network cannot take the input, has no such layer, or has weights that
            are NaN or infinite.
    """
    module = net
    if not isinstance(module, nn.Module):
        network = resolve_network(net)
        module, input_shape = network.build(), input_shape or network.input_shape
    if not input_shape:
        raise ValueError(
            "This net does not state what it takes: pass input_shape=, that of one input without "
            "the batch axis, such as (3, 32, 32)."
        )
    quantizer = make_quantizer(quantizer)
    uses = _trace(module, input_shape)
    if not uses:
        raise ValueError(
            f"{type(module).__name__} executes no layer that can be quantized: no convolution, "
            "transposed convolution or fully connected layer of torch.nn."
        )
    return tuple(_layer(name, module.get_submodule(name), uses[name], quantizer) for name in uses)


def output_axis(layer: nn.Module) -> int:
    """Which axis of the layer's weight holds its output channels."""
    return 1 if isinstance(layer, TRANSPOSED) else 0


Uses = list[tuple[torch.Size, torch.Size]]
"""Input and output shape of every use of a layer in one forward pass."""


def _trace(module: nn.Module, input_shape: Sequence[int]) -> dict[str, Uses]:
    """The uses of every quantizable layer that is executed, by name."""
    uses: dict[str, Uses] = {}
    names = {layer: name for name, layer in module.named_modules()}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        uses.setdefault(names[layer], []).append((inputs[0].shape, output.shape))

    hooks = [layer.register_forward_hook(note) for layer in names if isinstance(layer, QUANTIZABLE)]
    modes = {layer: layer.training for layer in names}
    parameter = next(module.parameters(), torch.empty(0))
    image = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    try:
        module.eval()
        with torch.no_grad():
            module(image)
    except RuntimeError as error:
        raise ValueError(
            f"{type(module).__name__} cannot take one input of shape {tuple(input_shape)}: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for layer, training in modes.items():
            layer.training = training
    return uses


def _layer(name: str, layer: nn.Module, uses: Uses, quantizer: Quantizer) -> Layer:
    assert isinstance(layer, QUANTIZABLE)
    weight = layer.weight.detach()
    if not weight.isfinite().all():
        raise ValueError(
            f"The weights of layer {name!r} hold NaN or infinity; load a checkpoint with finite "
            "weights."
        )
    kind, stride, channels = "linear", 1, weight.shape[0]
    if not isinstance(layer, nn.Linear):
        depthwise = layer.groups == layer.in_channels > 1
        kind = "depthwise" if depthwise else "conv"
        stride, channels = math.prod(layer.stride), layer.out_channels
    # Counting elements instead of axes covers sequences, and batches folded by a reshape.
    positions = sum(outputs.numel() // channels for _, outputs in uses)
    # Every weight is used once per output position; if transposed, once per input position.
    macs = positions * weight.numel()
    if isinstance(layer, TRANSPOSED):
        kind = "transposed"
        macs = sum(inputs.numel() // layer.in_channels for inputs, _ in uses) * weight.numel()
    return Layer(
        name=name,
        kind=kind,
        weight_shape=tuple(weight.shape),
        stride=stride,
        output_positions=positions,
        macs=macs,
        weight_std=weight.double().std(correction=0).item(),
        sqnr_db=sqnr_db(weight, quantizer, output_axis(layer)),
    )
