"""The live evaluator behind a task, refused where it is not what the task was measured with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.networks import NetworkLike, Recipe
from releq_gym.tasks.format import Task, TaskError
from releq_gym.tasks.plan import make_live


def live_twin(
    task: Task,
    data: str | os.PathLike | None = None,
    *,
    net: NetworkLike | None = None,
    weights: str | os.PathLike | None = None,
    memo: bool = True,
) -> LiveEvaluator:
    """The live evaluator of what a task has measured.

    Args:
        task: The task.
        data: Where the images lie.
        net: The network, where it is not a registered one: what a card names is not imported.
        weights: Checkpoint of a network whose weights are not shipped.
        memo: Whether it keeps results, and uses those it has kept.

    Raises:
        ValueError: Where data or weights are not at hand.
        TaskError: Where the network has to be passed, or where weights, recipe or images differ
            from what the card states.
    """
    card = task.card
    if net is None and ":" in card["net"]:
        raise TaskError(
            f"{task.name} is of the net {card['net']}, and what a file names is not imported; if "
            f"you trust it, pass net={card['net']!r} (for `releq task`: --net {card['net']})."
        )
    twin = make_live(
        card["net"] if net is None else net,
        data=data,
        search_images=card.get("search_images"),
        weights=weights,
        quantizer=card["quantizer"],
        quantizer_kwargs=card.get("quantizer_kwargs"),
        recipe=card["recipe"],
        recipe_kwargs=card.get("recipe_kwargs"),
        bitwidths=card["bitwidths"],
        activation_bitwidth=card["activation_bitwidth"],
        memo=memo,
    )
    if different := list(_differences(card, twin)):
        raise TaskError(
            f"{task.name} was not measured with what is at hand: {'; '.join(different)}."
        )
    return twin


def _differences(card: dict[str, Any], twin: LiveEvaluator) -> Iterator[str]:
    """A clause on everything that differs from what the card states."""
    if twin.weights_sha256 != card["full_precision"].get("weights_sha256"):
        yield f"the weights of {twin.net} are others"
    # A field that a recipe has gained since stands in no card; its default changes nothing.
    stated = asdict(Recipe()) | card.get("recipe_fields", asdict(twin.recipe))
    now = asdict(twin.recipe)
    for name in sorted(stated.keys() | now.keys()):
        if stated.get(name) != now.get(name):
            yield f"the recipe has {name} {now.get(name)!r} instead of {stated.get(name)!r}"
    parts = {
        "train": twin.splits.train,
        "search": twin.splits.search,
        "report": twin.splits.report,
    }
    for split, part in parts.items():
        expected = card["splits"].get(split, {}).get("sha256")
        if expected and (part is None or part.sha256 != expected):
            yield f"the {split} images of {twin.splits.name} are others"
