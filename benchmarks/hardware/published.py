"""The paper's assignments on every cost model, against all layers at 8 bits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.live_speed.nets import PUBLISHED
from releq_gym.costs import make_cost
from releq_gym.layers import BITWIDTHS, Layer
from releq_gym.networks.profile import network_layers

MODELS = ("weight_serial", "stripes", "bit_fusion", "tvm_cpu")
COLUMNS = (
    "net", "model", "bitwidths", "milliseconds_at_8_bits", "speed_up", "microjoules_at_8_bits",
    "energy_saving",
)  # fmt: skip

MEAN_COLUMNS = ("model", "nets", "figure", "arithmetic_mean", "geometric_mean")


def measure(net: str, model: str) -> dict[str, Any]:
    """One row.

    Raises:
        ValueError: Where no measured table fits the network.
    """
    bitwidths = PUBLISHED[net]
    layers = network_layers(net)
    figures = make_cost(model)(layers, BITWIDTHS)
    row: dict[str, Any] = {
        "net": net,
        "model": model,
        "bitwidths": " ".join(map(str, bitwidths)),
    }
    for figure, gained in (("milliseconds", "speed_up"), ("microjoules", "energy_saving")):
        if figure in figures:
            at_8, there = totals(figures[figure], layers, bitwidths)
            row |= {f"{figure}_at_8_bits": at_8, gained: at_8 / there}
    return row


def totals(
    values: np.ndarray, layers: Sequence[Layer], bitwidths: Sequence[int]
) -> tuple[float, float]:
    """Of a figure ``[layers, bitwidths]``: all layers at 8 bits, and an assignment."""
    chosen = values[np.arange(len(layers)), np.array(bitwidths) - 1]
    return float(values[:, -1].sum()), float(chosen.sum())


def means(model: str, rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Arithmetic and geometric means over the networks of a model's rows."""
    found = []
    for figure in ("speed_up", "energy_saving"):
        values = [float(row[figure]) for row in rows if row[figure]]
        if values:
            found.append(
                {
                    "model": model,
                    "nets": len(values),
                    "figure": figure,
                    "arithmetic_mean": statistics.fmean(values),
                    "geometric_mean": statistics.geometric_mean(values),
                }
            )
    return found
