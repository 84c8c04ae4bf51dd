"""Steps per second of the environment, single and vector, beside CartPole in the same process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.throughput.sweep import ID, REFERENCE, SETTINGS

ROUNDS = 31
"""Each takes steps of both; a further first one is not counted."""

SINGLE_STEPS, VECTOR_STEPS = 1_000, 50
"""Per round; a vector step moves all copies."""

SINGLE_COLUMNS = ("task", "setting", "steps_per_s", "cartpole_steps_per_s", "ratio")

VECTOR_COLUMNS = ("task", "setting", "copies", "steps_per_s", "cartpole_steps_per_s", "ratio")


def measure_single(
    task: str, setting: str, rounds: int = ROUNDS, steps: int = SINGLE_STEPS
) -> dict[str, Any]:
    """One row: random episodes, resets included, of environments as `gymnasium.make` wraps them."""
    envs = [gym.make(ID, task=task, **SETTINGS[setting]), gym.make(REFERENCE)]
    ours, cartpole, ratio = in_turns([partial(_walk, env, steps) for env in envs], rounds)
    return {
        "task": task,
        "setting": setting,
        "steps_per_s": steps / ours,
        "cartpole_steps_per_s": steps / cartpole,
        "ratio": 1 / ratio,
    }


def measure_vector(
    task: str, setting: str, copies: int, rounds: int = ROUNDS, steps: int = VECTOR_STEPS
) -> dict[str, Any]:
    """One row: random actions in the native vector environments; a step is one of one copy."""
    envs = [
        gym.make_vec(name, copies, vectorization_mode="vector_entry_point", **options)
        for name, options in ((ID, {"task": task, **SETTINGS[setting]}), (REFERENCE, {}))
    ]
    ours, cartpole, ratio = in_turns([partial(walk_many, env, steps) for env in envs], rounds)
    return {
        "task": task,
        "setting": setting,
        "copies": copies,
        "steps_per_s": steps * copies / ours,
        "cartpole_steps_per_s": steps * copies / cartpole,
        "ratio": 1 / ratio,
    }


def in_turns(walks: list[Callable[[], float]], rounds: int) -> tuple[float, float, float]:
    """Median seconds of two walks, and the median of the first's over the second's by round.

    Times are the processor's, which other programs disturb less than the clock on the wall; what
    still disturbs hits both of a round alike.
    """
    times = [[walk() for walk in walks] for _ in range(rounds + 1)][1:]
    first, second = (statistics.median(column) for column in zip(*times, strict=True))
    return first, second, statistics.median(one / other for one, other in times)


def _walk(env: gym.Env, steps: int) -> float:
    actions = np.random.default_rng(0).integers(env.action_space.n, size=steps).tolist()  # type: ignore[attr-defined]
    env.reset()
    started = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return time.process_time() - started


def walk_many(envs: gym.vector.VectorEnv, steps: int) -> float:
    """Seconds that random actions take."""
    choices = envs.single_action_space.n  # type: ignore[attr-defined]
    actions = np.random.default_rng(0).integers(choices, size=(steps, envs.num_envs))
    envs.reset()
    started = time.process_time()
    for chosen in actions:
        envs.step(chosen)
    return time.process_time() - started
