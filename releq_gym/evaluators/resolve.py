"""From keywords to an evaluator: which task, or live; never a silent fallback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from releq_gym.choices import are_bitwidths, as_list
from releq_gym.evaluators.base import Evaluator
from releq_gym.evaluators.remembered import recall_or_build
from releq_gym.evaluators.surrogate import SurrogateEvaluator
from releq_gym.evaluators.synthetic import is_synthetic, make_synthetic
from releq_gym.evaluators.table import PartialTableEvaluator, TableEvaluator
from releq_gym.registry import UnknownNameError
from releq_gym.tasks.catalog import DEFAULT_TASKS, find_task, shipped_tasks
from releq_gym.tasks.format import Task

DEFAULT_NET = "digits"
KINDS = ("auto", "live")
RECIPES = ("ptq", "short", "long")

TASK_EVALUATORS: dict[str, Callable[[Task], Evaluator]] = {
    "exhaustive": TableEvaluator,
    "sampled": SurrogateEvaluator,
    "partial": PartialTableEvaluator,
}
"""By a card's ``completeness``."""


def make_evaluator(
    evaluator: str | Evaluator = "auto",
    *,
    net: Any = None,
    task: str | Path | None = None,
    quantizer: str | None = None,
    recipe: str | None = None,
    bitwidths: Sequence[int] | None = None,
    activation_bitwidth: int | None = None,
    data: Any = None,
    weights: str | Path | None = None,
    **live_options: Any,
) -> Evaluator:
    """The evaluator that these keywords ask for; see `releq_gym.env.QuantizeNetEnv`.

    Live is never a silent fallback: what no task has is refused with a list of what there is.

    Raises:
        ValueError: Where nothing fits, or keywords contradict each other.
    """
    stated = {
        "quantizer": quantizer,
        "recipe": recipe,
        "activation_bitwidth": activation_bitwidth,
    }
    if not isinstance(evaluator, str):
        if not isinstance(evaluator, Evaluator):
            raise ValueError(
                f"evaluator={evaluator!r} has no evaluate(bitwidths, repeat), layers, bitwidths, "
                "...; see releq_gym.evaluators.base.Evaluator."
            )
        given = {"net": net, "task": task, "data": data, "weights": weights, **stated}
        for name, value in (given | live_options).items():
            if value is not None:
                raise ValueError(f"{name}= is settled by the evaluator object; leave it out.")
        return evaluator
    if evaluator not in KINDS:
        raise UnknownNameError("evaluator", evaluator, KINDS, "An evaluator object serves too.")
    if evaluator == "live":
        if task is not None:
            raise ValueError("task= names measured accuracies; leave it out with evaluator='live'.")
        return _live(net, stated, bitwidths, data=data, weights=weights, **live_options)
    live_only = {"data": data, "weights": weights, **live_options}
    for name, value in live_only.items():
        if value is not None:
            raise ValueError(f"{name}= is for evaluator='live'; a task needs none.")
    return _from_task(net, task, stated, bitwidths)


def _live(
    net: Any, stated: dict[str, Any], bitwidths: Sequence[int] | None, **options: Any
) -> Evaluator:
    net = DEFAULT_NET if net is None else net
    return recall_or_build(net, bitwidths=bitwidths, **stated, **options)


def _from_task(
    net: Any, task: str | Path | None, stated: dict[str, Any], bitwidths: Sequence[int] | None
) -> Evaluator:
    if not isinstance(task, str | Path | None):
        raise ValueError(f"task={task!r} is neither a name nor a folder.")
    if task is None:
        task = _default_task(DEFAULT_NET if net is None else net, stated)
    if is_synthetic(task):
        found: Evaluator = make_synthetic(str(task))
        card: dict[str, Any] = {}
    else:
        loaded = find_task(task)
        found, card = task_evaluator(loaded), loaded.card
    if net is not None and net != found.net:
        raise ValueError(f"The task {str(task)!r} is about the net {found.net!r}, not {net!r}.")
    if bitwidths is not None and not are_bitwidths(as_list(bitwidths)):
        raise ValueError(
            f"bitwidths={bitwidths!r} has to be a list of one or more whole numbers, 1 to 8."
        )
    wrong = {k: v for k, v in stated.items() if v is not None and v != card.get(k)}
    if isinstance(bitwidths, Sequence) and any(each not in found.bitwidths for each in bitwidths):
        wrong["bitwidths"] = list(bitwidths)
    if wrong:
        asked = ", ".join(f"{name}={value!r}" for name, value in wrong.items())
        has = ", ".join(f"{name}={card.get(name)!r}" for name in wrong if name != "bitwidths")
        if "bitwidths" in wrong:
            has = f"{has}, bitwidths={list(found.bitwidths)}".lstrip(", ")
        about_net = [name for name in shipped_tasks() if _net_of(name) == found.net]
        raise ValueError(
            f"The task {str(task)!r} has {has}, not {asked}. Tasks of the net {found.net!r}: "
            f"{', '.join(about_net) or 'no other'}. To measure anything else: evaluator='live'."
        )
    return found


def task_evaluator(task: Task) -> Evaluator:
    """What answers for a task's search split."""
    return TASK_EVALUATORS[task.card["completeness"]](task)


def _default_task(net: Any, stated: dict[str, Any]) -> str:
    """The shipped task of a net that has what is stated, the net's default first."""
    if not isinstance(net, str):
        raise ValueError(
            f"net={net!r:.60} is no name, and shipped tasks are of named nets; a network of your "
            "own is measured by evaluator='live'."
        )
    candidates = [DEFAULT_TASKS[net]] if net in DEFAULT_TASKS else []
    candidates += [name for name in shipped_tasks() if name not in candidates]
    about_net = [name for name in candidates if is_synthetic(name) or _net_of(name) == net]
    about_net = [name for name in about_net if not is_synthetic(name) or net == "synthetic"]
    if not about_net:
        known = known_nets()
        if net not in known:
            hint = "A net of your own goes in as 'package.module:factory' with evaluator='live'."
            raise UnknownNameError("net", net, known, hint)
        raise ValueError(
            f"No task is shipped for the net {net!r} (there are: {_listed()}). To measure it: "
            "evaluator='live', with data= naming its images."
        )
    for name in about_net:
        card = {} if is_synthetic(name) else find_task(name).card
        if all(value is None or value == card.get(key) for key, value in stated.items()):
            return name
    _check_names(stated)
    asked = ", ".join(f"{key}={value!r}" for key, value in stated.items() if value is not None)
    raise ValueError(
        f"No shipped task of the net {net!r} has {asked}; there are {', '.join(about_net)}. "
        "To measure anything else: evaluator='live'."
    )


def _check_names(stated: dict[str, Any]) -> None:
    """A misspelt quantizer or recipe is no task that is missing."""
    cards = [find_task(name).card for name in shipped_tasks()]
    quantizers = {card["quantizer"] for card in cards}
    with contextlib.suppress(ModuleNotFoundError):
        from releq_gym.quantizers import QUANTIZERS

        quantizers |= set(QUANTIZERS.names())
    for name, known in (("quantizer", quantizers), ("recipe", RECIPES)):
        if stated[name] is not None and stated[name] not in known:
            raise UnknownNameError(name, stated[name], known)


def _net_of(name: str) -> str:
    return find_task(name).card["net"]


def _listed() -> str:
    return ", ".join([*shipped_tasks(), DEFAULT_TASKS["synthetic"]])


def known_nets() -> list[str]:
    """Every net by name; those that need torch only where it is installed."""
    known = set(DEFAULT_TASKS)
    try:
        from releq_gym.networks import NETWORKS
    except ModuleNotFoundError:
        return sorted(known)
    return sorted(known | set(NETWORKS.names()))
