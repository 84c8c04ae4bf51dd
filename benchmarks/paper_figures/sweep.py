"""What is run: data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SEEDS = tuple(range(300, 310))
"""None of them was used while tuning."""

PLANNED = 5
"""So many of them where nobody asks for more."""

TABLE_BUDGET, DEEP_BUDGET = 600, 1_000
"""Different assignments that a run may reveal, where all were measured and elsewhere."""

CHECKPOINTS = 20
"""Rows of a run, at equal shares of its budget."""

TASKS = (
    "lenet-mnist-uniform-ptq-w1to8",
    "svhn10-mnistm-uniformpc-ptq-w1to8",
    "vgg11-cifar10-uniformpc-ptq-w1to8",
    "synthetic-20-0",
)
"""On which variants are compared."""


@dataclass(frozen=True)
class Variant:
    """An agent with some settings other than its default ones.

    Attributes:
        label: In tables.
        agent: Of ``agents/``.
        changes: Its settings, or arguments of its environment.
    """

    label: str
    agent: str = "recurrent_ppo"
    changes: dict[str, Any] = field(default_factory=dict)


_RELEQ = {"reward": "releq"}
_PAPER = {"observation": "paper"}

VARIANTS: dict[str, Variant] = {
    "accuracy_floor": Variant("`accuracy_floor` (our default)"),
    "releq": Variant("`releq` (the paper's), clip 0.2", changes=_RELEQ),
    "ratio": Variant("`ratio`", changes={"reward": "ratio"}),
    "difference": Variant("`difference`", changes={"reward": "difference"}),
    "releq, clip 0.1": Variant("`releq`, clip 0.1", changes={**_RELEQ, "clip_range": 0.1}),
    "releq, clip 0.3": Variant("`releq`, clip 0.3", changes={**_RELEQ, "clip_range": 0.3}),
    "accuracy_floor, MLP": Variant("`accuracy_floor`, layer observation, MLP", "ppo"),
    "accuracy_floor, paper observation": Variant(
        "`accuracy_floor`, paper observation, LSTM", changes=_PAPER
    ),
    "accuracy_floor, paper observation, MLP": Variant(
        "`accuracy_floor`, paper observation, MLP", "ppo", _PAPER
    ),
    "releq, paper observation": Variant(
        "`releq`, paper observation, LSTM", changes={**_RELEQ, **_PAPER}
    ),
    "releq, paper observation, MLP": Variant(
        "`releq`, paper observation, MLP", "ppo", {**_RELEQ, **_PAPER}
    ),
}
"""By name; what is not stated is as the default preset has it, clip 0.2 included."""

REWARDS = ("releq", "ratio", "difference", "accuracy_floor")

CLIPS = ("releq, clip 0.1", "releq", "releq, clip 0.3")

MEMORY = {
    "default observation, `accuracy_floor`": ("accuracy_floor", "accuracy_floor, MLP"),
    "paper observation, `accuracy_floor`": (
        "accuracy_floor, paper observation",
        "accuracy_floor, paper observation, MLP",
    ),
    "paper observation, `releq`": ("releq, paper observation", "releq, paper observation, MLP"),
}
"""With an LSTM and without, by what else they share; the last is the paper's own setting."""

PAPER_SPEED_UP = 1.33
"""How much faster the paper's agent converges with an LSTM."""

HISTORIES = tuple(
    (task, reward)
    for task in ("lenet-mnist-uniform-ptq-w1to8", "vgg11-cifar10-uniformpc-ptq-w1to8")
    for reward in ("releq", "accuracy_floor")
)
"""Whose policy is drawn over training, by task and variant; of the first seed."""
