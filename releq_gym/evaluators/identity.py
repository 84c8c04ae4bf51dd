"""By what a live evaluator's measurements are told from those of any other one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from releq_gym.evaluators.described import describe_callable, why_indescribable
from releq_gym.networks.base import Recipe
from releq_gym.quantizers.base import Quantizer
from releq_gym.training.regularizers import REGULARIZERS

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where a module keeps functions that act when it is called."""


def hash_weights(module: nn.Module) -> str:
    """The sha256 of everything in a module's state, names, shapes and types included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, Tensor):  # of `get_extra_state`
            digest.update(f"{name} {tensor!r};".encode())
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_outputs(module: nn.Module, inputs: Tensor, *, scaled: bool = False) -> str:
    """The sha256 of what a module answers: weights do not tell a ReLU from a tanh.

    Args:
        module: Answers.
        inputs: A batch.
        scaled: Whether answers of another scale are others, too.
    """
    with torch.inference_mode():
        outputs = module(inputs)
    outputs = outputs.double().cpu()
    # Rounding leaves only real differences.
    scale = outputs.abs().max().clamp_min(1e-30)
    rounded = (outputs / scale).round(decimals=3) + 0.0
    digest = hashlib.sha256(rounded.numpy().tobytes())
    if scaled:
        digest.update(f"{float(scale):.3g}".encode())
    return digest.hexdigest()


def describe_training(module: nn.Module) -> dict[str, Any]:
    """What a retraining does differently though weights and logits are equal."""
    return {
        "class": f"{type(module).__module__}.{type(module).__qualname__}",
        "repr": repr(module),
        "frozen": [name for name, one in module.named_parameters() if not one.requires_grad],
        "code": sorted({str(describe_callable(kind)) for kind in set(map(type, module.modules()))}),
        "attributes": dict(_attributes(module)),
    }


def why_untold(module: nn.Module) -> str:
    """What of a module `describe_training` cannot tell from another of its kind; else empty."""
    for kind in sorted(set(map(type, module.modules())), key=str):
        if why := why_indescribable(kind):
            return f"{kind.__qualname__}: {why}"
    for name, value in _own(module):
        if why := why_indescribable(value):
            return f"{name}: {why}"
    return ""


def _own(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What decides the outputs beside parts and state: attributes, hooks, buffers not saved."""
    of_torch = vars(nn.Module())
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            if attribute not in of_torch:
                yield f"{name}.{attribute}", value
            elif attribute in HOOKS and value:
                yield f"{name}.{attribute}", list(value.values())
        for buffer in sorted(part._non_persistent_buffers_set):
            yield f"{name}.{buffer}", getattr(part, buffer)


def _attributes(module: nn.Module) -> Iterator[tuple[str, str]]:
    """What the parts keep for themselves, such as the share of a functional dropout."""
    for name, value in _own(module):
        if (described := describe_callable(value)) is not None:
            yield name, described


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Its fields, and what the name of its regularizer stands for."""
    penalty = describe_callable(REGULARIZERS[recipe.regularizer])
    described = dataclasses.asdict(recipe) | {"regularizer_code": penalty}
    if recipe.distillation:
        # Tells these measurements from those of when a teacher computed in float32 always.
        described["teacher"] = recipe.precision
    return described


def describe_quantizer(quantizer: Quantizer) -> str:
    """Its name, and those arguments that are not the default: ``uniform(per_channel=True)``."""
    given = [
        f"{field.name}={getattr(quantizer, field.name)!r}"
        for field in dataclasses.fields(quantizer)
        if getattr(quantizer, field.name) != field.default
    ]
    return f"{quantizer.name}({', '.join(given)})" if given else quantizer.name
