"""Tiny worlds with known answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from releq_gym.costs import make_cost
from releq_gym.datasets import Splits, load_splits
from releq_gym.evaluators.base import Evaluation
from releq_gym.layers import Layer
from releq_gym.problem import Problem
from releq_gym.rewards import make_reward
from releq_gym.tasks.format import OK, Measurements, write_task

SQNR = (0.0, 6.0, 12.0, 18.0, 24.0, 30.0, 36.0, 42.0)


def unseen_digits() -> Splits:
    """The digits, for networks that were not trained on them."""
    return dataclasses.replace(load_splits("digits"), search_from_train=False)


def toy_layer(name: str, weights: int, macs: int) -> Layer:
    """A fully connected layer with one output."""
    return Layer(name, "linear", (1, weights), 1, 1, macs, 0.1, SQNR)


class ToyEvaluator:
    """Three layers; every bit below 4 costs ten points, repeats differ by a tenth of a point."""

    name = "toy"
    net = "toy"
    layers = (toy_layer("first", 10, 100), toy_layer("middle", 70, 100), toy_layer("last", 20, 300))
    bitwidths = (2, 4, 8)
    repeats = 4
    full_precision_accuracy = 0.9
    images = 1000

    def evaluate(self, bitwidths, repeat):
        missing = sum(max(4 - bitwidth, 0) for bitwidth in bitwidths)
        return Evaluation(0.9 - 0.05 * missing - 0.001 * max(repeat, 0), 5.0)


def toy_problem(**options) -> Problem:
    """The toy under the defaults, or ``options``."""
    defaults = {
        "reward": make_reward("accuracy_floor", max_loss_points=1.0),
        "cost_model": make_cost("quantization_state"),
    }
    return Problem(ToyEvaluator(), **{**defaults, **options})


def toy_task(folder: Path, repeats: int = 3, report: list[list[int]] | None = None) -> Path:
    """Writes a complete task of two layers at 2, 4 or 8 bits; returns its folder.

    Args:
        folder: Where.
        repeats: Per split.
        report: Images that every report repeat gets right, ``[first layer, last layer]``; None
            makes the splits differ by noise alone.
    """
    layers = [toy_layer("first", 10, 100), toy_layer("last", 30, 50)]
    bitwidths = [2, 4, 8]
    rng = np.random.default_rng(0)
    base = np.array([[500, 600, 700], [800, 890, 895], [810, 900, 900]]).reshape(-1, 1)

    def measured(start: int) -> Measurements:
        correct = base + rng.integers(-3, 4, (9, repeats))
        return Measurements(
            correct=correct.astype(np.uint32),
            milliseconds=np.full((9, repeats), 7, np.uint32),
            status=np.full((9, repeats), OK, np.uint8),
            seed=np.arange(start, start + repeats, dtype=np.uint32),
        )

    card = {
        "id": "toy-toy-wrpn-short-w2to8",
        "version": "1.0.0",
        "net": "toy",
        "quantizer": "wrpn",
        "recipe": "short",
        "activation_bitwidth": 32,
        "completeness": "exhaustive",
        "bitwidths": bitwidths,
        "layers": [layer.to_dict() for layer in layers],
        "full_precision": {"weights_sha256": "0", "correct": {"search": 900, "report": 905}},
        "splits": {"search": {"images": 1000}, "report": {"images": 1000}},
    }
    splits = {"search": measured(0), "report": measured(9)}
    if report is not None:
        splits["report"].correct[:] = np.reshape(report, (9, 1))
    write_task(folder, json.loads(json.dumps(card)), splits)
    return folder
