"""A sample of assignments: what shared prefixes, memory layout and precision each bring."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.live_speed.naive import Naive
from releq_gym.datasets import Split, load_splits
from releq_gym.evaluators.forward import SharedForward
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.training.accuracy import top1

NETS = ("resnet20", "vgg11")

ASSIGNMENTS = 500

TIMED = 8
"""Assignments that the loop is timed on; the rest is extrapolated."""

VARIANTS = {
    "naive": (False, False, torch.float32),
    "naive, channels-last": (False, True, torch.float32),
    "naive, channels-last, bfloat16": (False, True, torch.bfloat16),
    "prefixes": (True, False, torch.float32),
    "prefixes, channels-last": (True, True, torch.float32),
    "prefixes, channels-last, bfloat16": (True, True, torch.bfloat16),
}
"""Whether prefixes are shared, whether weights lie channels-last, what is computed in."""

COLUMNS = (
    "net", "images", "assignments", "variant", "seconds", "ratio", "of_which_quantizing_s",
    "threads",
)  # fmt: skip


def measure(net: str, data: str | None, images: int) -> list[dict[str, Any]]:
    """One row per variant; the ratio is to the naive one in float32."""
    live = LiveEvaluator(
        net,
        data=load_splits("cifar10", data).first(images),
        quantizer="uniform",
        recipe="ptq",
        precision="float32",
        memo=False,
        search_from_train=True,
    )
    assignments = list(mixture(len(live.layers), live.bitwidths, ASSIGNMENTS, seed=0))
    rows: list[dict[str, Any]] = []
    for variant, (shares, channels_last, dtype) in VARIANTS.items():
        layout = torch.channels_last if channels_last else torch.contiguous_format
        live.module.to(memory_format=layout)
        seconds, quantizing = (
            _by_tree(live, assignments, dtype) if shares else _one_by_one(live, assignments, dtype)
        )
        rows.append(
            {
                "net": net,
                "images": images,
                "assignments": len(assignments),
                "variant": variant,
                "seconds": seconds,
                "ratio": rows[0]["seconds"] / seconds if rows else 1.0,
                "of_which_quantizing_s": quantizing,
                "threads": torch.get_num_threads(),
            }
        )
    return rows


def _one_by_one(
    live: LiveEvaluator, assignments: list[tuple[int, ...]], dtype: torch.dtype
) -> tuple[float, float]:
    naive = Naive(live, dtype)
    naive.answer(assignments[-1])
    answers = [naive.answer(assignment) for assignment in assignments[:TIMED]]
    share = len(assignments) / TIMED
    quantizing = share * sum(answer.quantizing for answer in answers)
    return quantizing + share * sum(answer.running for answer in answers), quantizing


def _by_tree(
    live: LiveEvaluator, assignments: list[tuple[int, ...]], dtype: torch.dtype
) -> tuple[float, float]:
    names, search = [layer.name for layer in live.layers], live.splits.search
    started = time.perf_counter()
    probe = live.normalise(search.images[:8])
    forward = SharedForward(live.module, names, live.quantizer, probe, score=top1, dtype=dtype)
    one_image = Split(search.images[:1], search.labels[:1])
    uniform = [(bitwidth,) * len(names) for bitwidth in live.bitwidths]
    forward.scores(uniform, one_image, live.normalise)
    quantized = time.perf_counter()
    forward.scores(assignments, search, live.normalise)
    return time.perf_counter() - started, quantized - started


def mixture(
    layers: int, bitwidths: tuple[int, ...], count: int, seed: int
) -> Iterator[tuple[int, ...]]:
    """Different assignments, as surrogates are fitted to.

    35 % are uniformly random, 20 % lie around every average bitwidth, 10 % have one layer lowered
    or all alike, 35 % are from walks that lower one random layer by one bit.
    """
    rng, seen = np.random.default_rng(seed), set[tuple[int, ...]]()
    lowest, highest = bitwidths[0], bitwidths[-1]
    walk = np.full(layers, highest)
    while len(seen) < count:
        kind = rng.choice(4, p=(0.35, 0.2, 0.1, 0.35))
        if kind == 0:
            drawn = rng.integers(lowest, highest + 1, layers)
        elif kind == 1:
            around = np.rint(rng.normal(rng.uniform(lowest, highest), 1, layers))
            drawn = np.clip(around, lowest, highest).astype(int)
        elif kind == 2 and rng.random() < 0.3:
            drawn = np.full(layers, rng.integers(lowest, highest + 1))
        elif kind == 2:
            drawn = np.full(layers, highest)
            drawn[rng.integers(layers)] = rng.integers(lowest, highest)
        else:
            if (walk == lowest).all() or rng.random() < 0.02:
                walk = np.full(layers, highest)
            walk[rng.choice(np.flatnonzero(walk > lowest))] -= 1
            drawn = walk.copy()
        assignment = tuple(int(bitwidth) for bitwidth in drawn)
        if assignment not in seen:
            seen.add(assignment)
            yield assignment
