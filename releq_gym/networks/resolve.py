"""From whatever a user calls a net to a `Network`."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable

from torch import nn

from releq_gym.networks.base import NETWORKS, Network
from releq_gym.registry import UnknownNameError

NetworkLike = str | nn.Module | Network | Callable[[], nn.Module]
"""A registered name, ``"package.module:factory"``, a module, a `Network`, or a factory."""


def resolve_network(net: NetworkLike) -> Network:
    """The `Network` that ``net`` stands for.

    Args:
        net: A registered name; ``"package.module:factory"``, a callable without arguments that
            returns a module; such a callable itself; a module, which is copied at every
            ``build()``, weights included; or a `Network`, returned as it is. Only registered
            nets know their input shape, classes and data set.

    Raises:
        UnknownNameError: If no net has this name.
        ValueError: If the factory cannot be imported or ``net`` is none of the above.
    """
    if isinstance(net, Network):
        return net
    if isinstance(net, nn.Module):
        return Network(name=type(net).__name__, build=lambda: copy.deepcopy(net))
    if isinstance(net, str):
        return _from_factory(net) if ":" in net else _from_name(net)
    if callable(net):
        return Network(name=getattr(net, "__name__", type(net).__name__), build=_checked(net))
    raise ValueError(
        f"A net is a name, 'package.module:factory', a torch.nn.Module or a callable that returns "
        f"one; got {net!r}."
    )


def _from_name(name: str) -> Network:
    if name in NETWORKS:
        return NETWORKS[name]
    raise UnknownNameError(
        "net",
        name,
        NETWORKS.names(),
        "For a net of your own give 'package.module:factory' or a torch.nn.Module.",
    )


def _from_factory(path: str) -> Network:
    module_name, _, attribute = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"The net {path!r} could not be imported ({error}). It has to read "
            "'package.module:factory', with the package installed or on PYTHONPATH."
        ) from error
    if isinstance(factory, Network):
        return factory
    if not callable(factory):
        raise ValueError(
            f"The net {path!r} names {factory!r}, which cannot be called; it has to be a class or "
            "function that takes no arguments and returns a torch.nn.Module."
        )
    return Network(name=path, build=_checked(factory))


def _checked(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = factory()
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"The net factory {factory!r} returned {type(module).__name__}; it has to return "
                "a torch.nn.Module."
            )
        return module

    return build
