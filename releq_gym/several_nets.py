"""One policy for many networks: an environment that walks over another one in each episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from releq_gym.costs import CostModel
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.resolve import known_nets
from releq_gym.evaluators.synthetic import LAYERS, is_synthetic
from releq_gym.ledger import Ledger
from releq_gym.problem import Problem
from releq_gym.registry import UnknownNameError
from releq_gym.tasks import DEFAULT_TASKS, shipped_tasks

ANY = "any"
"""In the place of the layers or the seed of a synthetic task: another one in each episode."""

FAMILY_SEEDS = 1_000, 2**31
"""Seeds that a family draws from; smaller ones name landscapes to test on."""


class SeveralNetsEnv(gym.Env[Any, int]):
    """`QuantizeNetEnv` on one of several networks, drawn anew for each episode.

    `gym.make("releq/QuantizeNet-v0", net=["lenet", "simplenet"])` makes it. Observations have the
    same size for every network, so that one policy can be trained on some and tested on others.
    ``info["net"]`` says which one it is, and ``reset(options={"net": "lenet"})`` chooses.

    All of them share one ledger; attributes such as ``problem`` and ``task`` are those of the
    network at hand, at first the first one.

    Args:
        net: Names of networks, each with its default task, or of tasks. ``"synthetic-20-any"``
            stands for an endless family: an invented landscape of 20 layers in each episode, and
            ``"synthetic-any-any"`` for one of any depth.
        **options: As of `QuantizeNetEnv`, the same for all.

    Raises:
        ValueError: Where the networks differ in what may be chosen or observed, and for options
            that name one network.
    """

    metadata = QuantizeNetEnv.metadata

    def __init__(self, net: Sequence[str], **options: Any):
        self.names = tuple(net)
        if unnamed := [name for name in self.names if not isinstance(name, str)]:
            raise ValueError(
                f"Of several nets each is named, and {unnamed[0]!r:.60} is no name; a task's name "
                "or folder serves too."
            )
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"net={list(net)!r} has to name one or more different nets.")
        for name in ("task", "data", "weights", "fixed_bitwidths", "groups"):
            if options.get(name) is not None:
                raise ValueError(
                    f"{name}= is about one net, and there are several; net= may hold names of "
                    "tasks."
                )
        told = ("ledger", "evaluation_budget", "log")
        self.ledger = Ledger.given(*(options.pop(name, None) for name in told))
        self.render_mode: str | None = options.get("render_mode")
        self._options = options
        # Each joins the ledger, and its log, once all of them are known to be alike.
        self._envs = {name: self._make(name, Ledger()) for name in self.names}
        self._current = self._envs[self.names[0]]
        self._seed: int | None = None
        self._seeded: set[str] = set()
        self.observation_space = self._current.observation_space
        self.action_space = self._current.action_space
        for name, env in self._envs.items():
            self._check_alike(name, env)
        for env in self._envs.values():
            env.share(self.ledger)
        self.net = self.names[0]

    @property
    def problem(self) -> Problem:
        """Of the network at hand."""
        return self._current.problem

    @property
    def task(self) -> dict[str, Any]:
        """Likewise."""
        return self._current.task

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of the observation, the same for all."""
        return self._current.feature_names

    def set_cost(self, cost_model: CostModel, cost_budget: Mapping[str, float] | None) -> None:
        """See `QuantizeNetEnv.set_cost`; in all networks."""
        for name, env in self._envs.items():
            with _naming(name):  # refuses before anything is changed
                env.problem.with_cost(cost_model, cost_budget)
        self._options |= {"cost": cost_model, "cost_kwargs": None, "cost_budget": cost_budget}
        for env in self._envs.values():
            env.set_cost(cost_model, cost_budget)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draws a network and starts its episode.

        Args:
            seed: Fixes everything to come, in all networks.
            options: ``{"net": name}`` chooses the network.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        chosen = options.pop("net", None)
        if options:
            raise UnknownNameError("reset option", next(iter(options)), ["net"])
        if chosen is not None and chosen not in self._envs:
            raise UnknownNameError("net", chosen, self.names)
        if seed is not None:
            self._seed, self._seeded = seed, set()
        drawn = self.names[int(self.np_random.integers(len(self.names)))]
        self.net = drawn if chosen is None else chosen
        if is_family(self.net):
            self._envs[self.net].close()  # which logs an episode that was cut
            if self.net.endswith(ANY):  # of so many landscapes hardly one is met again
                self.ledger.forget(self._envs[self.net].problem)
            self._envs[self.net] = self._make(self.net, self.ledger)
        self._current = self._envs[self.net]
        own_seed = None if self.net in self._seeded else self._seed
        self._seeded.add(self.net)
        observation, info = self._current.reset(seed=own_seed)
        return observation, info | {"net": self.net}

    def step(self, action: int) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """As `QuantizeNetEnv.step`, on the network at hand."""
        observation, reward, terminated, truncated, info = self._current.step(action)
        return observation, reward, terminated, truncated, info | {"net": self.net}

    def action_masks(self) -> NDArray[np.bool_]:
        """Which bitwidths the layer at hand may take, bool ``[bitwidths]``."""
        return self._current.action_masks()

    def render(self) -> Any:
        """The network at hand."""
        return self._current.render()

    def close(self) -> None:
        """Writes what the log still lacks."""
        for env in self._envs.values():
            env.close()

    def _make(self, name: str, ledger: Ledger) -> QuantizeNetEnv:
        with _naming(name):
            return QuantizeNetEnv(
                **draw_named(name, self.np_random), ledger=ledger, **self._options
            )

    def _check_alike(self, name: str, env: QuantizeNetEnv) -> None:
        first = self._envs[self.names[0]]
        if env.problem.bitwidths != first.problem.bitwidths:
            ours, theirs = (" ".join(map(str, one.problem.bitwidths)) for one in (first, env))
            raise ValueError(
                f"One policy needs one choice of bitwidths, but {self.names[0]} has {ours} and "
                f"{name} has {theirs}; pass bitwidths= with what they have in common."
            )
        if env.observation_space != first.observation_space:
            raise ValueError(
                f"The observations of {self.names[0]} and {name} differ in size; use "
                "observation='layer'."
            )


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors within say which of several networks they are about."""
    try:
        yield
    except UnknownNameError:  # which names what it is about
        raise
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def is_family(name: str) -> bool:
    """Whether a name stands for a synthetic landscape that is drawn."""
    return is_synthetic(name) and ANY in name.split("-")[1:]


def draw_named(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """``{"net": name}`` or ``{"task": name}``; of a family, a landscape that is drawn.

    Args:
        name: Of a network, a task or a family.
        rng: Draws.
    """
    if not is_family(name):
        return {"net" if _is_net(name) else "task": name}
    parts = name.split("-")[1:]
    if len(parts) != 2:
        raise ValueError(
            f"Unknown synthetic family {name!r}: its form is synthetic-LAYERS-SEED, each of them "
            "a number or 'any', such as synthetic-20-any."
        )
    layers, seed = parts
    if layers == ANY:
        layers = str(rng.integers(LAYERS.start, LAYERS.stop))
    if seed == ANY:
        seed = str(rng.integers(*FAMILY_SEEDS))
    return {"task": f"synthetic-{layers}-{seed}"}


def _is_net(name: str) -> bool:
    """Whether a name is a network's, not a task's; networks that need torch are asked for last."""
    if name in DEFAULT_TASKS:
        return True
    if is_synthetic(name) or name.partition("/")[0] in shipped_tasks():
        return False
    return ("-" not in name and not Path(name).is_dir()) or name in known_nets()


def make_env(net: Any = None, **options: Any) -> QuantizeNetEnv | SeveralNetsEnv:
    """What `gym.make("releq/QuantizeNet-v0")` makes: several networks for a list of them."""
    if isinstance(net, list | tuple):
        return SeveralNetsEnv(net, **options)
    task = options.get("task")
    if isinstance(task, str) and is_family(task):
        if net not in (None, "synthetic"):
            raise ValueError(f"The task {task!r} is about the net 'synthetic', not {net!r}.")
        del options["task"]
        return SeveralNetsEnv([task], **options)
    return QuantizeNetEnv(net=net, **options)
