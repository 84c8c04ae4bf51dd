"""What a cost model and a budget take of the vector environment's speed."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym

from benchmarks.throughput.pace import in_turns, walk_many
from benchmarks.throughput.sweep import ID

COPIES, ROUNDS, STEPS = 1_024, 31, 50

COSTS: dict[str, dict[str, Any]] = {
    "weight_serial": {"cost": "weight_serial"},
    "weight_serial, budget": {"cost": "weight_serial", "cost_budget": {"cost": 0.6}},
}

COLUMNS = ("task", "cost", "steps_per_s", "default_steps_per_s", "ratio")


def measure(task: str, cost: str) -> dict[str, Any]:
    """One row: random actions, with the cost and with the default one, in turns."""
    envs = [
        gym.make_vec(ID, COPIES, vectorization_mode="vector_entry_point", task=task, **options)
        for options in (COSTS[cost], {})
    ]
    ours, default, ratio = in_turns([partial(walk_many, env, STEPS) for env in envs], ROUNDS)
    return {
        "task": task,
        "cost": cost,
        "steps_per_s": STEPS * COPIES / ours,
        "default_steps_per_s": STEPS * COPIES / default,
        "ratio": 1 / ratio,
    }
