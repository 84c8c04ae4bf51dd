"""PPO in one file, in CleanRL's style, on Gymnasium's vector API: no agent library, only torch.

python -m agents.examples.ppo_single_file --task synthetic-20-0 --updates 100
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Categorical

import releq_gym  # noqa: F401  (registers the environments)


@dataclass
class Args:
    """PPO on many copies of the environment."""

    task: str = "digits-digits-wrpn-short-w2to8"
    """Task by name."""
    num_envs: int = 16
    """Copies side by side."""
    updates: int = 60
    """Of the policy; before each, every copy plays one episode."""
    evaluation_budget: int = 600
    """Different assignments that may be measured, by all copies together."""
    learning_rate: float = 3e-3
    """Of Adam."""
    epochs: int = 8
    """Passes over the episodes of an update."""
    gae_lambda: float = 0.95
    """Bias against variance of the advantages; the discount is 1."""
    clip: float = 0.2
    """How far an update may move the probability of an action."""
    entropy: float = 0.02
    """Weight of the policy's entropy."""
    seed: int = 0
    """Of everything."""


class Network(nn.Module):
    """Policy and value on one observation."""

    def __init__(self, features: int, choices: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(features, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh()
        )
        self.policy, self.value = nn.Linear(128, choices), nn.Linear(128, 1)

    def forward(self, observations: Tensor) -> tuple[Categorical, Tensor]:
        """Of a batch."""
        hidden = self.body(observations)
        return Categorical(logits=self.policy(hidden)), self.value(hidden).squeeze(-1)


def main(args: Args) -> gym.vector.VectorEnv:
    """Trains, prints the best assignment seen, and returns the environment."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    envs = gym.make_vec(
        "releq/QuantizeNet-v0",
        num_envs=args.num_envs,
        vectorization_mode="vector_entry_point",
        task=args.task,
        evaluation_budget=args.evaluation_budget,
    )
    releq: Any = envs.unwrapped
    steps = len(releq.problem.steps)
    network = Network(releq.single_observation_space.shape[0], releq.single_action_space.n)
    optimizer = torch.optim.Adam(network.parameters(), args.learning_rate)
    observation, _ = envs.reset(seed=args.seed)
    for _ in range(args.updates):
        kept = []
        for _ in range(steps):  # all copies are at the same layer
            seen = torch.as_tensor(observation)
            with torch.no_grad():
                choice, value = network(seen)
                action = choice.sample()
            observation, reward, _, truncated, _ = envs.step(action.numpy())
            kept.append((seen, action, choice.log_prob(action), value, torch.as_tensor(reward)))
        if truncated.any():  # the evaluation budget is spent
            break
        seen, action, before, value, reward = map(torch.stack, zip(*kept, strict=True))
        advantage = torch.zeros_like(value)
        following, after = torch.zeros(args.num_envs), torch.zeros(args.num_envs)
        for step in reversed(range(steps)):
            after = reward[step].float() + following - value[step] + args.gae_lambda * after
            advantage[step], following = after, value[step]
        returns = advantage + value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(args.epochs):
            choice, estimate = network(seen)
            ratio = (choice.log_prob(action) - before).exp()
            clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
            loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
            loss += 0.5 * (estimate - returns).square().mean()
            loss -= args.entropy * choice.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
    best = releq.ledger.best(releq.problem)
    print(f"{releq.ledger.distinct} assignments asked, the best: {best}")
    return envs


if __name__ == "__main__":
    main(tyro.cli(Args))
