"""From an environment's description in a log back to the environment."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from releq_gym.costs import COSTS
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.base import Evaluator
from releq_gym.evaluators.resolve import make_evaluator, task_evaluator
from releq_gym.evaluators.synthetic import is_synthetic
from releq_gym.registry import Registry, UnknownNameError
from releq_gym.rewards import REWARDS
from releq_gym.tasks.catalog import find_task
from releq_gym.tasks.format import TaskError, load_task


@dataclass(frozen=True)
class Rebuilt:
    """An environment that a log describes.

    Attributes:
        env: As rebuilt; nobody steps it.
        contradictions: What the description says that is not so.
    """

    env: QuantizeNetEnv
    contradictions: tuple[str, ...]


@lru_cache(256)
def rebuild(description: str, folders: tuple[str, ...] = ()) -> Rebuilt:
    """The environment that a log describes.

    Args:
        description: As JSON.
        folders: Where task folders lie that are not shipped.

    Raises:
        ValueError: Where it cannot be built; says why.
    """
    told = json.loads(description)
    try:
        env = _build(told, folders)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"Its description is damaged: {error!r}.") from None
    known = json.loads(json.dumps(env.task))
    contradictions = [
        f"{name} is {told[name]!r} in the log, {known.get(name)!r} rebuilt"
        for name in told
        if told[name] != known.get(name)
    ]
    return Rebuilt(env, tuple(contradictions))


def _build(told: dict[str, Any], folders: tuple[str, ...]) -> QuantizeNetEnv:
    evaluator = _evaluator(told.get("task", told["evaluator"]), folders)
    names = [layer.name for layer in evaluator.layers]
    groups = [[names[layer] for layer in group] for group in told["groups"]]
    chosen = {name for group in groups for name in group}
    fixed = {
        name: bitwidth
        for name, bitwidth in zip(names, told["start"], strict=False)
        if name not in chosen
    }
    reward, reward_kwargs = _named(REWARDS, told["reward"])
    cost, cost_kwargs = _named(COSTS, told["cost"])
    settings = ("observation", "reward_timing", "gamma", "evaluate", "noise")
    return QuantizeNetEnv(
        evaluator=evaluator,
        bitwidths=told["bitwidths"],
        fixed_bitwidths=fixed,
        groups=groups,
        reward=reward,
        reward_kwargs=reward_kwargs,
        cost=cost,
        cost_kwargs=cost_kwargs,
        cost_budget=told["cost_budget"],
        **{name: told[name] for name in settings},
    )


@cache
def _evaluator(name: str, folders: tuple[str, ...]) -> Evaluator:
    """Of a shipped or synthetic task, or of one in a folder."""
    if is_synthetic(name):
        return make_evaluator(task=name)
    try:
        if "/" in name:  # a version, as every task in a log has
            return task_evaluator(find_task(name))
    except UnknownNameError:
        for folder in folders:
            for card in sorted(Path(folder).rglob("card.json")):
                try:
                    task = load_task(card.parent)
                except TaskError:  # another one, unless nothing is found
                    continue
                if task.name == name:
                    return task_evaluator(task)
        raise ValueError(
            f"The task {name!r} is neither shipped nor in a folder of --tasks."
        ) from None
    raise ValueError(f"{name!r} was measured live, or by an evaluator of one's own.")


def _named(registry: Registry[Any], text: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a reward or cost model from its ``repr``; nothing is executed."""
    called, parenthesis, _ = text.partition("(")
    for name in registry.names():
        if parenthesis and getattr(registry[name], "__name__", None) == called:
            try:
                call: Any = ast.parse(text, mode="eval").body
                return name, {one.arg: ast.literal_eval(one.value) for one in call.keywords}
            except (SyntaxError, ValueError, AttributeError):
                break
    raise ValueError(f"The {registry.kind} {text!r} is none of this package's.")
