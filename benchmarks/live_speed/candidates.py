"""One candidate of a search: as the authors' scripts measure it, and as this package does.

Their scripts start a new Python process for every assignment, which loads the data, retrains for
whole epochs and tests. ``python -m benchmarks.live_speed.candidates NET`` is such a process: it
does all of that, but only 50 of the steps, and states how many there would be.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from typing import Any

import torch

STEPS = 50

EPOCHS = {"lenet": 5, "simplenet": 10, "svhn10": 5, "resnet20": 10, "vgg11": 10}
"""Of the authors' released code."""

BATCH_SIZE = 256
"""Likewise."""

COLUMNS = (
    "net", "epochs", "steps", "start_s", "step_ms", "script_s", "ours_s", "ratio", "threads",
)  # fmt: skip


def measure(net: str, data: str | None) -> dict[str, Any]:
    """Seconds of one candidate, and the ratio to those of a short retraining here."""
    from releq_gym.evaluators.live import LiveEvaluator

    command = [sys.executable, "-m", "benchmarks.live_speed.candidates", net]
    command += ["--data", data] if data else []
    started = time.perf_counter()
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    whole = time.perf_counter() - started
    script = json.loads(printed)
    start = whole - STEPS * script["step_s"]

    live = LiveEvaluator(
        net, data=data, recipe="short", memo=False, repeats=1,
        search_from_train=True,
    )  # fmt: skip
    assignment = [4] * len(live.layers)
    live.measure(assignment, 0)
    started = time.perf_counter()
    live.measure(assignment, 1)
    ours = time.perf_counter() - started
    total = start + script["steps"] * script["step_s"]
    return {
        "net": net,
        "epochs": EPOCHS[net],
        "steps": script["steps"],
        "start_s": start,
        "step_ms": 1e3 * script["step_s"],
        "script_s": total,
        "ours_s": ours,
        "ratio": total / ours,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """One candidate, its retraining cut short; prints JSON."""
    from releq_gym.evaluators.live import LiveEvaluator
    from releq_gym.networks import Recipe

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live_speed.candidates", description=__doc__
    )
    parser.add_argument("net", choices=EPOCHS)
    parser.add_argument("--data")
    options = parser.parse_args()
    live = LiveEvaluator(
        options.net,
        data=options.data,
        recipe="short",
        memo=False,
        search_from_train=True,
    )
    train = live.splits.train
    assert train is not None
    recipe = Recipe(images=STEPS * BATCH_SIZE, batch_size=BATCH_SIZE, learning_rate=1e-3)
    one_step = dataclasses.replace(recipe, images=BATCH_SIZE)
    times = []
    for chosen in (one_step, one_step, recipe):  # the first one warms up
        started = time.perf_counter()
        live.train([4] * len(live.layers), 0, chosen)
        times.append(time.perf_counter() - started)
    # Both quantize the network; what they differ by are steps.
    step = (times[2] - times[1]) / (STEPS - 1)
    live.measure([4] * len(live.layers), 0, recipe="ptq")
    steps = EPOCHS[options.net] * len(train) // BATCH_SIZE
    print(json.dumps({"step_s": step, "steps": steps}))


if __name__ == "__main__":
    main()
