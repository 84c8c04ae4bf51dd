"""A policy that was pretrained elsewhere, adapted to the network at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from agents.base import AGENTS, Agent, Preset, Watch
from agents.leaning import leans
from agents.policy_file import load_policy, read_card
from agents.ppo import PPOAgent, PPOSettings
from agents.recurrent_ppo import RecurrentPPOAgent, RecurrentPPOSettings
from agents.walk import PolicyBitwidths, Walker

SHIPPED = Path(__file__).parent / "policies" / "layer-landscapes.safetensors"
"""Taught by invented landscapes alone, on the observation ``"layer"`` and without memory."""


@dataclass(frozen=True)
class PretrainedSettings(PPOSettings):
    """How a pretrained policy adapts: its most likely walks at first, then PPO."""

    learning_rate: float = 1e-3
    """Of the optimizer; gentler than where nothing is known yet."""
    policy: str | None = None
    """File of `python -m agents.pretrain`; by default the shipped one, which invented landscapes
    have taught and no real network."""
    walks: int = 16
    """Most likely walks at first, leaning towards fewer bits or more; what earns most there is
    where PPO goes on from. 1 is the policy's own alone."""


DEFAULT = Preset(PretrainedSettings())
"""RecurrentPPO's, but for the learning rate; not tuned."""


@AGENTS.register("pretrained")
class PretrainedAgent(Agent):
    """Begins with a policy that other networks or invented landscapes have taught.

    Its first evaluation is the policy's most likely walk. Then it leans towards fewer bits or
    more (`agents.leaning.leans`), which finds out how much this network tolerates, and goes on from
    the best by PPO, or RecurrentPPO where the policy has memory.

    Args:
        make_env: As of `Agent`, likewise the following.
        settings: `PretrainedSettings`.
        seed: Fixes everything random.
        checkpoint: What `save` wrote.

    Raises:
        ValueError: For a policy that is missing or does not fit the environment.
    """

    presets = {"default": DEFAULT}  # noqa: RUF012

    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        settings: PretrainedSettings,
        seed: int,
        checkpoint: Path | None = None,
    ):
        self.settings, self._seed = settings, seed
        self._env = make_env()
        self.problem = self._env.get_wrapper_attr("problem")
        path = SHIPPED if settings.policy is None else Path(settings.policy)
        self.card = read_card(path, "bitwidths")
        self._agent = self._tuner(make_env, seed, checkpoint)
        self.model = self._agent.model
        self._walker = Walker(self._env, self.model.policy, self.card)
        if checkpoint is None:
            load_policy(path, self.model.policy)

    def _tuner(
        self, make_env: Callable[[], gym.Env], seed: int, checkpoint: Path | None
    ) -> PPOAgent:
        """The agent that learns after the first walks."""
        names = [field.name for field in dataclasses.fields(PPOSettings)]
        shared = {name: getattr(self.settings, name) for name in names}
        if self.card.memory:
            return RecurrentPPOAgent(
                lambda: PolicyBitwidths(make_env(), self.card.bitwidths),
                RecurrentPPOSettings(**shared),
                seed,
                checkpoint,
            )
        return PPOAgent(
            lambda: PolicyBitwidths(make_env(), self.card.bitwidths),
            PPOSettings(**shared),
            seed,
            checkpoint,
        )

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Steps taken in all environments together."""
        return self._agent.steps

    def first_answer(self) -> tuple[int, ...]:
        """What the policy as it is chooses, one bitwidth per layer, without an evaluation."""
        return self._walker.first_answer()

    def learn(self, steps: int, watch: Watch) -> None:
        """See `Agent.learn`."""
        last = self.steps + steps
        if not getattr(self.model, "opened", False):  # kept with the model
            if not self._open(watch):
                return
            self.model.opened = True
        if self.steps < last:
            self._agent.learn(last - self.steps, _Spread(watch, self._places()))

    def _open(self, watch: Watch) -> bool:
        """The first walks; the policy leans as the best of them.

        False where it was stopped: then they begin anew when the run is taken up, for nothing as
        far as they were measured.
        """
        earned: dict[float, float] = {}

        def after_step() -> bool:
            self.model.num_timesteps += 1
            return watch.after_step()

        self._env.reset(seed=self._seed)
        trial = leans()
        lean, stopped = next(trial), False
        while len(earned) < self.settings.walks and not stopped:
            walked = self._walker.walk(lean, after_step)
            stopped = walked.stopped
            if walked.stopped or walked.refused:
                break
            earned[lean] = walked.earned
            try:
                lean = trial.send(walked.earned)
            except StopIteration:
                break
        if earned and not stopped:
            best = max(earned, key=earned.__getitem__)
            with torch.no_grad():
                bias = self.model.policy.action_net.bias
                bias += best * torch.arange(len(bias))
        return not stopped

    def _places(self) -> NDArray[np.float32]:
        """Which of the environment's bitwidths each of the policy's is taken as, one-hot."""
        places = self._walker.env.actions
        return np.eye(len(self.problem.bitwidths), dtype=np.float32)[places]

    def walk(self, env: gym.Env) -> tuple[int, ...] | None:
        """See `Agent.walk`."""
        return self._agent.walk(PolicyBitwidths(env, self.card.bitwidths))

    def save(self, path: Path) -> None:
        """See `SB3Agent.save`."""
        self._agent.save(path)

    def close(self) -> None:
        """See `Agent.close`."""
        self._env.close()
        self._agent.close()


class _Spread:
    """Tells a watch about the environment's bitwidths, where the policy has its own.

    Args:
        watch: To be told.
        places: ``[bitwidths of the policy, bitwidths of the environment]``, one-hot.
    """

    def __init__(self, watch: Watch, places: NDArray[np.float32]):
        self._watch, self._places = watch, places

    def after_step(self) -> bool:
        return self._watch.after_step()

    def after_rollout(self, probabilities: NDArray[np.float32]) -> None:
        self._watch.after_rollout(probabilities @ self._places)
