"""What part of training the environment takes."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import gymnasium as gym

from benchmarks.throughput.sweep import ID

COPIES = 4
"""Environments side by side, one after the other in one process."""

STEPS = 8_192
"""In all of them together: whole rollouts of both agents."""

COLUMNS = ("net", "agent", "steps", "environment_s", "training_s", "percent")


class Stopwatch(gym.Wrapper):
    """Adds up the processor's seconds inside an environment.

    Attributes:
        seconds: So far.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.seconds = 0.0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Timed."""
        started = time.process_time()
        returned = super().reset(**options)
        self.seconds += time.process_time() - started
        return returned

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Timed."""
        started = time.process_time()
        returned = super().step(action)
        self.seconds += time.process_time() - started
        return returned


def measure(net: str, agent: str, steps: int = STEPS) -> dict[str, Any]:
    """One row: one of `AGENTS`, on one thread of the CPU."""
    import torch
    from sb3_contrib import RecurrentPPO
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    from agents.lstm import MlpLstmPolicy

    kinds: dict[str, tuple[Any, str | type]] = {
        "PPO": (PPO, "MlpPolicy"),
        "RecurrentPPO": (RecurrentPPO, "MlpLstmPolicy"),
        "RecurrentPPO, agents.lstm": (RecurrentPPO, MlpLstmPolicy),
    }
    kind, policy = kinds[agent]
    torch.set_num_threads(1)
    watches = [Stopwatch(gym.make(ID, net=net)) for _ in range(COPIES)]
    model = kind(
        policy, DummyVecEnv([partial(_same, watch) for watch in watches]), seed=0, device="cpu"
    )
    before = sum(watch.seconds for watch in watches)
    started = time.process_time()
    model.learn(steps)
    training = time.process_time() - started
    environment = sum(watch.seconds for watch in watches) - before
    return {
        "net": net,
        "agent": agent,
        "steps": model.num_timesteps,
        "environment_s": environment,
        "training_s": training,
        "percent": 100 * environment / training,
    }


def _same(env: gym.Env) -> gym.Env:
    return env
