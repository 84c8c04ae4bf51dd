"""The measurements of a task under another tolerated loss: another task, nothing measured."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from releq_gym.tasks.build import add_landscape, unfinished
from releq_gym.tasks.format import Task, TaskError, write_task

FOLLOWING = ("schema", "repeats", "rows", "seeds", "sha256", "card_sha256", "landscape", "proxy")
"""Entries of a card that are worked out anew, or do not hold under another loss."""


def derive_task(
    task: Task, folder: str | os.PathLike, max_loss_points: float, command: str = ""
) -> Task:
    """Writes ``folder/<task id>-loss<points>/<version>/`` with the same arrays.

    Args:
        task: With a table of every assignment, measured here.
        folder: Parent of the task's own folder.
        max_loss_points: The loss that is tolerated instead, 0 or more.
        command: What was typed, for the card.

    Raises:
        TaskError: For a surrogate, which was fitted around its own tolerated loss, a table without
            report data, or where that version of the task exists already.
        ValueError: For a loss below 0 or without end.
    """
    if not 0 <= max_loss_points < math.inf:
        raise ValueError(f"max_loss_points={max_loss_points} has to be 0 or more points.")
    if not task.exhaustive or "report" not in task.splits:
        raise TaskError(
            f"{task.name} has no table of every assignment on search and report data; build it (or "
            "import it) anew with that tolerated loss."
        )
    name = re.sub(r"-loss[\d.]+$", "", task.card["id"]) + f"-loss{max_loss_points:g}"
    target = Path(folder) / name / task.card["version"]
    if half := unfinished(target, {"derived_from": task.name}):
        return add_landscape(half)
    card = {key: value for key, value in task.card.items() if key not in FOLLOWING} | {
        "id": name,
        "max_loss_points": float(max_loss_points),
        "derived_from": task.name,
        "generator": {**task.card["generator"], "derived_by": command},
    }
    measured = {split: task.measurements(split) for split in task.splits}
    return add_landscape(write_task(target, card, measured))
