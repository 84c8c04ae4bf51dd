"""Random episodes that measure at every step, as the paper does on its small networks."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from benchmarks.live_speed.naive import Naive
from releq_gym.datasets import load_splits
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.training.loop import PRECISIONS

NETS = ("resnet20", "vgg11")

COLUMNS = (
    "net", "precision", "images", "steps", "shared_ms", "naive_ms", "ratio", "most_points_apart",
    "threads",
)  # fmt: skip


def measure(net: str, precision: str, data: str | None, images: int) -> dict[str, Any]:
    """One episode, both evaluators taking every step one after the other.

    Both have met every layer at every bitwidth before: what is timed is a step in a search that
    has been going on for a while. The loop quantizes all layers again at each step.
    """
    live = LiveEvaluator(
        net,
        data=load_splits("cifar10", data).first(images),
        quantizer="uniform",
        recipe="ptq",
        precision=precision,
        memo=False,
        search_from_train=True,
    )
    naive = Naive(live, PRECISIONS[precision])
    for bitwidth in live.bitwidths:
        live.evaluate([bitwidth] * len(live.layers), 0)
    envs = [
        gym.make("releq/QuantizeNet-v0", evaluator=evaluator, evaluate="every_step")
        for evaluator in (live, naive)
    ]
    for env in envs:
        env.reset(seed=0)
    rng, seconds, apart, over, steps = np.random.default_rng(0), [0.0, 0.0], 0.0, False, 0
    while not over:
        action, accuracies = int(rng.integers(len(live.bitwidths))), []
        for which, env in enumerate(envs):
            started = time.perf_counter()
            _, _, over, _, info = env.step(action)
            seconds[which] += time.perf_counter() - started
            accuracies.append(info["accuracy"])
        apart = max(apart, 100 * abs(accuracies[0] - accuracies[1]))
        steps += 1
    return {
        "net": net,
        "precision": precision,
        "images": images,
        "steps": steps,
        "shared_ms": 1e3 * seconds[0] / steps,
        "naive_ms": 1e3 * seconds[1] / steps,
        "ratio": seconds[1] / seconds[0],
        "most_points_apart": apart,
        "threads": torch.get_num_threads(),
    }
