"""What is to be chosen: bitwidths, fixed layers and groups of layers, as a user names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.evaluators.base import Evaluator
from releq_gym.layers import BITWIDTHS, Layer
from releq_gym.plain_numbers import is_whole
from releq_gym.registry import UnknownNameError


def group_by_prefix(layers: Sequence[Layer], prefixes: Sequence[str]) -> list[list[str]]:
    """Groups for ``groups=``: per prefix all layers of that submodule.

    ``group_by_prefix(layers, ["blocks.0", "blocks.1"])`` makes two groups, of the layers
    ``blocks.0.attn.proj``, ``blocks.0.mlp.fc1`` and so on, and of those of ``blocks.1``.

    Args:
        layers: Of the network, as `releq_gym.network_layers` returns them.
        prefixes: Dotted names of submodules, or of layers.

    Raises:
        UnknownNameError: For a prefix without a layer.
    """
    groups = []
    for prefix in prefixes:
        group = [layer.name for layer in layers if f"{layer.name}.".startswith(f"{prefix}.")]
        if not group:
            parts = [layer.name.split(".") for layer in layers]
            known = {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
            raise UnknownNameError("prefix of layers", prefix, known)
        groups.append(group)
    return groups


def check_bitwidths(bitwidths: Sequence[int] | None, evaluator: Evaluator) -> tuple[int, ...]:
    """The choice per layer, ascending.

    Args:
        bitwidths: None means all that the evaluator has.
        evaluator: Has to know them.

    Raises:
        ValueError: For bitwidths it does not have, or none at all.
    """
    known = tuple(evaluator.bitwidths)
    if list(known) != sorted(set(known) & set(BITWIDTHS)) or not known:
        raise ValueError(
            f"The bitwidths of {evaluator.name} are {known!r}; they have to be whole numbers from "
            "1 to 8, ascending."
        )
    if bitwidths is None:
        return known
    listed = as_list(bitwidths)
    missing = [bitwidth for bitwidth in listed if bitwidth not in evaluator.bitwidths]
    if missing or not listed:
        raise ValueError(
            f"bitwidths={bitwidths!r} must be a non-empty subset of what {evaluator.name} "
            f"has: {', '.join(map(str, evaluator.bitwidths))}."
        )
    return tuple(sorted({int(bitwidth) for bitwidth in listed}))


def are_bitwidths(listed: list[Any]) -> bool:
    """Whether it is one or more whole numbers, 1 to 8."""
    return bool(listed) and all(is_whole(one) and one in BITWIDTHS for one in listed)


def as_list(bitwidths: Any) -> list[Any]:
    """The bitwidths to choose from, as they were given.

    Raises:
        ValueError: For what is no list of them.
    """
    if isinstance(bitwidths, str | Mapping) or not isinstance(bitwidths, Iterable):
        raise ValueError(
            f"bitwidths={bitwidths!r} has to be a list for all layers, such as [2, 4, 8]; "
            "fixed_bitwidths={layer: bitwidth} says what one layer has."
        )
    return list(bitwidths)


def check_fixed(fixed: Any, evaluator: Evaluator) -> dict[int, int]:
    """The bitwidths of the layers that are not chosen, by index.

    Args:
        fixed: ``{layer name: bitwidth}``.
        evaluator: Has to know both.

    Raises:
        ValueError: For anything else.
    """
    if not isinstance(fixed, Mapping):
        raise ValueError(f"fixed_bitwidths={fixed!r} must be a dict of {{layer name: bitwidth}}.")
    names = [layer.name for layer in evaluator.layers]
    indexed = {}
    for name, bitwidth in fixed.items():
        if name not in names:
            raise UnknownNameError("layer in fixed_bitwidths", name, names)
        if bitwidth not in evaluator.bitwidths:
            raise ValueError(
                f"fixed_bitwidths[{name!r}] = {bitwidth!r} is not among the bitwidths of "
                f"{evaluator.name}: {', '.join(map(str, evaluator.bitwidths))}."
            )
        indexed[names.index(name)] = int(bitwidth)
    return indexed


def check_groups(
    groups: Any, fixed: Mapping[int, int], evaluator: Evaluator
) -> tuple[tuple[int, ...], ...]:
    """What each step decides: indices of layers, in the order of the first of them.

    Args:
        groups: Lists of layer names; a layer that is in none is a group of its own.
        fixed: Bitwidths of layers that are not chosen, by index.
        evaluator: Has to know the layers.

    Raises:
        ValueError: For anything else, an empty group, or a layer that is named twice or fixed.
    """
    if not _is_list(groups) or not all(map(_is_list, groups)):
        raise ValueError(
            f"groups={groups!r} must be a list of lists of layer names, such as "
            "[['conv1', 'conv2'], ['fc1', 'fc2']]."
        )
    names = [layer.name for layer in evaluator.layers]
    group_of: dict[int, tuple[int, ...]] = {}
    for group in groups:
        if not group:
            raise ValueError(f"groups={groups!r} holds an empty group; leave it out.")
        for name in group:
            _check_grouped(name, names, fixed)
        indices = tuple(sorted(map(names.index, group)))
        for index in indices:
            if index in group_of or indices.count(index) > 1:
                raise ValueError(
                    f"groups names layer {names[index]!r} twice; it can follow one group only."
                )
        group_of |= dict.fromkeys(indices, indices)
    chosen = [index for index in range(len(names)) if index not in fixed]
    return tuple(dict.fromkeys(group_of.get(index, (index,)) for index in chosen))


class MeasuredChoices:
    """What may be chosen next where only some assignments were measured.

    Args:
        choices: Bitwidths of those, one per step.
        bitwidths: The choice per step, ascending.
    """

    def __init__(self, choices: Sequence[Sequence[int]], bitwidths: Sequence[int]):
        self._masks: dict[tuple[int, ...], NDArray[np.bool_]] = {}
        self._choices = set(map(tuple, choices))
        self._bitwidths = np.array(bitwidths)
        self._nothing = np.zeros(len(bitwidths), dtype=np.bool_)
        positions = {bitwidth: position for position, bitwidth in enumerate(bitwidths)}
        for choice in self._choices:
            for step, bitwidth in enumerate(choice):
                mask = self._masks.setdefault(choice[:step], self._nothing.copy())
                mask[positions[bitwidth]] = True

    def __len__(self) -> int:
        return len(self._choices)

    def __contains__(self, choice: Sequence[int]) -> bool:
        """Whether this was measured."""
        return tuple(choice) in self._choices

    def ever(self) -> NDArray[np.bool_]:
        """Which bitwidths occur at each step, ``[steps, bitwidths]``."""
        choices = np.array(sorted(self._choices))
        return (choices[:, :, None] == self._bitwidths).any(axis=0)

    def after(self, step: Any, chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which bitwidths lead to something measured, ``[..., bitwidths]``.

        Args:
            step: Decisions taken, or an array of them.
            chosen: Bitwidths of all steps, later ones of no matter, ``[..., steps]``.
        """
        if chosen.ndim == 1:
            return self._masks.get(tuple(chosen[: int(step)].tolist()), self._nothing).copy()
        rows = zip(step.tolist(), chosen.tolist(), strict=True)
        return np.array([self._masks.get(tuple(row[:taken]), self._nothing) for taken, row in rows])


@cache
def nearest_allowed(count: int) -> NDArray[np.intp]:
    """What is executed for each of so many choices, under every mask, ``[masks, choices]``.

    The choice where it is allowed, else the nearest lower one that is, else the nearest. A mask is
    the number whose bit ``i`` says whether choice ``i`` is allowed, as `np.packbits` counts with
    ``bitorder="little"``; nothing allowed leaves every choice as it is.
    """
    taken = np.tile(np.arange(count), (2**count, 1))
    for mask in range(1, 2**count):
        allowed = [choice for choice in range(count) if mask >> choice & 1]
        lower = [
            max((one for one in allowed if one <= i), default=allowed[0]) for i in range(count)
        ]
        taken[mask] = lower
    taken.flags.writeable = False  # shared by all that ask
    return taken


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _check_grouped(name: Any, names: Sequence[str], fixed: Mapping[int, int]) -> None:
    if name not in names:
        raise UnknownNameError("layer in groups", name, names)
    if names.index(name) in fixed:
        raise ValueError(
            f"Layer {name!r} is in groups and in fixed_bitwidths; leave it out of one of them."
        )
