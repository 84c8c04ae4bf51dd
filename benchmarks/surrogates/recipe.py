"""The recipe against the truth: fitted to a tenth of a table, compared with the rest of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.surrogate import NoiseTable
from releq_gym.evaluators.table import TableEvaluator
from releq_gym.tasks import find_task, shipped_tasks
from releq_gym.tasks.format import configurations
from releq_gym.tasks.sample import ask_searchers, draw
from releq_gym.tasks.score import TableScorer
from releq_gym.tasks.surrogate import MODELS, Quality, Sample, compare, export, fit_noise

SHARE = 0.1
"""Of the table that is fitted to."""

COLUMNS = ("task", "model", "fitted", *Quality._fields, "optimum_search_regret")


def tables() -> list[str]:
    """Shipped tasks whose every assignment is known."""
    return [name for name in shipped_tasks() if find_task(name).exhaustive]


def measure(task: str) -> list[dict[str, Any]]:
    """One row per model; what it calls the optimum is valued by the table, for the one that can.

    Args:
        task: By name.
    """
    problem = QuantizeNetEnv(task=task).problem
    table = problem.evaluator
    assert isinstance(table, TableEvaluator)
    every = configurations(table.bitwidths, len(table.layers))
    truth = table.mean_accuracies()
    chosen = _sampled(table, round(SHARE * len(every)))
    rest = np.setdiff1d(np.arange(len(every)), chosen)
    sample = Sample(
        every[chosen],
        truth[chosen] * table.images,
        table.images,
        round(table.full_precision_accuracy * table.images),
        np.array([layer.sqnr_db for layer in table.layers]),
    )
    rows = []
    for name, fit in MODELS.items():
        predicted = fit(sample)(every[rest])
        quality = compare(predicted, truth[rest], table.full_precision_accuracy)
        rows.append({"task": task, "model": name, "fitted": len(chosen), **quality._asdict()})
    costs = np.stack([problem.layer_costs(bitwidth) for bitwidth in table.bitwidths], axis=1)
    surrogate = NoiseTable(**export(fit_noise(sample), table.images), bitwidths=table.bitwidths)
    most_wrong = surrogate.most_wrong(table.full_precision_accuracy, problem.max_loss_points)
    optimum = surrogate.cheapest(costs, most_wrong)
    rows[0]["optimum_search_regret"] = TableScorer(problem).search_regret(optimum)
    return rows


def _sampled(table: TableEvaluator, count: int) -> NDArray[np.intp]:
    """Rows of a sample as it is drawn for a deep network."""
    drawn = draw(len(table.layers), table.bitwidths, count, seed=0)
    asked = ask_searchers(table, count - len(drawn), seed=0)
    rows = {int(table.index(one.bitwidths)) for one in [*drawn, *asked]}
    return np.array(sorted(rows), dtype=np.intp)
