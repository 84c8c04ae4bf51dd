"""From whatever a user calls a net to a `Network`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from releq_gym.networks.base import NETWORKS, Network
from releq_gym.registry import UnknownNameError, imported

NetworkLike = str | nn.Module | Network | Callable[[], nn.Module | Network]
"""A registered name, ``"package.module:factory"``, a module, a `Network`, or a factory of one."""


WEIGHTS = (".bin", ".ckpt", ".h5", ".onnx", ".pt", ".pth", ".safetensors")
"""Suffixes of files that hold weights."""


def resolve_network(net: NetworkLike) -> Network:
    """The `Network` that ``net`` stands for.

    Args:
        net: A registered name; ``"package.module:factory"``, a callable without arguments that
            returns a module or a `Network`; such a callable itself; a module, which is copied at
            every ``build()``, weights included; or a `Network`. A `Network` is returned as it is.
            Of a module or its factory nobody knows the input shape, classes and data set; a factory
            that is registered brings these, but the weights are those that it returns.

    Raises:
        UnknownNameError: If no net has this name.
        ValueError: If the factory cannot be imported or ``net`` is none of the above. What a
            factory raises becomes one, too; a class of modules is not called before ``build()``.
    """
    if isinstance(net, Network):
        return net
    if isinstance(net, nn.Module):
        return Network(name=type(net).__name__, build=lambda: copy.deepcopy(net))
    if isinstance(net, str):
        return _from_factory(net) if ":" in net else _from_name(net)
    if callable(net):
        return _of_factory(getattr(net, "__name__", type(net).__name__), net)
    raise ValueError(
        "A net is a name, 'package.module:factory', a torch.nn.Module or a callable that returns "
        f"one; got {net!r:.80}."
    )


def _from_name(name: str) -> Network:
    if name in NETWORKS:
        return NETWORKS[name]
    if Path(name).suffix in WEIGHTS:
        raise ValueError(
            f"The net {name!r} reads like a file of weights, which say nothing of the layers. Pass "
            "the module with its weights loaded, or 'package.module:factory' and weights=FILE, "
            "a safetensors file."
        )
    raise UnknownNameError(
        "net",
        name,
        NETWORKS.names(),
        "For a net of your own give 'package.module:factory' or a torch.nn.Module.",
    )


def _from_factory(path: str) -> Network:
    factory = imported("net", path, "factory")
    if isinstance(factory, Network):
        return factory
    if not callable(factory):
        raise ValueError(
            f"The net {path!r} names {factory!r}, which cannot be called; it has to be a class or "
            "function that takes no arguments and returns a torch.nn.Module."
        )
    return _of_factory(path, factory)


def _of_factory(name: str, factory: Callable[[], nn.Module | Network]) -> Network:
    """What a factory builds, with all that it states where `register_network` decorates it."""
    registered = [NETWORKS[known] for known in NETWORKS.names()]
    stated = [network for network in registered if network.build is factory]
    if stated:
        return dataclasses.replace(stated[0], name=name, build=_modules(factory), download=None)
    if isinstance(factory, type) and issubclass(factory, nn.Module):
        return Network(name=name, build=_modules(factory))
    made = _call(factory)
    if isinstance(made, Network):
        return made
    return Network(name=name, build=_modules(factory, [made]))


def _modules(factory: Callable[[], object], made: Sequence[object] = ()) -> Callable[[], nn.Module]:
    """Gives what a factory has made already, then what it makes anew."""
    waiting = list(made)

    def build() -> nn.Module:
        module = waiting.pop() if waiting else _call(factory)
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"The net factory {_name(factory)!r} returned {type(module).__name__}; it has to "
                "return a torch.nn.Module."
            )
        return module

    return build


def _call(factory: Callable[[], object]) -> object:
    try:
        return factory()
    except Exception as error:  # whatever code of the user's raises
        raise ValueError(
            f"The net factory {_name(factory)!r}, which is called without arguments, raised "
            f"{type(error).__name__}: {error}"
        ) from error


def _name(factory: Callable[[], object]) -> str:
    return getattr(factory, "__qualname__", type(factory).__qualname__)
