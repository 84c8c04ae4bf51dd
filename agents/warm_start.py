"""RecurrentPPO that goes on where a searcher that is not RL has stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from agents.base import AGENTS, Preset, Watch
from agents.recurrent_ppo import RecurrentPPOAgent, RecurrentPPOSettings
from releq_gym.searchers import SEARCHERS, Player

PLANNING = ("simulated_annealing", "pairwise_program")
"""Searchers that divide the whole budget up before they begin."""

FURTHER = 0.5
"""How much less likely a bitwidth is at first for each place that it lies further away."""

IMITATION_STEPS, IMITATION_RATE = 500, 3e-3
"""Gradient steps until the policy has the searcher's answer by heart, and their learning rate."""


@dataclass(frozen=True)
class WarmStartSettings(RecurrentPPOSettings):
    """How it begins, and how it goes on."""

    learning_rate: float = 1e-3
    """Of the optimizer; gentler than where nothing is known yet."""
    searcher: str = "integer_program"
    """Searches first; one of releq_gym/searchers/."""
    searched: int = 100
    """Different assignments that it may ask for."""
    changes: float = 2.0
    """Layers in which a walk differs from its answer at first, on average."""


DEFAULT = Preset(WarmStartSettings())
"""RecurrentPPO's, but for the learning rate, which is that of `pretrained`; not tuned.

On synthetic-16-1 3e-3, 3e-4 and 1e-4 were looked at, too, one run each: none of the four found
anything better than the integer program's answer within 200 further assignments.
"""


@AGENTS.register("warm_start")
class WarmStartAgent(RecurrentPPOAgent):
    """A searcher's answer, then RecurrentPPO from there.

    The searcher spends the first part of the budget. The policy then learns its answer by heart, as
    probabilities that fall to both sides of it, and PPO goes on from there.

    Args:
        make_env: As of `Agent`, likewise the following.
        settings: `WarmStartSettings`.
        seed: Fixes everything random.
        checkpoint: What `save` wrote.

    Raises:
        UnknownNameError: For an unknown searcher.
        ValueError: For an environment that measures at every step, or a searcher that plans.
    """

    presets = {"default": DEFAULT}  # noqa: RUF012

    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        settings: WarmStartSettings,
        seed: int,
        checkpoint: Path | None = None,
    ):
        if settings.searcher in PLANNING:
            raise ValueError(
                f"searcher={settings.searcher!r} plans the whole budget beforehand, of which it "
                "would have a part here; take integer_program, greedy or another one."
            )
        self._searcher = SEARCHERS[settings.searcher]
        super().__init__(make_env, settings, seed, checkpoint)
        if not hasattr(self.model, "search_seed"):
            self.model.search_seed = seed  # kept with the model: a search is taken up by replaying
        self._env = make_env()
        Player(self._env)  # refuses what no searcher can play on

    def learn(self, steps: int, watch: Watch) -> None:
        """See `Agent.learn`."""
        if self.steps == 0:
            if not self._search(watch):
                return
            answer = self.ledger.best(self.problem)
            if answer is not None:
                self._imitate([answer.bitwidths[layer] for layer in self.problem.steps])
        super().learn(steps, watch)

    def _search(self, watch: Watch) -> bool:
        """Lets the searcher spend its part; False where the watch stopped it."""
        env = _Part(self._env, self.settings.searched, watch)
        try:
            env.reset(seed=self.model.search_seed)
            self._searcher(env, np.random.default_rng(self.model.search_seed))
        except _OverError as over:
            return over.spent
        return True

    def _imitate(self, answer: list[int]) -> None:
        """Teaches the policy probabilities around an answer, one bitwidth per step."""
        policy = self.model.policy
        observations, start = policy.obs_to_tensor(self._seen(answer))[0], torch.zeros(len(answer))
        start[0] = 1.0
        states = (torch.zeros(policy.lstm_hidden_state_shape),) * 2
        wanted = self._around(answer)
        policy.set_training_mode(True)
        optimizer = torch.optim.Adam(policy.parameters(), IMITATION_RATE)
        for _ in range(IMITATION_STEPS):
            distribution, _ = policy.get_distribution(observations, states, start)
            loss = -(wanted * distribution.distribution.logits).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _around(self, answer: list[int]) -> torch.Tensor:
        """Probabilities, ``[steps, bitwidths]``, by which walks have so many changes on average."""
        bitwidths = self.problem.bitwidths
        places = torch.tensor([bitwidths.index(bitwidth) for bitwidth in answer])
        off = (torch.arange(len(bitwidths)) - places[:, None]).abs()
        others = torch.where(off > 0, FURTHER**off, 0.0)
        changed = min(self.settings.changes / len(answer), 1.0)
        return changed * others / others.sum(dim=1, keepdim=True) + (1.0 - changed) * (off == 0)

    def _seen(self, answer: list[int]) -> Any:
        """What a walk to an answer shows, step by step."""
        observation, _ = self._env.reset()
        seen = [observation]
        for bitwidth in answer[:-1]:
            observation, *_ = self._env.step(self.problem.bitwidths.index(bitwidth))
            seen.append(observation)
        if isinstance(observation, dict):
            return {name: np.stack([one[name] for one in seen]) for name in observation}
        return np.stack(seen)

    def close(self) -> None:
        """See `Agent.close`."""
        self._env.close()
        super().close()


class _OverError(Exception):
    """Ends a searcher.

    Args:
        spent: Whether it had spent its part; else it was stopped.
    """

    def __init__(self, spent: bool):
        super().__init__()
        self.spent = spent


class _Part(gym.Wrapper):
    """Lets a searcher ask for some assignments only.

    Args:
        env: A `QuantizeNetEnv`.
        searched: Different assignments on its ledger at which this is over.
        watch: Is told of every step.
    """

    ends_search = True

    def __init__(self, env: gym.Env, searched: int, watch: Watch):
        super().__init__(env)
        self._searched, self._watch = searched, watch
        self._ledger = env.get_wrapper_attr("ledger")

    def reset(self, **options: Any) -> Any:
        """Before every walk."""
        if self._ledger.distinct >= self._searched:
            raise _OverError(spent=True)
        return self.env.reset(**options)

    def step(self, action: int) -> Any:
        """One layer."""
        outcome = self.env.step(action)
        if not self._watch.after_step():
            raise _OverError(spent=False)
        return outcome
