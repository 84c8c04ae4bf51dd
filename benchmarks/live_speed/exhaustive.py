"""Every assignment of a small network: one tree of shared work against one run for each."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.live_speed.naive import Naive
from releq_gym.evaluators.forward import SharedForward
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.training.accuracy import batch_size, top1

NETS = ("lenet",)

SAMPLED = 32
"""Assignments that the loop is timed and compared on; the rest is extrapolated."""

TIE = 1e-4
"""Two largest outputs as close as that may change places by rounding."""

COLUMNS = (
    "net", "images", "assignments", "shared_s", "naive_s", "ratio", "naive_run_s", "ratio_run",
    "compared", "different", "different_no_tie", "threads",
)  # fmt: skip


def measure(net: str, data: str | None) -> dict[str, Any]:
    """One row: the seconds of both, and where their predictions differ."""
    live = LiveEvaluator(
        net,
        data=data,
        quantizer="uniform",
        recipe="ptq",
        precision="float32",
        memo=False,
    )
    every = list(itertools.product(live.bitwidths, repeat=len(live.layers)))
    started = time.perf_counter()
    live.measure_many(every)
    shared = time.perf_counter() - started

    naive, rng = Naive(live), np.random.default_rng(0)
    chosen = sorted(every[i] for i in rng.choice(len(every), SAMPLED, replace=False))
    answers = [naive.answer(assignment) for assignment in chosen]
    quantizing = sum(answer.quantizing for answer in answers) / SAMPLED * len(every)
    running = sum(answer.running for answer in answers) / SAMPLED * len(every)
    different, no_tie = _compare(live, chosen, torch.stack([a.outputs for a in answers]))
    return {
        "net": net,
        "images": live.images,
        "assignments": len(every),
        "shared_s": shared,
        "naive_s": quantizing + running,
        "ratio": (quantizing + running) / shared,
        "naive_run_s": running,
        "ratio_run": running / shared,
        "compared": SAMPLED * live.images,
        "different": different,
        "different_no_tie": no_tie,
        "threads": torch.get_num_threads(),
    }


def _compare(live: LiveEvaluator, chosen: list[tuple[int, ...]], naive: Tensor) -> tuple[int, int]:
    """Predictions that differ, and those of them that are no ties."""
    outputs = _outputs_of_the_tree(live, chosen)
    differ = outputs.argmax(2) != naive.argmax(2)
    best, second = naive.topk(2, dim=2).values.unbind(2)
    return int(differ.sum()), int((differ & (best - second >= TIE)).sum())


def _outputs_of_the_tree(live: LiveEvaluator, chosen: list[tuple[int, ...]]) -> Tensor:
    """What the tree computes for the chosen assignments, ``[assignments, images, classes]``."""
    calls: list[Tensor] = []

    def keep(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(outputs.clone())
        return top1(outputs, targets)

    names, search = [layer.name for layer in live.layers], live.splits.search
    probe = live.normalise(search.images[:8])
    forward = SharedForward(live.module, names, live.quantizer, probe, score=keep)
    forward.scores(chosen, search, live.normalise)
    batches = []
    size = batch_size(search.images.shape[1:], search.images.device)
    for batch in search.labels.split(size):
        # Leaves of the tree come in order; several of them may have come in one call.
        found = 0
        parts = []
        while found < len(chosen):
            part = calls.pop(0).unflatten(0, (-1, len(batch)))
            parts.append(part)
            found += len(part)
        batches.append(torch.cat(parts))
    return torch.cat(batches, dim=1)
