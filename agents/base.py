"""What an agent is to `agents.train`, which knows none of them by name."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from releq_gym.plain_numbers import is_real, is_whole
from releq_gym.registry import Registry, typed


class Settings(Protocol):
    """Hyper-parameters of an agent: a frozen dataclass; the command line takes each field."""

    @property
    def gamma(self) -> float:
        """Discount; the telescoped reward is made for it too."""
        ...


EPISODES_PER_EVALUATION = 20
"""A policy that has played this many episodes per assignment of its budget has converged."""

SHARES = ("gamma", "gae_lambda", "novelty", "tau")
"""Numbers of settings that are 1 at most."""


def check_numbers(settings: Any, but: Sequence[str] = ()) -> None:
    """Refuses settings that no training can be made with.

    Args:
        settings: A dataclass; fields annotated ``int`` have to be whole numbers from 1 on, those
            annotated ``float`` finite numbers from 0 on.
        but: Fields that may be less.

    Raises:
        ValueError: Names the first that is none of it.
    """
    for one in dataclasses.fields(settings):
        name, value = one.name, getattr(settings, one.name)
        kind = getattr(one.type, "__name__", one.type)  # a string under postponed annotations
        if name in but:
            continue
        if kind == "int" and not (is_whole(value) and value >= 1):
            raise ValueError(f"{name}={value!r} has to be at least 1, a whole number.")
        if kind == "float" and not (is_real(value) and 0.0 <= value < math.inf):
            raise ValueError(f"{name}={value!r} has to be a finite number, 0 or more.")
        if name in SHARES and value > 1:
            raise ValueError(f"{name}={value} has to be at most 1.")


@dataclass(frozen=True)
class Preset:
    """A named choice of everything that defines an experiment.

    Attributes:
        settings: The agent's `Settings`.
        environment: Arguments of `agents.args.Args` that go with them.
    """

    settings: Any
    environment: Mapping[str, Any] = field(default_factory=dict)


class Watch(Protocol):
    """Whoever looks on while an agent learns."""

    def after_step(self) -> bool:
        """Called after every step of the environments; False stops the agent."""
        ...

    def after_rollout(self, probabilities: NDArray[np.float32]) -> None:
        """Called before every update of the policy, or of many small ones now and then.

        Args:
            probabilities: Of each bitwidth in each layer that is chosen, ``[steps, bitwidths]``;
                `Agent.shown` says which.
        """
        ...


class Agent(ABC):
    """Something that learns to choose bitwidths.

    Args:
        make_env: Returns a new environment; all of them share one ledger.
        settings: Its hyper-parameters.
        seed: Fixes everything random. The first environment has to be begun by
            ``reset(seed=seed)``: a log is known as this run's by that.
        checkpoint: What `save` wrote, to go on from.

    Attributes:
        presets: By name; ``"default"`` is among them.
        shown: What it tells `Watch.after_rollout`, as an axis is labelled.
        steps: Steps taken in all environments together, those before the checkpoint included.
    """

    presets: ClassVar[Mapping[str, Preset]]
    shown: ClassVar[str] = "probability"
    steps: int = 0

    @staticmethod
    def wrap(env: gym.Env) -> gym.Env:
        """The environment as it walks it.

        Raises:
            ValueError: Where it cannot.
        """
        return env

    @abstractmethod
    def __init__(
        self,
        make_env: Callable[[], gym.Env],
        settings: Any,
        seed: int,
        checkpoint: Path | None = None,
    ): ...

    @abstractmethod
    def learn(self, steps: int, watch: Watch) -> None:
        """Takes about that many further steps, unless the watch stops it earlier."""

    def walk(self, env: gym.Env) -> tuple[int, ...] | None:
        """The bitwidths that its policy finds most likely, one per layer: its greedy walk.

        None for an agent without a policy that chooses bitwidths.

        Args:
            env: Made like its own, but on another ledger, which is charged for what is measured.
        """
        return None

    @abstractmethod
    def save(self, path: Path) -> None:
        """Writes a checkpoint."""

    @abstractmethod
    def close(self) -> None:
        """Closes the environments, which completes the action log."""


AGENTS: Registry[type[Agent]] = Registry(
    "agent", "agents", "One of your own is --agent package.module:Class, see the README's example."
)


def find_agent(name: str) -> type[Agent]:
    """The agent of that name, or the user's own.

    Args:
        name: A registered one, or ``"package.module:Class"``, which is imported.

    Raises:
        ValueError: Where there is none, or it is no `Agent`.
    """
    found = typed("agent", name)
    if isinstance(found, str):
        return AGENTS[found]
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise ValueError(
            f"The agent {name!r} has to be a class that inherits agents.base.Agent, but is "
            f"{found!r}."
        )
    if lacking := sorted(found.__abstractmethods__):
        raise ValueError(f"The agent {name!r} lacks {', '.join(lacking)}, see agents/base.py.")
    if "default" not in getattr(found, "presets", {}):
        raise ValueError(f"The agent {name!r} lacks presets = {{'default': Preset(Settings())}}.")
    return found
