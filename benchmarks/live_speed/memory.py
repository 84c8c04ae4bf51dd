"""What it is worth that glibc keeps the memory that is freed, see `keep_freed_memory`."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.live_speed.training_steps import begin, random_images
from releq_gym.datasets import Split, Splits
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.networks import resolve_network
from releq_gym.processes import process_pool
from releq_gym.training import device

NETS = ("lenet", "simplenet", "resnet20", "vgg11")

WORK = ("training step", "assignment")
"""A step under `lsq` in bfloat16, as in the paper's table; an assignment measured without
retraining on 1,000 images, sharing what it can with the one before. One thread."""

ROUNDS = 3
"""Processes of each kind, in turns."""

STEPS, ASSIGNMENTS = 20, 10
"""Timed in each process, after a few that are not."""

COLUMNS = (
    "net", "work", "default_ms", "kept_ms", "ratio", "default_faults", "kept_faults",
    "default_peak_mib", "kept_peak_mib",
)  # fmt: skip


class Timed(NamedTuple):
    """One process: processor time and page faults of one piece of work, and its largest size."""

    milliseconds: float
    faults: float
    peak_mib: float


def measure(net: str, work: str, rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians over processes that keep freed memory, and over those that do not."""
    times: dict[bool, list[Timed]] = {False: [], True: []}
    for _ in range(rounds):
        for keep in times:
            with process_pool(1) as pool:
                times[keep].append(pool.submit(_time, net, work, keep).result())
    default, kept = (_median(each) for each in times.values())
    return {
        "net": net,
        "work": work,
        "default_ms": default.milliseconds,
        "kept_ms": kept.milliseconds,
        "ratio": default.milliseconds / kept.milliseconds,
        "default_faults": default.faults,
        "kept_faults": kept.faults,
        "default_peak_mib": default.peak_mib,
        "kept_peak_mib": kept.peak_mib,
    }


def _median(timed: list[Timed]) -> Timed:
    return Timed(*map(statistics.median, zip(*timed, strict=True)))


def _time(net: str, work: str, keep: bool) -> Timed:
    torch.set_num_threads(1)
    if keep:
        if not device.keep_freed_memory():
            raise ValueError("this system, or its environment, does not let memory be kept")
        return _work(net, work)
    with patch.object(device, "keep_freed_memory"):
        return _work(net, work)


def _work(net: str, work: str) -> Timed:
    steps = _training_steps(net) if work == WORK[0] else _assignments(net)
    count = STEPS if work == WORK[0] else ASSIGNMENTS
    steps(3)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    steps(count)
    seconds = time.process_time() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    faults = after.ru_minflt - before.ru_minflt
    return Timed(1e3 * seconds / count, faults / count, after.ru_maxrss / 1024)


def _training_steps(net: str) -> Callable[[int], object]:
    run = begin(net, "lsq", 3 + STEPS, "cpu", precision="bfloat16")
    done = iter(range(run.steps))

    def steps(count: int) -> None:
        for _ in range(count):
            start = next(done)
            run.advance(start, start + 1)

    return steps


def _assignments(net: str) -> Callable[[int], object]:
    images, labels = random_images(resolve_network(net), 1_000)
    search = Split(images, labels)
    live = LiveEvaluator(
        net,
        data=Splits("random", None, search, lambda: search),
        quantizer="uniform",
        recipe="ptq",
        memo=False,
    )
    rng = np.random.default_rng(0)

    def steps(count: int) -> None:
        for _ in range(count):
            live.evaluate(rng.choice(live.bitwidths, len(live.layers)).tolist(), 0)

    return steps
