"""Milliseconds of every layer of a network at every weight bitwidth, in a file."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np

import releq_gym
from releq_gym.hardware.geometry import Geometry, exact_answer, geometry_of
from releq_gym.hardware.tvm_bitserial import ACTIVATION_BITWIDTH
from releq_gym.hardware.tvm_operator import (
    Arguments,
    Operator,
    compile_layer,
    is_bitserial,
    processor,
    require_tvm,
)
from releq_gym.layers import BITWIDTHS, Layer
from releq_gym.whole_files import written_whole

SCHEMA = "releq-lookup/1"

ROUNDS = 101
"""How often each time is taken."""

ROUND_MS = 0.5
"""About how long a layer runs at one bitwidth each time; less than what a system that has other
work gives a process at a time, so that most rounds are not interrupted."""


@dataclass(frozen=True)
class Timing:
    """How long a layer takes for one image.

    Attributes:
        bitwidth: Of the weights.
        value: Median of the rounds, in milliseconds.
        spread: Their interquartile range, in milliseconds.
        operator: What ran, for instance ``"bitserial_dense"``.
    """

    bitwidth: int
    value: float
    spread: float
    operator: str


def measure_layer(
    layer: Layer, bitwidths: Sequence[int] = BITWIDTHS, rounds: int = ROUNDS
) -> list[Timing]:
    """Times one layer at several weight bitwidths on one thread, with activations of 8 bits.

    Random codes are weights and activations; before it is timed, each operator has to give what
    numpy gives. The bitwidths take turns in every round, so that a processor that slows down or
    has other work slows all of them. The data of a layer stays in the caches, as far as it fits.

    Args:
        layer: What to time; see `geometry_of` for what it does not tell.
        bitwidths: Of the weights, each 1 to 8.
        rounds: How often each time is taken.

    Raises:
        ModuleNotFoundError: If TVM is not installed.
        ValueError: If the layer cannot be measured, or a bitwidth or ``rounds`` is out of range.
        RuntimeError: If an operator computes something else than numpy.
    """
    _check(bitwidths, rounds)
    geometry = geometry_of(layer)
    serial = is_bitserial(geometry)
    built = [_operator(geometry, bitwidth) for bitwidth in (bitwidths if serial else (8,))]
    calls = [
        math.ceil(ROUND_MS / max(operator.milliseconds(arguments, 10), 1e-5))
        for operator, arguments in built
    ]
    times = np.array(
        [
            [
                operator.milliseconds(arguments, number)
                for (operator, arguments), number in zip(built, calls, strict=True)
            ]
            for _ in range(rounds)
        ]
    )
    low, middle, high = np.percentile(times, (25, 50, 75), axis=0)
    return [
        Timing(bitwidth, float(middle[k]), float(high[k] - low[k]), built[k][0].name)
        for bitwidth, k in zip(bitwidths, count() if serial else repeat(0), strict=False)
    ]


def measure_net(
    net: str,
    layers: Sequence[Layer],
    output: str | os.PathLike,
    bitwidths: Sequence[int] = BITWIDTHS,
    rounds: int = ROUNDS,
    command: str = "",
    advance: Callable[[int], object] = lambda layers: None,
) -> Path:
    """Writes what `measure_layer` finds of all layers of a network.

    Layers of the same shape are timed once. What is measured is kept in ``<output>.partial.json``
    after every shape, and taken up from there; that file goes when ``output`` is written.

    Args:
        net: What the network is called.
        layers: As `releq_gym.network_layers` returns them; their weights do not matter.
        output: JSON file to write, which may not exist.
        bitwidths: Of the weights, each 1 to 8.
        rounds: How often each time is taken.
        command: What was typed, for the file.
        advance: Called with the number of layers that were just finished.

    Returns:
        The file that was written.

    Raises:
        ModuleNotFoundError: If TVM is not installed.
        ValueError: If ``output`` exists, its partial file is of something else, or arguments are
            out of range.
        RuntimeError: If an operator computes something else than numpy.
    """
    _check(bitwidths, rounds)
    target = Path(output)
    if target.exists():
        raise ValueError(f"{target} exists; remove it to measure again, or name another output=.")
    partial = target.with_name(f"{target.name.removesuffix('.json')}.partial.json")
    head = {**_head(net, layers, command), "rounds": rounds}
    measured = _taken_up(partial, head)
    same: dict[Geometry, list[Layer]] = {}
    for layer in layers:
        same.setdefault(geometry_of(layer), []).append(layer)
    target.parent.mkdir(parents=True, exist_ok=True)
    for alike in same.values():
        wanted = {(layer.name, bitwidth) for layer in alike for bitwidth in bitwidths}
        if not wanted <= measured.keys():
            for timing in measure_layer(alike[0], bitwidths, rounds):
                for layer in alike:
                    measured[layer.name, timing.bitwidth] = _row(layer, timing)
            _write(partial, {**head, "rows": list(measured.values())})
        advance(len(alike))
    rows = [measured[layer.name, b] for layer in layers for b in bitwidths]
    _write(target, {**head, "rows": rows})
    partial.unlink(missing_ok=True)
    return target


def _check(bitwidths: Sequence[int], rounds: int) -> None:
    if not bitwidths or not set(bitwidths) <= set(BITWIDTHS):
        raise ValueError(f"bitwidths={list(bitwidths)} have to be whole numbers from 1 to 8.")
    if len(set(bitwidths)) < len(bitwidths):
        raise ValueError(f"bitwidths={list(bitwidths)} name one of them twice.")
    if rounds < 1:
        raise ValueError(f"rounds={rounds} has to be at least 1.")


def _operator(geometry: Geometry, bitwidth: int) -> tuple[Operator, Arguments]:
    """A compiled layer that computes what it should, on random codes."""
    operator = compile_layer(geometry, bitwidth)
    random = np.random.default_rng(0)
    activations = random.integers(0, 256, geometry.input_shape, dtype=np.uint8)
    half = 2 ** (bitwidth - 1)
    weights = random.integers(-half, half, geometry.weight_shape, dtype=np.int8)
    arguments = operator.arguments(activations, weights)
    expected = exact_answer(geometry, activations, weights)
    if not np.array_equal(operator.answer(arguments), expected):
        raise RuntimeError(
            f"{operator.name} at {bitwidth} bits computes something else than numpy for "
            f"{geometry}; please report this."
        )
    return operator, arguments


def _head(net: str, layers: Sequence[Layer], command: str) -> dict[str, Any]:
    tvm = require_tvm()
    return {
        "schema": SCHEMA,
        "figure": "milliseconds",
        "net": net,
        "cpu": f"{_cpu_model()} ({processor()})",
        "threads": 1,
        "versions": {"tvm": tvm.__version__, "releq_gym": releq_gym.__version__},
        "activation_bitwidth": ACTIVATION_BITWIDTH,
        "command": command,
        "layers": [
            {
                "layer": layer.name,
                "weight_shape": list(layer.weight_shape),
                "macs": layer.macs,
                "kind": layer.kind,
            }
            for layer in layers
        ],
    }


def _cpu_model() -> str:
    """The processor's name, as Linux or else Python knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _row(layer: Layer, timing: Timing) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "bitwidth": timing.bitwidth,
        "value": timing.value,
        "spread": timing.spread,
        "operator": timing.operator,
    }


def _taken_up(partial: Path, head: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows that are measured already, by layer and bitwidth."""
    if not partial.exists():
        return {}
    try:
        kept = json.loads(partial.read_text())
        rows = {(row["layer"], row["bitwidth"]): row for row in kept["rows"]}
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{partial} is damaged; remove it to start afresh.") from None
    differing = [name for name in head if name != "command" and kept.get(name) != head[name]]
    if differing:
        raise ValueError(
            f"{partial} was begun with another {differing[0]}; remove it to start afresh, or name "
            "another output=."
        )
    return rows


def _write(file: Path, content: dict[str, Any]) -> None:
    with written_whole(file) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")
