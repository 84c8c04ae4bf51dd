"""One run of one searcher, be it an agent: played on a budget, answers read from its action log."""

from __future__ import annotations

import dataclasses
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import releq_gym
from agents.base import EPISODES_PER_EVALUATION, Agent
from benchmarks.learning import learn_until_spent
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.base import Evaluator
from releq_gym.ledger import Answer, Ledger
from releq_gym.problem import Problem
from releq_gym.replay import Revealed, read_revealed
from releq_gym.rewards import make_reward
from releq_gym.searchers import SEARCHERS, Searcher, confirm
from releq_gym.tasks.score import ExactScorer, TableScorer, make_scorer

COLUMNS = (
    *("task", "searcher", "seed", "budget", "bitwidths", "search_regret", "regret", "objective"),
    *("accuracy", "loss_points", "report_loss_points", "releq", "cost", "weighted_bitwidth"),
    *("excess_bits", "evaluations", "fresh", "simulated_seconds", "seconds", "version"),
    *("walk", "walk_search_regret"),
)
"""Of a row: who, the answer at a budget, its scores, what it took, and in an agent's last one the
greedy walk of its policy."""


KNOWN = ("uniform_hindsight", "search_oracle", "optimum")
"""In the place of a searcher: what nobody can know who searches."""


class Job(NamedTuple):
    """What identifies a run."""

    task: str
    searcher: str
    seed: int


def run(
    job: Job,
    budgets: Sequence[int],
    log: Path,
    changes: Mapping[str, Any] | None = None,
    search: Searcher | None = None,
) -> list[dict[str, Any]]:
    """Plays one run; one row per budget, the last of which tells of an agent's greedy walk, too.

    Args:
        job: Which; the searcher is one of ``releq_gym/searchers/``, or an agent (its name up to
            the first comma, where several variants of one are told apart).
        budgets: Of different assignments, ascending; the last one ends it.
        log: Where its action log goes.
        changes: Settings of the agent, or arguments of the environment, other than the default.
        search: Searches instead of what the job names.
    """
    started = time.perf_counter()
    ledger = Ledger(budgets[-1], log)

    def make_env(**options: Any) -> QuantizeNetEnv:
        if options.get("noise", "sample") != "sample":
            raise ValueError(
                f"{job.searcher} asks for noise={options['noise']!r}, which reveals the mean of "
                "all repeats where a budget counts one accuracy; runs are compared under 'sample'."
            )
        return QuantizeNetEnv(task=job.task, ledger=ledger, **options)

    played = play(make_env, job.searcher, job.seed, changes, search)
    seconds = round(time.perf_counter() - started, 2)
    revealed = read_revealed(log, played.problem)
    rows = [row | {"seconds": seconds} for row in score(job, revealed, played.problem, budgets)]
    rows[-1] |= _walked(job.task, played)
    return rows


def _walked(task: str, played: EndedRun) -> dict[str, Any]:
    """Columns of the greedy walk, where a policy has one."""
    if played.agent is None:
        return {}
    walk = played.agent.walk(QuantizeNetEnv(task=task, **played.options))
    if walk is None:
        return {}
    return {
        "walk": " ".join(map(str, walk)),
        "walk_search_regret": scorer_of(task).search_regret(walk),
    }


def score(
    job: Job, revealed: Iterable[Revealed], problem: Problem, budgets: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A row per budget of what a run revealed, all columns but its seconds.

    Args:
        job: The run.
        revealed: By it, in order.
        problem: Of it.
        budgets: Of different assignments, ascending.
    """
    found = answers(job, revealed, problem, budgets)
    for budget, one in zip(budgets, found, strict=True):
        yield {
            **judged(job, budget, one.answer.bitwidths),
            "objective": one.answer.objective,
            "accuracy": one.answer.accuracy,
            "loss_points": one.answer.loss_points,
            "evaluations": one.distinct,
            "fresh": one.fresh,
            "simulated_seconds": round(one.milliseconds / 1000, 1),
        }


def mean_accuracy(evaluator: Evaluator, bitwidths: Sequence[int]) -> float:
    """Of all repeats of an assignment, on search data."""
    return evaluator.evaluate(bitwidths, -1 if evaluator.repeats > 1 else 0).accuracy


def known_rows(task: str) -> list[dict[str, Any]]:
    """A row for each of `KNOWN`, as far as a task has it."""
    problem = QuantizeNetEnv(task=task).problem
    scorer = scorer_of(task)
    depth = len(problem.layers)
    uniform = [(bitwidth,) * depth for bitwidth in problem.bitwidths]
    known = {"uniform_hindsight": min(uniform, key=scorer.regret), "optimum": scorer.optimum}
    if isinstance(scorer, TableScorer):
        known["search_oracle"] = scorer.oracle
    every = len(problem.bitwidths) ** depth
    return [
        judged(Job(task, searcher, 0), every, bitwidths) for searcher, bitwidths in known.items()
    ]


class Found(NamedTuple):
    """What a run had found when a budget was reached.

    Attributes:
        answer: Confirmed.
        distinct: Different assignments revealed by then.
        fresh: Accuracies revealed, those that confirmed the answer included.
        milliseconds: That measuring these takes.
    """

    answer: Answer
    distinct: int
    fresh: int
    milliseconds: float


def answers(
    job: Job, revealed: Iterable[Revealed], problem: Problem, budgets: Sequence[int]
) -> Iterator[Found]:
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
        milliseconds = problem.evaluator.evaluate(one.bitwidths, one.repeat).milliseconds
        ledger.charge(problem, one.bitwidths, one.accuracy, milliseconds, one.repeat)
    for _ in waiting:  # The last budget, and those that a converged policy never spends.
        yield _confirmed(job, ledger)


def _confirmed(job: Job, ledger: Ledger) -> Found:
    """Of a run that stops here."""
    env = QuantizeNetEnv(task=job.task, ledger=pickle.loads(pickle.dumps(ledger)))
    env.reset(seed=job.seed)
    answer = confirm(env)
    if answer is None:
        raise ValueError("Nothing that was revealed by then may be an answer.")
    return Found(answer, env.ledger.distinct, env.ledger.fresh, env.ledger.milliseconds)


def judged(job: Job, budget: int, bitwidths: tuple[int, ...]) -> dict[str, Any]:
    """Those columns of a row that say who it is about and what an answer is worth."""
    scorer = scorer_of(job.task)
    report = scorer.report_transition(bitwidths)
    optimum = scorer.report_transition(scorer.optimum)
    return {
        **job._asdict(),
        "budget": budget,
        "bitwidths": " ".join(map(str, bitwidths)),
        "search_regret": scorer.search_regret(bitwidths),
        "regret": scorer.regret(bitwidths),
        "report_loss_points": report.loss_points,
        "releq": make_reward("releq")(report),
        "cost": report.cost,
        "weighted_bitwidth": report.weighted_bitwidth,
        "excess_bits": report.weighted_bitwidth - optimum.weighted_bitwidth,
        "version": releq_gym.__version__,
    }


@cache
def scorer_of(task: str) -> TableScorer | ExactScorer:
    """Of a task's own objective, made once."""
    return make_scorer(QuantizeNetEnv(task=task).problem)


class EndedRun(NamedTuple):
    """A run at its end.

    Attributes:
        problem: What was searched.
        agent: Who searched, its environments closed; None for a searcher.
        options: With which its environments were made.
    """

    problem: Problem
    agent: Agent | None
    options: Mapping[str, Any]


def play(
    make_env: Callable[..., QuantizeNetEnv],
    searcher: str,
    seed: int,
    changes: Mapping[str, Any] | None = None,
    search: Searcher | None = None,
) -> EndedRun:
    """Searches until the budget is spent or nothing more is asked.

    Args:
        make_env: Returns a new environment, made with the arguments it gets besides its own; all
            share one ledger with a budget of different assignments.
        searcher: One of ``releq_gym/searchers/``, or an agent (its name up to the first comma).
        seed: Fixes everything random.
        changes: Settings of an agent, or arguments of the environment, other than the defaults.
        search: What plays instead of the one that is registered under that name.
    """
    if search is None and searcher not in SEARCHERS:
        made = make_agent(make_env, searcher, seed, changes)
        learn_until_spent(made.agent, made.env.ledger, most_steps(made.env))
        return EndedRun(made.env.problem, made.agent, made.options)
    env = make_env(**(changes or {}))
    env.reset(seed=seed)
    (search or SEARCHERS[searcher])(env, np.random.default_rng(seed))
    env.close()
    return EndedRun(env.problem, None, changes or {})


def find(
    make_env: Callable[..., QuantizeNetEnv], searcher: str, seed: int
) -> tuple[Problem, Answer]:
    """What was searched by `play`, with the same arguments, and the confirmed answer."""
    problem = play(make_env, searcher, seed).problem
    env = make_env()
    env.reset(seed=seed)
    answer = confirm(env)
    assert answer is not None
    return problem, answer


class Made(NamedTuple):
    """An agent that has learned nothing.

    Attributes:
        agent: Itself.
        env: One of its environments.
        options: With which these were made.
    """

    agent: Agent
    env: QuantizeNetEnv
    options: Mapping[str, Any]


def make_agent(
    make_env: Callable[..., QuantizeNetEnv],
    agent: str,
    seed: int,
    changes: Mapping[str, Any] | None = None,
) -> Made:
    """Makes it with its default settings.

    Args:
        make_env: As of `play`, likewise the following.
        agent: By name, up to the first comma.
        seed: Fixes everything random.
        changes: Settings, or arguments of the environment, other than the default.
    """
    import torch

    from agents.base import find_agent

    torch.set_num_threads(1)
    agent_type = find_agent(agent.partition(",")[0])
    preset = agent_type.presets["default"]
    fields = {field.name for field in dataclasses.fields(preset.settings)}
    changes = changes or {}
    settings = dataclasses.replace(
        preset.settings, **{name: value for name, value in changes.items() if name in fields}
    )
    options = {**preset.environment, "gamma": settings.gamma}
    options |= {name: value for name, value in changes.items() if name not in fields}
    made: list[QuantizeNetEnv] = []

    def make_one() -> QuantizeNetEnv:
        made.append(make_env(**options))
        return made[-1]

    return Made(agent_type(make_one, settings, seed), made[0], options)


def most_steps(env: QuantizeNetEnv) -> int:
    """After so many an agent is stopped; where a cost budget leaves fewer, it is never spent."""
    budget = env.ledger.evaluation_budget
    assert budget is not None
    return EPISODES_PER_EVALUATION * budget["distinct"] * len(env.problem.steps)
