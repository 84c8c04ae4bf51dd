"""NAME=VALUE, as commands spell it."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def each(convert: Callable[[str], tuple[str, T]], typed: Sequence[str]) -> dict[str, T]:
    """Several pairs, by name.

    Args:
        convert: One of the functions below.
        typed: What was typed.

    Raises:
        ValueError: For what it refuses, or a name that stands there twice.
    """
    pairs: dict[str, T] = {}
    for name, value in map(convert, typed):
        if name in pairs:
            raise ValueError(f"{name} is set twice, to {pairs[name]} and to {value}; once will do.")
        pairs[name] = value
    return pairs


def add_recipe_kwargs(parser: argparse.ArgumentParser, recipe: str, example: str) -> None:
    """An option for fields of a recipe, to be read by `each` `name_and_value`."""
    parser.add_argument(
        "--recipe-kwargs",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"fields of the {recipe} recipe that are set otherwise, such as {example}",
    )


def layer_and_bits(typed: str) -> tuple[str, int]:
    """``"fc=8"`` as a layer and its bitwidth.

    Raises:
        ValueError: For anything else.
    """
    layer, _, bits = typed.rpartition("=")
    if not layer or not bits.isdecimal():
        raise ValueError(f"{typed} has to read LAYER=BITS, such as fc=8.")
    return layer, int(bits)


def figure_and_limit(typed: str) -> tuple[str, float]:
    """``"cost=0.4"`` as a figure of a cost model and its limit.

    Raises:
        ValueError: For anything else.
    """
    figure, _, value = typed.partition("=")
    try:
        if figure:
            return figure, float(value)
    except ValueError:
        pass
    raise ValueError(f"{typed} has to read FIGURE=LIMIT, such as cost=0.4.")


def name_and_value(typed: str) -> tuple[str, Any]:
    """``"path=table.csv"`` as a name and a value: a number, true or false, else text.

    Raises:
        ValueError: Without a name, or an equals sign.
    """
    name, equals, value = typed.partition("=")
    if not name or not equals:
        raise ValueError(f"{typed} has to read NAME=VALUE, such as path=table.csv.")
    try:
        return name, json.loads(value.lower() if value in ("True", "False") else value)
    except json.JSONDecodeError:
        pass
    try:
        number = float(value)  # such as .01, which JSON does not know
    except ValueError:
        return name, value
    return name, number if math.isfinite(number) else value
