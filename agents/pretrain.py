"""Pretrains a policy on many networks: ``python -m agents.pretrain --output FILE.safetensors``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

import releq_gym
from agents.attention import extractor
from agents.base import check_numbers
from agents.policy_file import PolicyCard, check_ascending, write_policy
from agents.ppo import PPOAgent, has_spread
from agents.recurrent_ppo import POLICY, RecurrentPPOAgent
from agents.several_vec_env import SeveralNetsVecEnv
from releq_gym.progress import ProgressBars
from releq_gym.whole_files import check_writable

FAMILY = "synthetic-any-any"
"""Invented landscapes of any depth, another one in each episode."""


@dataclass(frozen=True)
class PPOPlan:
    """How PPO pretrains, whatever it is."""

    seed: int = 0
    """Fixes everything random."""
    steps: int = 400_000
    """Of all environments together."""
    copies: int = 16
    """Environments side by side."""
    rollout: int = 64
    """Steps of each environment between two updates."""
    batch_size: int = 1_024
    """Steps that a gradient step looks at."""
    n_epochs: int = 4
    """Passes over a rollout."""
    learning_rate: float = 3e-3
    """At the start; it falls to 0 in a straight line."""
    gae_lambda: float = 0.95
    """Bias against variance of the advantages."""
    ent_coef: float = 0.003
    """Weight of the policy's entropy in the loss."""

    unchecked: ClassVar[tuple[str, ...]] = ("seed",)
    """Numbers that may be 0 or less."""

    def __post_init__(self) -> None:
        check_numbers(self, but=self.unchecked)
        if self.batch_size < 2 or self.rollout * self.copies < 2:
            raise ValueError(
                f"batch_size={self.batch_size}, rollout={self.rollout} and copies={self.copies}: "
                "PPO learns from two steps or more at a time; raise them."
            )

    @property
    def environments(self) -> int:
        """How many there are side by side."""
        return self.copies

    def options(self) -> dict[str, Any]:
        """Arguments of ``PPO`` and ``RecurrentPPO``."""
        return {
            "learning_rate": lambda left: left * self.learning_rate,
            "n_steps": self.rollout,
            "batch_size": self.batch_size,
            "n_epochs": self.n_epochs,
            "gamma": 1.0,
            "gae_lambda": self.gae_lambda,
            "ent_coef": self.ent_coef,
            "seed": self.seed,
            "device": "cpu",
            "normalize_advantage": has_spread(self.rollout * self.environments, self.batch_size),
        }


@dataclass(frozen=True)
class Pretraining(PPOPlan):
    """Pretrains a policy that chooses bitwidths for networks it has never seen.

    PPO, or RecurrentPPO with memory, on several networks at once. Their accuracies cost nothing
    here, so that every step is paid (the telescoped reward, whose sum is the reward at the end);
    the policy sees none of them, as on a network that nobody has measured yet.

    Tried with 400,000 steps on four networks and 8 landscapes, one run each, for the regret of the
    first answer on synthetic tasks of 8 to 40 layers (five) and on digits: a learning rate of 3e-3
    had 0.16 on average and 0.37 on digits, 1e-3 had 0.20 and 0.21. All else was not tuned.
    """

    nets: tuple[str, ...] = ()
    """Networks or tasks, each with `copies` environments."""
    landscapes: int = 8
    """Likewise of the synthetic family; each is another one in every episode."""
    observation: str = "layer"
    """What the policy sees: layer, paper or full (then it attends to all layers)."""
    memory: bool = False
    """Whether it has an LSTM."""
    bitwidths: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    """The choice per layer, which all of the nets have to have."""
    copies: int = 16
    """Environments per net."""

    unchecked = ("seed", "landscapes")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landscapes < 0:
            raise ValueError(f"landscapes={self.landscapes} has to be 0 or more.")
        if not self.groups:
            raise ValueError("Name nets to pretrain on, or landscapes.")
        check_ascending(self.bitwidths)

    @property
    def environments(self) -> int:
        """See `PPOPlan`."""
        return self.copies * len(self.groups)

    @property
    def groups(self) -> tuple[str, ...]:
        """What `SeveralNetsVecEnv` is made of."""
        return (*self.nets, *(FAMILY,) * self.landscapes)


def pretrain(plan: Pretraining, path: Path, progress: bool = False) -> PolicyCard:
    """Pretrains a policy and writes it.

    Args:
        plan: How; the same plan gives the same policy.
        path: Of the file, see `agents.policy_file`.
        progress: Whether to show a bar.

    Returns:
        What stands in the file beside the weights.
    """
    venv = SeveralNetsVecEnv(
        plan.groups,
        plan.copies,
        blind=True,
        observation=plan.observation,
        bitwidths=plan.bitwidths,
        reward_timing="telescoped",
    )
    kind: Any = RecurrentPPO if plan.memory else PPO
    model = kind(
        policy_class(plan.observation, plan.memory),
        venv,
        policy_kwargs=architecture(venv.observation_space, plan.memory),
        **plan.options(),
    )
    nets = dict.fromkeys(problem.evaluator.net for problem in venv.get_attr("problem"))
    own = {name: getattr(plan, name) for name in ("observation", "memory", "bitwidths")}
    return learn_and_write(model, plan, path, progress, groups=plan.groups, nets=tuple(nets), **own)


def learn_and_write(
    model: Any, plan: PPOPlan, path: Path, progress: bool, **card: Any
) -> PolicyCard:
    """Lets a model take the steps of a plan and writes its policy.

    Args:
        model: Of stable-baselines3 or sb3-contrib, as the plan has it.
        plan: Is remembered on the card.
        path: Of the file.
        progress: Whether to show a bar.
        **card: Fields of the `PolicyCard` that are not the plan's seed and settings.

    Returns:
        The card.
    """
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn()
    with ProgressBars(*columns, disable=not progress) as bars:
        model.learn(plan.steps, callback=_Bar(bars, bars.add_task("", total=plan.steps)))
    model.get_env().close()
    written = PolicyCard(
        **card,
        seed=plan.seed,
        settings=remembered(plan),
        steps=model.num_timesteps,
        version=releq_gym.__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_policy(path, model.policy, written)
    return written


def remembered(plan: PPOPlan) -> dict[str, Any]:
    """The settings of a plan that have no place of their own on a card, as JSON has them."""
    settings = dataclasses.asdict(plan)
    for name in ("seed", "observation", "memory", "bitwidths"):
        settings.pop(name, None)
    return json.loads(json.dumps(settings))


def policy_class(observation: str, memory: bool) -> str | type:
    """As of the agents `ppo` and `recurrent_ppo`."""
    policies = (RecurrentPPOAgent if memory else PPOAgent).policies
    return policies[observation == "full"]


def architecture(observation_space: Any, memory: bool) -> dict[str, Any]:
    """``policy_kwargs`` of a pretrained policy; as the agents `ppo` and `recurrent_ppo` have it."""
    seen = extractor(observation_space)
    return {**seen, **POLICY, "enable_critic_lstm": False} if memory else seen


class _Bar(BaseCallback):
    """Moves a bar on."""

    def __init__(self, bars: ProgressBars, bar: TaskID):
        super().__init__()
        self._bars, self._bar = bars, bar

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._bars.update(self._bar, completed=self.num_timesteps)


def run_command(
    kind: type[Any],
    teach: Callable[[Any, Path, bool], PolicyCard],
    prog: str,
    arguments: Sequence[str] | None,
) -> int:
    """0 when finished, 2 for a user's error, 130 after Ctrl-C, which leaves nothing behind.

    Args:
        kind: Dataclass of the plan.
        teach: Pretrains and writes: a plan, a path, whether to show a bar.
        prog: How the command is called.
        arguments: What was typed; None is the process's.
    """
    import torch

    plan = "plan", Annotated[kind, tyro.conf.arg(name="")]
    place = "output", Annotated[Path, tyro.conf.arg(help="Where the policy goes; must not exist.")]
    torch.set_num_threads(1)
    try:
        command: Any = tyro.cli(
            dataclasses.make_dataclass("Command", [plan, place]),
            args=arguments,
            prog=prog,
            description=kind.__doc__,
        )
        if command.output.exists():
            raise ValueError(f"{command.output} exists already, and is not overwritten.")
        check_writable(command.output)
        card = teach(command.plan, command.output, True)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130
    print(f"{command.output}: {card.steps:,} steps on {', '.join(card.nets)}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """See `run_command`."""
    return run_command(Pretraining, pretrain, "python -m agents.pretrain", arguments)


if __name__ == "__main__":
    sys.exit(main())
