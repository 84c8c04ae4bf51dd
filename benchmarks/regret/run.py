"""One run of one searcher: played on a budget, answers read from its action log."""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import releq_gym
from benchmarks.learning import learn_until_spent
from benchmarks.regret.sweep import AGENT, BUDGETS, EPISODES_PER_EVALUATION, VARIANTS
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Answer, Ledger
from releq_gym.problem import Problem
from releq_gym.replay import Revealed, read_revealed
from releq_gym.searchers import SEARCHERS, confirm
from releq_gym.tasks.score import TableScorer, make_scorer


class Job(NamedTuple):
    """What identifies a run."""

    task: str
    searcher: str
    seed: int


def run(job: Job) -> list[dict[str, Any]]:
    """Plays one run; one row per budget, its regret taken on report data."""
    started = time.perf_counter()
    budgets = BUDGETS[job.task]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        problem = _search(job, Ledger(budgets[-1], log))
        seconds = time.perf_counter() - started
        revealed = read_revealed(log, problem)
    scorer = make_scorer(problem)
    rows = []
    found = answers(job, revealed, problem, budgets)
    for budget, (answer, fresh) in zip(budgets, found, strict=True):
        known = problem.transition(answer.bitwidths, answer.accuracy)
        rows.append(
            {
                "task": job.task,
                "searcher": job.searcher,
                "seed": job.seed,
                "budget": budget,
                "bitwidths": " ".join(map(str, answer.bitwidths)),
                "regret": scorer.regret(answer.bitwidths),
                "objective": answer.objective,
                "accuracy": answer.accuracy,
                "loss_points": known.loss_points,
                "cost": known.cost,
                "weighted_bitwidth": known.weighted_bitwidth,
                "fresh": fresh,
                "seconds": round(seconds, 2),
                "version": releq_gym.__version__,
            }
        )
    return rows


def oracle_rows(task: str) -> list[dict[str, Any]]:
    """What nobody can know who searches: the search oracle, and the best uniform in hindsight."""
    problem = QuantizeNetEnv(task=task).problem
    scorer = make_scorer(problem)
    depth = len(problem.layers)
    uniform = [(bitwidth,) * depth for bitwidth in problem.bitwidths]
    known = {"uniform_hindsight": min(uniform, key=scorer.regret), "optimum": scorer.optimum}
    if isinstance(scorer, TableScorer):
        known["search_oracle"] = scorer.oracle
    return [
        {
            "task": task,
            "searcher": searcher,
            "seed": 0,
            "budget": len(problem.bitwidths) ** depth,
            "bitwidths": " ".join(map(str, bitwidths)),
            "regret": scorer.regret(bitwidths),
            "weighted_bitwidth": problem.transition(bitwidths, 1.0).weighted_bitwidth,
            "version": releq_gym.__version__,
        }
        for searcher, bitwidths in known.items()
    ]


def _search(job: Job, ledger: Ledger) -> Problem:
    if job.searcher in SEARCHERS:
        env = QuantizeNetEnv(task=job.task, ledger=ledger)
        env.reset(seed=job.seed)
        SEARCHERS[job.searcher](env, np.random.default_rng(job.seed))
        env.close()
        return env.problem
    return _learn(job, ledger)


def _learn(job: Job, ledger: Ledger) -> Problem:
    import torch

    from agents.base import AGENTS

    torch.set_num_threads(1)
    preset = AGENTS[AGENT].presets["default"]
    fields = {field.name for field in dataclasses.fields(preset.settings)}
    changes = VARIANTS[job.searcher]
    settings = dataclasses.replace(
        preset.settings, **{name: value for name, value in changes.items() if name in fields}
    )
    options = {**preset.environment, "gamma": settings.gamma}
    options |= {name: value for name, value in changes.items() if name not in fields}

    def make_env() -> QuantizeNetEnv:
        return QuantizeNetEnv(task=job.task, ledger=ledger, **options)

    problem = QuantizeNetEnv(task=job.task).problem
    agent = AGENTS[AGENT](make_env, settings, job.seed)
    budget = BUDGETS[job.task][-1]
    learn_until_spent(agent, ledger, EPISODES_PER_EVALUATION * budget * len(problem.steps))
    return problem


def answers(
    job: Job, revealed: Iterable[Revealed], problem: Problem, budgets: Sequence[int]
) -> Iterator[tuple[Answer, int]]:
    """The confirmed answer when each budget was reached, before the next new assignment.

    Args:
        job: The run.
        revealed: By it, in order.
        problem: Of it.
        budgets: Of different assignments, ascending.
    """
    ledger, waiting = Ledger(), list(budgets)
    known: set[tuple[int, ...]] = set()
    for one in revealed:
        if waiting and one.bitwidths not in known and len(known) == waiting[0]:
            yield _confirmed(job, ledger)
            waiting.pop(0)
        known.add(one.bitwidths)
        ledger.charge(problem, one.bitwidths, one.accuracy, repeat=one.repeat)
    for _ in waiting:  # The last budget, and those that a converged policy never spends.
        yield _confirmed(job, ledger)


def _confirmed(job: Job, ledger: Ledger) -> tuple[Answer, int]:
    """The answer of a run that stops here, and the accuracies revealed by then."""
    env = QuantizeNetEnv(task=job.task, ledger=pickle.loads(pickle.dumps(ledger)))
    env.reset(seed=job.seed)
    confirm(env)
    answer = env.ledger.best(env.problem)
    assert answer is not None
    return answer, env.ledger.fresh
