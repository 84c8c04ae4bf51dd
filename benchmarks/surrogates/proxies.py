"""Whether a task ranks assignments as the long retraining does, as its card states it."""

from __future__ import annotations

from typing import Any

import numpy as np

from releq_gym.tasks import find_task, shipped_tasks

COLUMNS = (
    "task", "quantizer", "images", "assignments", "spearman", "near_assignments", "near_spearman",
    "task_points", "long_points", "command",
)  # fmt: skip


def checked() -> list[str]:
    """Shipped tasks whose card compares them with the long retraining."""
    return [name for name in shipped_tasks() if "proxy" in find_task(name).card]


def read(task: str) -> list[dict[str, Any]]:
    """One row; ``_points`` are how far the best and the worst of the assignments lie apart.

    Args:
        task: By name.
    """
    found = find_task(task).card["proxy"]
    apart = np.ptp([pair[1:] for pair in found["pairs"]], axis=0)
    row = {name: found[name] for name in COLUMNS if name in found}
    row |= {"task": task, "images": found["recipe_fields"]["images"]}
    row |= dict(zip(("task_points", "long_points"), 100 * apart, strict=True))
    return [row]
