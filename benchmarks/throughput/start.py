"""What it takes until the first observation, in a fresh interpreter."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.throughput.sweep import ID, REFERENCE

RUNS = 5

COLUMNS = ("task", "process_s", "wall_s", "peak_mib", "torch")

_PEAK = """
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
"""
"""In KiB. Not ``ru_maxrss``, in which Linux counts what the parent took before the child began."""

_CHILD = f"""
import json, sys, time
import gymnasium
name, options, started = json.loads(sys.argv[1])
if options:
    import releq_gym
gymnasium.make(name, **options).reset(seed=0)
seconds = time.process_time(), time.time() - started
{_PEAK}
print(json.dumps([*seconds, peak / 1024, "torch" in sys.modules]))
"""


def measure(task: str, runs: int = RUNS) -> dict[str, Any]:
    """One row: medians over runs; `REFERENCE` stands for Gymnasium by itself.

    Args:
        task: By name.
        runs: Fresh interpreters; a first one, which fills the disk's cache, is not counted.
    """
    seen = [_start(task) for _ in range(runs + 1)][1:]
    process, wall, peak, torch = zip(*seen, strict=True)
    return {
        "task": task,
        "process_s": statistics.median(process),
        "wall_s": statistics.median(wall),
        "peak_mib": statistics.median(peak),
        "torch": "yes" if any(torch) else "no",
    }


def _start(task: str) -> tuple[float, float, float, bool]:
    made = (REFERENCE, {}) if task == REFERENCE else (ID, {"task": task})
    arguments = json.dumps([*made, time.time()])
    command = [sys.executable, "-c", _CHILD, arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(json.loads(printed))
