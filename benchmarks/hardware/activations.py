"""Accuracy with activations at 8 bits, which the hardware figures assume, beside that without."""

from __future__ import annotations

import contextlib
from typing import Any

from benchmarks.hardware.published import MODELS, totals
from benchmarks.live_speed.nets import PUBLISHED
from releq_gym.costs import make_cost
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.layers import BITWIDTHS

ACTIVATIONS = (32, 8)

COLUMNS = (
    "net", "assignment", "bitwidths", "images", "full_precision_accuracy", "accuracy_a32",
    "accuracy_a8", *(f"{model}_speed_up" for model in MODELS),
)  # fmt: skip


def measure(net: str, data: str | None, weights: str | None) -> list[dict[str, Any]]:
    """Rows for all layers at 8 bits and for the published assignment, ``ptq``, on search images.

    Raises:
        ValueError: Where weights or images are not at hand.
    """
    evaluators = [
        LiveEvaluator(
            net,
            data=data,
            weights=weights,
            quantizer="uniform",
            quantizer_kwargs={"per_channel": True},
            recipe="ptq",
            activation_bitwidth=bits,
            repeats=1,
            search_from_train=True,
        )
        for bits in ACTIVATIONS
    ]
    layers = evaluators[0].layers
    rows = []
    for name, bitwidths in (("8 bits", (8,) * len(layers)), ("published", PUBLISHED[net])):
        row: dict[str, Any] = {
            "net": net,
            "assignment": name,
            "bitwidths": " ".join(map(str, bitwidths)),
            "images": evaluators[0].images,
            "full_precision_accuracy": evaluators[0].full_precision_accuracy,
        }
        for bits, evaluator in zip(ACTIVATIONS, evaluators, strict=True):
            row[f"accuracy_a{bits}"] = evaluator.evaluate(bitwidths, 0).accuracy
        for model in MODELS:
            with contextlib.suppress(ValueError):  # no CPU has been measured for every network
                milliseconds = make_cost(model)(layers, BITWIDTHS)["milliseconds"]
                at_8, there = totals(milliseconds, layers, bitwidths)
                row[f"{model}_speed_up"] = at_8 / there
        rows.append(row)
    return rows
