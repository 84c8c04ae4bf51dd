"""The networks of the paper, live: one episode each, and the published bitwidths beside uniform."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np

from releq_gym.costs import make_cost
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.networks import Network, resolve_network
from releq_gym.problem import Problem
from releq_gym.rewards import make_reward
from releq_gym.training.fit import build_seeded

PUBLISHED = {
    "lenet": (2, 2, 3, 2),
    "simplenet": (5, 5, 5, 5, 5),
    "svhn10": (8, 4, 4, 4, 4, 4, 4, 4, 4, 8),
    "resnet20": (8, 2, 2, 3, 2, 2, 2, 3, 2, 3, 3, 3, 2, 2, 2, 3, 2, 2, 2, 2, 2, 8),
    "vgg11": (8, 5, 8, 5, 6, 6, 6, 6, 8),
    "vgg16": (8, 8, 8, 6, 8, 6, 8, 6, 8, 6, 8, 6, 8, 6, 8, 8),
    "alexnet": (8, 4, 4, 4, 4, 4, 4, 8),
    # Thirty numbers are published for a network of 28 layers; these are the first 28.
    "mobilenet": (
        8, 5, 6, 6, 4, 4, 7, 8, 4, 6, 8, 5, 5, 8, 6, 7, 7, 7, 6, 8, 6, 8, 8, 6, 7, 5, 5, 7,
    ),
}  # fmt: skip
"""Bitwidths of the paper."""

SHORT = ("lenet", "simplenet", "svhn10", "resnet20")
"""Nets that are measured after a short retraining too."""

UNTRAINED = ("alexnet",)
"""Nets whose public weights may be out of reach."""

COLUMNS = (
    "net", "data", "recipe", "assignment", "bitwidths", "weighted_bitwidth", "accuracy",
    "full_precision_accuracy", "loss_points", "images", "seconds",
)  # fmt: skip


def measure(net: str, recipe: str, data: str | None, weights: str | None) -> list[dict[str, Any]]:
    """Rows for a random episode and for the assignments, on search images, quantizer ``uniform``.

    `UNTRAINED` networks without weights are run as they are initialised, which says whether they
    run and how long they take, and nothing about bitwidths.
    """
    untrained = net in UNTRAINED and weights is None
    network = resolve_network(net)
    live = LiveEvaluator(
        Network(net, lambda: build_seeded(network, 0), dataset=network.dataset)
        if untrained
        else network,
        data=data,
        weights=weights,
        quantizer="uniform",
        quantizer_kwargs={"per_channel": True},
        recipe=recipe,
        repeats=1,
        search_from_train=True,
    )
    problem = Problem(
        live,
        reward=make_reward("accuracy_floor"),
        cost_model=make_cost("quantization_state"),
    )

    def row(name: str, assignment: tuple[int, ...]) -> dict[str, Any]:
        started = time.perf_counter()
        accuracy = live.evaluate(assignment, 0).accuracy
        full = live.full_precision_accuracy
        weighted = problem.economics(len(problem.steps), problem.totals(assignment))
        return {
            "net": net,
            "data": f"{live.splits.name}, untrained" if untrained else live.splits.name,
            "recipe": recipe,
            "assignment": name,
            "bitwidths": " ".join(map(str, assignment)),
            "weighted_bitwidth": weighted.weighted_bitwidth,
            "accuracy": accuracy,
            "full_precision_accuracy": full,
            "loss_points": 100 * (full - accuracy),
            "images": live.images,
            "seconds": time.perf_counter() - started,
        }

    published = PUBLISHED[net]
    layers = len(live.layers)
    bits = row("published", published)
    nearest = max(1, round(bits["weighted_bitwidth"]))
    return [
        row("random episode", _episode(live)),
        row("uniform 8", (8,) * layers),
        bits,
        row(f"uniform {nearest}", (nearest,) * layers),
    ]


def _episode(live: LiveEvaluator) -> tuple[int, ...]:
    """The bitwidths of one random episode of the environment."""
    env = gym.make("releq/QuantizeNet-v0", evaluator=live)
    env.reset(seed=0)
    rng, over = np.random.default_rng(0), False
    info: dict[str, Any] = {}
    while not over:
        _, _, over, _, info = env.step(int(rng.integers(len(live.bitwidths))))
    return info["bitwidths"]
