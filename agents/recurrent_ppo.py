"""PPO with an LSTM policy, the paper's agent, as sb3-contrib implements it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.base import AGENTS, Agent, Preset, Watch
from releq_gym.ledger import Ledger

POLICY = {"lstm_hidden_size": 128, "net_arch": {"pi": [128, 128], "vf": [128, 64]}}
"""The paper's network: an LSTM of 128, then 128-128 to the policy and 128-64 to the value."""


ENTROPY_UP, ENTROPY_DOWN, ENTROPY_MOST = 1.25, 0.9, 0.5
"""How the weight of the entropy follows novelty: factors per update, and the most it may reach."""


@dataclass(frozen=True)
class RecurrentPPOSettings:
    """How recurrent PPO learns."""

    n_envs: int = 10
    """Environments side by side."""
    episodes_per_update: int = 1
    """Episodes that each of them plays between two updates of the policy."""
    minibatches: int = 1
    """Parts that they are cut into for the gradient steps."""
    n_epochs: int = 10
    """Passes over them."""
    learning_rate: float = 3e-3
    """Of Adam."""
    clip_range: float = 0.2
    """How far an update may move the probability of an action."""
    gamma: float = 1.0
    """Discount per layer."""
    gae_lambda: float = 0.95
    """Bias against variance of the advantages."""
    ent_coef: float = 0.01
    """Weight of the policy's entropy in the loss; the least weight where novelty is asked for."""
    novelty: float = 0.3
    """Share of new assignments that episodes should bring: with fewer, entropy gains weight, so
    that a policy that has settled goes on asking. 0 keeps the weight as it is."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Longest gradient."""
    critic_lstm: bool = False
    """Whether the critic has an LSTM of its own; without, it sees only the current observation."""

    def __post_init__(self) -> None:
        for name in ("n_envs", "episodes_per_update", "minibatches", "n_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} has to be at least 1.")


DEFAULT = Preset(RecurrentPPOSettings())
"""Tuned on the synthetic landscapes (4, 8, 12 and 20 layers, seeds 0 to 2, one or two runs each)
over many settings, for regret at 600 to 1,000 assignments.

`python -m benchmarks.regret --study settings` changes one of them at a time, with other seeds: what
matters most is to pay the reward at the end (per-step timings spend an evaluation on every layer),
then the observation, many epochs on few episodes, and the learning rate. An LSTM in the critic
makes no difference. Entropy that follows novelty does nothing on 20 layers; it is meant for 4,
where a policy settles early and stops asking.
"""

PAPER = Preset(
    RecurrentPPOSettings(
        # Stated by the paper.
        learning_rate=1e-4,
        n_epochs=3,
        clip_range=0.1,
        gae_lambda=0.99,
        # Not stated there; from the authors' released code.
        gamma=0.9,
        ent_coef=0.01,
        novelty=0.0,
        critic_lstm=True,
        # Stated nowhere. Few episodes, because each of their steps is an evaluation.
        n_envs=1,
        minibatches=1,
    ),
    {"reward": "releq", "reward_timing": "every_step", "observation": "paper"},
)
"""ReLeQ's own settings (arXiv 1811.01704), as slow as theirs: the authors' code plays 700 to 1,500
episodes and measures at each of their steps, so raise the evaluation budget accordingly.

Where sb3-contrib differs: the critic has an LSTM of its own, while in the paper one LSTM feeds both
heads (sb3-contrib can share it too, but then trains it through the policy loss alone). Minibatches
are runs of consecutive steps whose sequences start from the hidden states stored during the
rollout, not from recomputed ones. Advantages are normalised per minibatch, gradients are clipped
to `max_grad_norm`, and heads use tanh with orthogonal initialisation.
"""


@AGENTS.register("recurrent_ppo")
class RecurrentPPOAgent(Agent):
    """sb3-contrib's ``RecurrentPPO`` on a ``DummyVecEnv``, on the CPU; see `Agent`."""

    presets = {"default": DEFAULT, "paper": PAPER}  # noqa: RUF012

    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        settings: RecurrentPPOSettings,
        seed: int,
        checkpoint: Path | None = None,
    ):
        self._venv = DummyVecEnv([make_env] * settings.n_envs)
        self._settings = settings
        if checkpoint is not None:
            self._model = RecurrentPPO.load(checkpoint, env=self._venv, device="cpu")
            self._model.set_random_seed(seed)
            return
        steps = self._venv.get_attr("problem")[0].steps
        rollout = len(steps) * settings.episodes_per_update
        dictionary = isinstance(self._venv.observation_space, gym.spaces.Dict)
        self._model = RecurrentPPO(
            "MultiInputLstmPolicy" if dictionary else "MlpLstmPolicy",
            self._venv,
            n_steps=rollout,
            batch_size=max(1, rollout * settings.n_envs // settings.minibatches),
            n_epochs=settings.n_epochs,
            learning_rate=settings.learning_rate,
            clip_range=settings.clip_range,
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            ent_coef=settings.ent_coef,
            vf_coef=settings.vf_coef,
            max_grad_norm=settings.max_grad_norm,
            policy_kwargs={**POLICY, "enable_critic_lstm": settings.critic_lstm},
            seed=seed,
            device="cpu",
        )

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Steps taken in all environments together."""
        return self._model.num_timesteps

    def learn(self, steps: int, watch: Watch) -> None:
        """See `Agent.learn`."""
        problem, ledger = (self._venv.get_attr(name)[0] for name in ("problem", "ledger"))
        callbacks: list[BaseCallback] = [_Passing(watch, len(problem.steps))]
        if self._settings.novelty:
            callbacks.append(_Novelty(ledger, self._settings))
        self._model.learn(steps, callback=callbacks, reset_num_timesteps=False)

    def save(self, path: Path) -> None:
        """Writes the archive of stable-baselines3, whole or not at all."""
        partial = path.with_name(f"partial-{path.name}")
        self._model.save(partial)
        partial.replace(path)

    def close(self) -> None:
        """See `Agent.close`."""
        self._venv.close()


class _Novelty(BaseCallback):
    """Raises the weight of the entropy while too few episodes bring a new assignment.

    Once the policy has settled it would ask the same again and again, and learn nothing more from
    a budget of different assignments. Only the number of assignments asked is looked at.
    """

    def __init__(self, ledger: Ledger, settings: RecurrentPPOSettings):
        super().__init__()
        self._ledger, self._settings = ledger, settings
        self._episodes = self._known = 0

    def _on_step(self) -> bool:
        self._episodes += int(self.locals["dones"].sum())
        return True

    def _on_rollout_end(self) -> None:
        known, settings, model = self._ledger.distinct, self._settings, self.model
        assert isinstance(model, RecurrentPPO)
        if self._episodes:
            share = (known - self._known) / self._episodes
            factor = ENTROPY_UP if share < settings.novelty else ENTROPY_DOWN
            model.ent_coef = min(max(model.ent_coef * factor, settings.ent_coef), ENTROPY_MOST)
        self._episodes, self._known = 0, known


class _Passing(BaseCallback):
    """Passes the events of stable-baselines3 on."""

    def __init__(self, watch: Watch, episode: int):
        super().__init__()
        self._watch, self._episode = watch, episode

    def _on_step(self) -> bool:
        return self._watch.after_step()

    def _on_rollout_end(self) -> None:
        self._watch.after_rollout(self._probabilities())

    def _probabilities(self) -> NDArray[np.float32]:
        """The policy on everything in the rollout buffer, in one batch of one-step sequences."""
        model: Any = self.model
        buffer = model.rollout_buffer
        observations = buffer.observations
        flat = (
            {name: _flatten(part) for name, part in observations.items()}
            if isinstance(observations, dict)
            else _flatten(observations)
        )
        # [steps, lstm layers, envs, size] to [lstm layers, steps * envs, size]
        hidden, cell = (
            torch.as_tensor(_flatten(states.swapaxes(1, 2)).swapaxes(0, 1).copy())
            for states in (buffer.hidden_states_pi, buffer.cell_states_pi)
        )
        with torch.no_grad():
            distribution, _ = model.policy.get_distribution(
                obs_as_tensor(flat, model.device),
                (hidden, cell),
                torch.as_tensor(_flatten(buffer.episode_starts)),
            )
        choices: NDArray[np.float32] = distribution.distribution.probs.numpy()
        # All episodes are equally long and a rollout is whole episodes, layer after layer.
        by_layer = choices.reshape(-1, self._episode, buffer.n_envs, choices.shape[1])
        return by_layer.mean(axis=(0, 2))


def _flatten(array: NDArray) -> NDArray:
    """``[steps, envs, ...]`` to ``[steps * envs, ...]``."""
    return array.reshape(-1, *array.shape[2:])
