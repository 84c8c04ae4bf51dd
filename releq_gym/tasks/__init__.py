"""Tasks: measured search problems in a folder, readable without torch, data or a GPU."""

from __future__ import annotations

from releq_gym.tasks.catalog import DEFAULT_TASKS, FROZEN, find_task, shipped_tasks
from releq_gym.tasks.format import SCHEMA, Task, TaskError, load_task

__all__ = [
    "DEFAULT_TASKS",
    "FROZEN",
    "SCHEMA",
    "Task",
    "TaskError",
    "find_task",
    "load_task",
    "shipped_tasks",
]
