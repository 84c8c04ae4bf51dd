"""RLlib's PPO with an LSTM on the environment.

RLlib pins a Gymnasium of its own, so it gets its own virtual environment:

    python3 -m venv .rllib && .rllib/bin/pip install -e . 'ray[rllib]' torch
    .rllib/bin/python -m agents.examples.rllib_lstm
"""

from __future__ import annotations

import argparse

import gymnasium as gym
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env


def make_env(config: dict) -> gym.Env:
    """In a worker, which has imported nothing yet."""
    return gym.make("releq_gym:releq/QuantizeNet-v0", **config)


def main() -> None:
    """Trains and prints the mean return after every iteration."""
    parser = argparse.ArgumentParser(prog="python -m agents.examples.rllib_lstm")
    parser.add_argument("--task", default="digits-digits-wrpn-short-w2to8")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--steps", type=int, default=400, help="of the environment per iteration")
    options = parser.parse_args()
    register_env("releq", make_env)
    algorithm = (
        PPOConfig()
        .environment("releq", env_config={"task": options.task})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(
            train_batch_size_per_learner=options.steps,
            minibatch_size=options.steps // 2,
            num_epochs=8,
            lr=3e-3,
            gamma=1.0,
            entropy_coeff=0.01,
        )
        .rl_module(
            model_config=DefaultModelConfig(
                use_lstm=True, max_seq_len=32, lstm_cell_size=128, fcnet_hiddens=[128]
            )
        )
        .debugging(seed=0)
        .build_algo()
    )
    for iteration in range(options.iterations):
        result = algorithm.train()
        mean = result["env_runners"]["episode_return_mean"]
        print(f"iteration {iteration + 1}: mean return {mean:.4f}", flush=True)
    algorithm.stop()


if __name__ == "__main__":
    main()
