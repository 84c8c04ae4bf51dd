"""How well analytic models put assignments in the order of a measured CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from releq_gym.costs import make_cost
from releq_gym.layers import BITWIDTHS
from releq_gym.networks.profile import network_layers

MODELS = (
    "weight_serial", "stripes", "bit_fusion", "bit_operations", "quantization_state", "model_size",
    "weighted_bitwidth", "average_bitwidth",
)  # fmt: skip

ASSIGNMENTS, SEED = 200, 0

COLUMNS = ("net", "model", "assignments", "spearman")


def measure(net: str) -> list[dict[str, Any]]:
    """One row per model: Spearman of its headline with the measured milliseconds.

    Raises:
        ValueError: Where no measured table fits the network.
    """
    layers = network_layers(net)
    digits = np.random.default_rng(SEED).integers(len(BITWIDTHS), size=(ASSIGNMENTS, len(layers)))

    def cost(model: str) -> np.ndarray:
        headline = next(iter(make_cost(model)(layers, BITWIDTHS).values()))
        return headline[np.arange(len(layers)), digits].sum(axis=1)

    measured = cost("tvm_cpu")
    return [
        {
            "net": net,
            "model": model,
            "assignments": ASSIGNMENTS,
            "spearman": float(spearmanr(cost(model), measured).statistic),
        }
        for model in MODELS
    ]
