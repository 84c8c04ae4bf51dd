"""Finds the layers of a module that can be quantized, and what each of them costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from releq_gym.layers import Layer
from releq_gym.networks.resolve import NetworkLike, resolve_network
from releq_gym.plain_numbers import is_whole
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
    that is used twice is one layer with the positions and MACs of both uses, and so are several
    modules that share one weight, named after the first that is executed. Modules that are never
    executed are left out; `unquantized_parameters` names what they hold.

    Args:
        net: A module, with the weights that are to be quantized; or whatever `resolve_network`
            takes, which is built, so that a registered net is untrained.
        input_shape: Of one image, without the batch axis; only registered nets know theirs.
        quantizer: Whose noise ``sqnr_db`` states, or its name.

    Raises:
        ValueError: If the network cannot take the input, has no such layer, has weights that are
            NaN or infinite, or a layer whose channels the quantizer cannot tell apart.
    """
    module = net
    if not isinstance(module, nn.Module):
        network = resolve_network(net)
        with torch.random.fork_rng(devices=[]):
            module, input_shape = network.build(), input_shape or network.input_shape
    if not input_shape:
        raise ValueError(
            "This net does not state what it takes: pass input_shape=, that of one input without "
            "the batch axis, such as (3, 32, 32)."
        )
    if not isinstance(input_shape, Sequence) or not all(
        is_whole(size) and size > 0 for size in input_shape
    ):
        raise ValueError(f"input_shape={input_shape!r} has to be a tuple of whole numbers above 0.")
    quantizer = make_quantizer(quantizer)
    uses = _trace(module, input_shape)
    if not uses:
        raise ValueError(
            f"{type(module).__name__} executes no layer that can be quantized: no convolution, "
            "transposed convolution or fully connected layer of torch.nn."
        )
    return tuple(_layer(name, uses[name], quantizer) for name in uses)


def unquantized_parameters(module: nn.Module, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Names of the parameters of two or more axes that no quantized layer holds.

    Embeddings, packed projections of an attention, weights that are used by function
    (``F.linear(x, self.fc.weight)``): they stay in full precision, which a user should be told.

    Args:
        module: The network.
        layers: Those of its layers that are quantized, as `network_layers` returns them.
    """
    held = {
        id(parameter)
        for layer in layers
        for parameter in module.get_submodule(layer.name).parameters()
    }
    return tuple(
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim > 1 and id(parameter) not in held
    )


def output_axis(name: str, layer: nn.Module, quantizer: Quantizer) -> int:
    """Which axis of the layer's weight holds its output channels.

    Args:
        name: Of the layer.
        layer: A convolution, transposed convolution or fully connected layer.
        quantizer: What quantizes it.

    Raises:
        ValueError: If no axis does, but the quantizer has a step per output channel.
    """
    if not isinstance(layer, TRANSPOSED):
        return 0
    if layer.groups > 1 and getattr(quantizer, "per_channel", False):
        raise ValueError(
            f"Layer {name!r} is a transposed convolution of {layer.groups} channel groups. No axis "
            "of its weight tells its output channels apart, so it cannot have a step for each: "
            "give every layer one step (quantizer_kwargs={'per_channel': False}; on the command "
            "line --per-layer of a search, and no --per-channel of a build)."
        )
    return 1


class Use(NamedTuple):
    """One execution of a layer."""

    layer: nn.Module
    input_shape: torch.Size
    output_shape: torch.Size


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Within it a module evaluates, without gradients; afterwards each part is as it was."""
    modes = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad():
            module.eval()
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def _trace(module: nn.Module, input_shape: Sequence[int]) -> dict[str, list[Use]]:
    """The uses of every quantizable weight, by the layer that is the first to use it."""
    uses: dict[str, list[Use]] = {}
    owners: dict[int, str] = {}
    names = {layer: name for name, layer in module.named_modules()}

    def note(
        layer: nn.Module, inputs: tuple[Tensor, ...], keywords: dict[str, Any], output: Tensor
    ) -> None:
        # A weight that is computed anew at each use is no parameter, and shared by nobody.
        shared = layer.weight if isinstance(layer.weight, nn.Parameter) else layer
        owner = owners.setdefault(id(shared), names[layer])
        taken = inputs[0] if inputs else keywords["input"]
        uses.setdefault(owner, []).append(Use(layer, taken.shape, output.shape))

    hooks = [
        layer.register_forward_hook(note, with_kwargs=True)
        for layer in names
        if isinstance(layer, QUANTIZABLE)
    ]
    parameter = next(module.parameters(), torch.empty(0))
    image = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    try:
        with in_evaluation_mode(module):
            module(image)
    except Exception as error:  # whatever code of the user's raises
        raise ValueError(
            f"{type(module).__name__} cannot take one input of shape {tuple(input_shape)}: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return uses


def _layer(name: str, uses: list[Use], quantizer: Quantizer) -> Layer:
    layer = uses[0].layer
    assert isinstance(layer, QUANTIZABLE)
    weight = layer.weight.detach()
    if not weight.isfinite().all():
        raise ValueError(
            f"The weights of layer {name!r} hold NaN or infinity; load a checkpoint with finite "
            "weights."
        )
    kind, stride, channel_groups = "linear", 1, 1
    if not isinstance(layer, nn.Linear):
        stride, channel_groups = math.prod(layer.stride), layer.groups
        depthwise = channel_groups == layer.in_channels > 1
        kind = "depthwise" if depthwise else "conv"
        kind = "transposed" if isinstance(layer, TRANSPOSED) else kind
    positions = [_positions(use) for use in uses]
    return Layer(
        name=name,
        kind=kind,
        weight_shape=tuple(weight.shape),
        stride=stride,
        output_positions=sum(outputs for outputs, _ in positions),
        macs=sum(meetings for _, meetings in positions) * weight.numel(),
        weight_std=weight.double().std(correction=0).item(),
        sqnr_db=sqnr_db(weight, quantizer, output_axis(name, layer, quantizer)),
        channel_groups=channel_groups,
    )


def _positions(use: Use) -> tuple[int, int]:
    """Output positions, and positions at which every weight is used once."""
    # Counting elements instead of axes covers sequences, and batches folded by a reshape.
    layer, taken, given = use.layer, use.input_shape.numel(), use.output_shape.numel()
    if isinstance(layer, nn.Linear):
        return given // layer.out_features, given // layer.out_features
    assert isinstance(layer, (*CONVS, *TRANSPOSED))
    outputs = given // layer.out_channels
    return outputs, taken // layer.in_channels if isinstance(layer, TRANSPOSED) else outputs
