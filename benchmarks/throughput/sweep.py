"""What is measured: tasks, settings, numbers of copies, agents."""

from __future__ import annotations

from typing import Any

from releq_gym.tasks.catalog import shipped_tasks

ID = "releq/QuantizeNet-v0"

REFERENCE = "CartPole-v1"
"""What everything is compared with: Gymnasium's simplest environment."""

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "evaluate every step": {"evaluate": "every_step"},
    "reward every step": {"reward_timing": "every_step"},
    "telescoped": {"reward_timing": "telescoped"},
}
"""Arguments of the environment, by a name for them."""

COPIES = (64, 1024)
"""Of the vector environment."""

AGENTS = ("PPO", "RecurrentPPO", "RecurrentPPO, agents.lstm")
"""Under their library's defaults; the last one with the policy of `agents.lstm`."""

NET = "lenet"
"""Whose default task agents are trained on."""


def tasks() -> list[str]:
    """Every shipped task, and a synthetic one of 20 layers."""
    return [*shipped_tasks(), "synthetic-20-0"]
