"""The quality of every shipped surrogate, as its card states it."""

from __future__ import annotations

from typing import Any

from releq_gym.tasks import find_task, shipped_tasks

COLUMNS = (
    "task", "rows", "held_out", "model", "rmse_points", "near_rmse_points", "r2", "kendall_tau",
    "spearman_top", "gap_points", "report_rows", "report_rmse_points", "report_bias_points",
)  # fmt: skip


def sampled() -> list[str]:
    """Shipped tasks with a surrogate."""
    return [name for name in shipped_tasks() if not find_task(name).exhaustive]


def read(task: str) -> list[dict[str, Any]]:
    """A row per model and per part that was held out; the rest stands with the shipped model.

    Args:
        task: By name.
    """
    quality = find_task(task).card["surrogate"]
    rows = []
    for model, parts in quality["held_out"].items():
        for what, found in parts.items():
            row = {name: found[name] for name in COLUMNS if name in found}
            row |= {"task": task, "rows": quality["rows"], "held_out": what, "model": model}
            if model == quality["model"]:
                row["gap_points"] = " ".join(f"{gap:+.2f}" for gap in quality["gap_points"])
                report = quality["report"]
                row["report_rows"] = report["rows"]
                row["report_rmse_points"] = report["rmse_points"]
                row["report_bias_points"] = report["bias_points"]
            rows.append(row)
    return rows
