"""What a task's landscape is like, and whether it tells good searchers from bad ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from releq_gym.costs import make_cost
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.base import Evaluator
from releq_gym.evaluators.resolve import task_evaluator
from releq_gym.evaluators.surrogate import SurrogateEvaluator
from releq_gym.evaluators.table import TableEvaluator
from releq_gym.problem import Problem
from releq_gym.rewards import make_reward
from releq_gym.searchers import SEARCHERS, confirm
from releq_gym.tasks.format import Task
from releq_gym.tasks.score import ExactScorer, TableScorer, make_scorer

SEARCHED = ("random", "greedy", "local_search", "integer_program")
"""Searchers whose regret stands in a card."""

GATE = ("random", "local_search", "integer_program")
"""Those that have to fail for a task to rank others."""

GATE_REGRET = 0.1
"""What is less far from the optimum than this has not failed."""

SHARE, MOST = 0.05, 1_000
"""They may reveal this share of the space, and so many assignments at most."""

LEAST = 100
"""Fewer say nothing about searchers."""

SEEDS = 9


def landscape(
    task: Task, advance: Callable[[str], object] = lambda searcher: None
) -> dict[str, Any]:
    """Facts about a task under ``accuracy_floor`` and the paper's cost, as its card states them.

    * ``plateau_share``: assignments whose accuracy lies within one standard deviation of a single
      measurement of the highest, by repeats or, where there are none, by the images.
    * ``harmful_increase_share``: of all ways to give one layer its next higher bitwidth, those
      that lower the accuracy.
    * ``optimum``, on report data, and ``best_uniform``: bitwidths, ``cost`` and
      ``weighted_bitwidth``.
    * ``search_optimum`` of a table: likewise, the answer of somebody who knows all search data.
    * ``cheapest_measured`` of a surrogate: of the measured assignments that keep the tolerated
      loss on search images, the cheapest; the surrogate's optimum is only predicted.
    * ``regret`` and ``search_regret``: of searchers on report data and on search data, median
      over seeds, after ``evaluations`` different assignments; see `releq_gym.tasks.score`.
    * ``ranks_searchers``: whether the ``search_regret`` of those in `GATE` stays above
      `GATE_REGRET` after at least `LEAST` assignments. Regret on report data adds what is luck of
      the images.

    Args:
        task: With a table or a surrogate.
        advance: Told which searcher is at work.
    """
    evaluator = task_evaluator(task)
    problem = Problem(
        evaluator, reward=make_reward("accuracy_floor"), cost_model=make_cost("quantization_state")
    )
    scorer = make_scorer(problem)
    optimum = scorer.optimum  # of which some tasks know nothing
    evaluations = min(max(round(SHARE * task.configurations), 1), MOST)
    regret, search_regret = {}, {}
    for name in SEARCHED:
        advance(name)
        answers = [_search(evaluator, name, evaluations, seed) for seed in range(SEEDS)]
        regret[name] = float(np.median(list(map(scorer.regret, answers))))
        search_regret[name] = float(np.median(list(map(scorer.search_regret, answers))))
    uniform = [(bitwidth,) * len(evaluator.layers) for bitwidth in evaluator.bitwidths]
    best_uniform = min(uniform, key=scorer.regret)
    return {
        **_shape(evaluator),
        "optimum": _described(problem, optimum),
        **_known_to_searches(problem, scorer),
        "best_uniform": {
            **_described(problem, best_uniform),
            "regret": float(scorer.regret(best_uniform)),
        },
        "evaluations": evaluations,
        "regret": regret,
        "search_regret": search_regret,
        "ranks_searchers": evaluations >= LEAST
        and min(search_regret[name] for name in GATE) > GATE_REGRET,
    }


def _known_to_searches(problem: Problem, scorer: TableScorer | ExactScorer) -> dict[str, Any]:
    if isinstance(scorer, TableScorer):
        return {"search_optimum": _described(problem, scorer.oracle)}
    assert isinstance(problem.evaluator, SurrogateEvaluator)
    measured = problem.evaluator.task.measurements("search")
    assert measured.bitwidths is not None
    accuracies = measured.correct.mean(axis=1) / problem.evaluator.task.images("search")
    lost = 100.0 * (problem.evaluator.full_precision_accuracy - accuracies)
    within = measured.bitwidths[lost <= problem.max_loss_points + 1e-9]
    if not len(within):
        return {}
    return {
        "cheapest_measured": _described(problem, min(map(tuple, within.tolist()), key=problem.cost))
    }


def _shape(evaluator: Evaluator) -> dict[str, float]:
    if isinstance(evaluator, SurrogateEvaluator):
        return {"harmful_increase_share": evaluator.harmful_increase_share}
    assert isinstance(evaluator, TableEvaluator)  # the scorer has seen to it
    accuracies = evaluator.mean_accuracies()
    highest = float(accuracies.max())
    one = evaluator.task.card["noise_points"]["search"] / 100
    if not one:
        one = np.sqrt(highest * (1 - highest) / evaluator.images)
    grid = accuracies.reshape((len(evaluator.bitwidths),) * len(evaluator.layers))
    falls = [np.diff(grid, axis=layer) < 0 for layer in range(grid.ndim)]
    return {
        "plateau_share": float((accuracies >= highest - one).mean()),
        "harmful_increase_share": float(np.mean([fall.mean() for fall in falls])),
    }


def _search(evaluator: Evaluator, name: str, evaluations: int, seed: int) -> tuple[int, ...]:
    env = QuantizeNetEnv(evaluator=evaluator, evaluation_budget=evaluations)
    env.reset(seed=seed)
    SEARCHERS[name](env, np.random.default_rng(seed))
    answer = confirm(env)
    assert answer is not None
    return answer.bitwidths


def _described(problem: Problem, bitwidths: tuple[int, ...]) -> dict[str, Any]:
    economics = problem.economics(len(problem.steps), problem.totals(bitwidths))
    return {
        "bitwidths": list(bitwidths),
        "cost": economics.cost,
        "weighted_bitwidth": economics.weighted_bitwidth,
    }
