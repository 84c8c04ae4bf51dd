"""Pretrains the improver: ``python -m agents.pretrain_improver --output FILE.safetensors``."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.policy_file import PolicyCard
from agents.pretrain import FAMILY, PPOPlan, learn_and_write, run_command
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.synthetic import LAYERS, SyntheticEvaluator, make_synthetic
from releq_gym.several_nets import FAMILY_SEEDS
from releq_gym.tasks.score import make_scorer
from releq_gym.wrappers import Incumbent

ARCHITECTURE = {"net_arch": [128, 128]}
"""``policy_kwargs`` of the improver."""

LEAST_GAP = 0.01
"""What the logarithm of the distance from the optimum begins at."""


@dataclass(frozen=True)
class ImproverPretraining(PPOPlan):
    """Pretrains a policy that improves on the best bitwidths so far, on networks it has never seen.

    PPO on invented landscapes, another one in each episode of several walks
    (`releq_gym.wrappers.Incumbent`). A landscape's optimum is known exactly, so that a reward is by
    how much a walk shortens the logarithm of the distance from it; late ones count for less.

    What the layers' signal-to-noise ratios hint at is made less certain than the family has it, by
    a shift that all layers share and one of their own: the policy has to learn from what it
    measures how much a network tolerates.

    Drafts were looked at on lenet, simplenet, svhn10, resnet20, vgg11 and vgg16, so that these are
    not unseen: without shifts, and with up to 128 walks that all counted alike, the policy did not
    find back from too few bits on vgg11 and resnet20. On four synthetic tasks and digits, patience
    0.9, a shift of 4 dB and a third more steps were worse. All else was not tuned.
    """

    least_walks: int = 8
    """The fewest walks of an episode; its logarithm is drawn."""
    most_walks: int = 64
    """Likewise the most."""
    patience: float = 0.96
    """What a reward counts for relative to one a walk earlier."""
    shift_db: float = 6.0
    """Standard deviation of the shift of all ratios."""
    layer_shift_db: float = 2.0
    """Likewise of a layer's."""
    steps: int = 3_000_000
    """Of all environments together."""
    copies: int = 192
    """Environments side by side."""
    batch_size: int = 2_048
    """Steps that a gradient step looks at."""
    learning_rate: float = 1e-3
    """At the start; it falls to 0 in a straight line."""
    ent_coef: float = 0.01
    """Weight of the policy's entropy in the loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least_walks > self.most_walks:
            raise ValueError(
                f"least_walks={self.least_walks} has to be at most most_walks={self.most_walks}."
            )
        if not 0.0 < self.patience <= 1.0:
            raise ValueError(f"patience={self.patience} has to be above 0 and at most 1.")


class Landscapes(gym.Env[Any, int]):
    """`Incumbent` on another invented landscape in each episode; pays by its optimum.

    Args:
        plan: Says how.
    """

    def __init__(self, plan: ImproverPretraining):
        self._plan = plan
        self._draw()
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draws a landscape, and how many walks over it there are."""
        super().reset(seed=seed)
        self._draw()
        observation, info = self._env.reset()
        self._optimum = make_scorer(self._env.get_wrapper_attr("problem")).best_worth
        self._gap, self._weight = self._distance(), 1.0
        return observation, info

    def step(self, action: int) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """As `Incumbent`, but for the reward."""
        observation, _, terminated, truncated, info = self._env.step(action)
        before, self._gap = self._gap, self._distance()
        reward = self._weight * math.log(before / self._gap)
        if info["evaluated"]:
            self._weight *= self._plan.patience
        return observation, reward, terminated, truncated, {}

    def _draw(self) -> None:
        layers = self._between(LAYERS.start, LAYERS.stop)
        landscape = make_synthetic(f"synthetic-{layers}-{self.np_random.integers(*FAMILY_SEEDS)}")
        common = self._plan.shift_db * self.np_random.normal()
        shifts = common + self._plan.layer_shift_db * self.np_random.normal(size=layers)
        landscape.layers = tuple(
            dataclasses.replace(layer, sqnr_db=tuple(shift + one for one in layer.sqnr_db))
            for layer, shift in zip(landscape.layers, shifts.tolist(), strict=True)
        )
        env = QuantizeNetEnv(evaluator=landscape)
        walks = self._between(self._plan.least_walks, self._plan.most_walks + 1)
        self._env = Incumbent(env, walks)

    def _between(self, first: int, stop: int) -> int:
        """The logarithm is drawn evenly: small numbers cost few steps."""
        return int(math.exp(self.np_random.uniform(math.log(first), math.log(stop))))

    def _distance(self) -> float:
        return max(self._optimum - self._env.best, 0.0) + LEAST_GAP


def pretrain_improver(plan: ImproverPretraining, path: Path, progress: bool = False) -> PolicyCard:
    """Pretrains the policy and writes it.

    Args:
        plan: How; the same plan gives the same policy.
        path: Of the file, see `agents.policy_file`.
        progress: Whether to show a bar.

    Returns:
        What stands in the file beside the weights.
    """
    make: Callable[[], gym.Env] = partial(Landscapes, plan)
    venv = DummyVecEnv([make] * plan.copies)
    model = PPO(
        "MlpPolicy",
        venv,
        policy_kwargs=ARCHITECTURE,
        **plan.options(),
    )
    return learn_and_write(
        model,
        plan,
        path,
        progress,
        observation="layer",
        memory=False,
        bitwidths=SyntheticEvaluator.bitwidths,
        groups=(FAMILY,),
        nets=(SyntheticEvaluator.net,),
        chooses="changes",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """See `agents.pretrain.run_command`."""
    prog = "python -m agents.pretrain_improver"
    return run_command(ImproverPretraining, pretrain_improver, prog, arguments)


if __name__ == "__main__":
    sys.exit(main())
