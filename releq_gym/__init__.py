"""Bitwidths for the layers of a deep network, chosen by reinforcement learning.

``import releq_gym`` registers ``releq/QuantizeNet-v0`` and one frozen id per shipped task.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from releq_gym.ledger import Ledger
from releq_gym.registry import UnknownNameError
from releq_gym.tasks.catalog import FROZEN
from releq_gym.transition import Transition

if TYPE_CHECKING:
    from releq_gym.mixed_precision import search
    from releq_gym.networks.profile import network_layers
    from releq_gym.quantized import load_quantized

__version__ = "0.1.0"
__all__ = [
    "Ledger",
    "Transition",
    "UnknownNameError",
    "__version__",
    "load_quantized",
    "network_layers",
    "search",
]

_LAZY = {
    "load_quantized": "releq_gym.quantized",
    "network_layers": "releq_gym.networks.profile",
    "search": "releq_gym.mixed_precision",
}
"""Public names that need torch, and where they are."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    public = name.isidentifier() and not name.startswith("_")
    if public and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


gym.register(
    "releq/QuantizeNet-v0",
    entry_point="releq_gym.several_nets:make_env",
    vector_entry_point="releq_gym.vector_env:QuantizeNetVectorEnv",
)
for _frozen_id, _settings in FROZEN.items():
    gym.register(
        _frozen_id,
        entry_point="releq_gym.env:make_frozen",
        vector_entry_point="releq_gym.vector_env:make_frozen",
        kwargs={"frozen_id": _frozen_id, "settings": _settings},
    )
