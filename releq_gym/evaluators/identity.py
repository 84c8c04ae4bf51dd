"""By what a live evaluator's measurements are told from those of any other one."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from releq_gym.quantizers.base import Quantizer


def hash_weights(module: nn.Module) -> str:
    """The sha256 of everything in a module's state, names, shapes and types included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_outputs(module: nn.Module, inputs: Tensor) -> str:
    """The sha256 of what a module answers: weights do not tell a ReLU from a tanh."""
    with torch.inference_mode():
        outputs = module(inputs)
    # Rounding leaves only real differences.
    rounded = outputs.double().cpu().round(decimals=2) + 0.0
    return hashlib.sha256(rounded.numpy().tobytes()).hexdigest()


def describe_training(module: nn.Module) -> dict[str, Any]:
    """What a retraining does differently though weights and logits are equal."""
    return {
        "class": f"{type(module).__module__}.{type(module).__qualname__}",
        "repr": repr(module),
        "frozen": [name for name, one in module.named_parameters() if not one.requires_grad],
    }


def describe_quantizer(quantizer: Quantizer) -> str:
    """Its name, and those arguments that are not the default: ``uniform(per_channel=True)``."""
    given = [
        f"{field.name}={getattr(quantizer, field.name)!r}"
        for field in dataclasses.fields(quantizer)
        if getattr(quantizer, field.name) != field.default
    ]
    return f"{quantizer.name}({', '.join(given)})" if given else quantizer.name
