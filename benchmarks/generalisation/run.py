"""One entrant on one network that is held out, with one seed."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.generalisation.heuristics import (
    noise_of_others,
    noise_search,
    uniform_of_others,
    within_noise,
)
from benchmarks.generalisation.sweep import (
    BITWIDTHS,
    BUDGETS,
    ENTRANTS,
    LANDSCAPES_ALONE,
    NETS,
    PRETRAINING,
)
from benchmarks.runs import Job, judged, mean_accuracy
from benchmarks.runs import run as run_job
from releq_gym.env import QuantizeNetEnv
from releq_gym.problem import Problem
from releq_gym.tasks.catalog import DEFAULT_TASKS


@cache
def tasks() -> dict[str, str]:
    """The task of each network of the sweep."""
    return {net: DEFAULT_TASKS[net] for net in NETS}


def others(task: str) -> dict[str, str]:
    """Networks and tasks but for the one that is held out."""
    return {net: other for net, other in tasks().items() if other != task}


def run(job: Job, policies: Path) -> list[dict[str, Any]]:
    """A row per budget: 0 for those who can, the others for those who search.

    Args:
        job: Which.
        policies: Folder of the pretrained ones; what is missing is pretrained.
    """
    entrant = ENTRANTS[job.searcher]
    if entrant.kind == "policy":
        return _policy(job, policy_file(job, policies))
    if job.searcher == "uniform_of_others":
        bitwidth = uniform_of_others(tuple(others(job.task).values()))
        return [_unasked(job, (bitwidth,) * len(_problem(job.task).layers), time.perf_counter())]
    if job.searcher == "noise_of_others":
        return _noise(job)
    return _searched(job, {"bitwidths": BITWIDTHS})


def known_row(task: str) -> dict[str, Any]:
    """The best uniform bitwidth on search data, which nobody knows beforehand."""
    depth = len(_problem(task).layers)
    rows = [judged(Job(task, "uniform_oracle", 0), 0, (one,) * depth) for one in BITWIDTHS]
    return min(rows, key=lambda row: row["search_regret"])


def policy_file(job: Job, policies: Path) -> Path:
    """The policy of a job, pretrained on all other nets if it is not there yet."""
    import torch
    from filelock import FileLock

    from agents.policy_file import read_card
    from agents.pretrain import Pretraining, pretrain, remembered

    entrant = ENTRANTS[job.searcher]
    name = "-".join([entrant.observation, *["memory"] * entrant.memory])
    (net,) = (net for net, task in tasks().items() if task == job.task)
    taught = f"without-{net}" if entrant.taught_by_nets else "landscapes"
    path = policies / f"{name}-{taught}-{job.seed}.safetensors"
    plan = Pretraining(
        observation=entrant.observation,
        memory=entrant.memory,
        bitwidths=BITWIDTHS,
        seed=job.seed,
        **PRETRAINING,
    )
    if entrant.taught_by_nets:
        plan = dataclasses.replace(plan, nets=tuple(others(job.task)))
    else:
        plan = dataclasses.replace(plan, landscapes=LANDSCAPES_ALONE)
    policies.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # several runs need one that others teach, too
        if not path.is_file():
            torch.set_num_threads(1)
            pretrain(plan, path)
    card = read_card(path)
    if card.groups != plan.groups:
        raise ValueError(
            f"{path} was taught by {', '.join(card.groups)}, and {', '.join(plan.groups)} are to "
            "teach it; remove it, and the rows that came of such policies."
        )
    if (card.settings, card.bitwidths, card.seed) != (remembered(plan), BITWIDTHS, job.seed):
        raise ValueError(
            f"{path} was pretrained with other settings, bitwidths or another seed than the sweep "
            "has; remove it, and the rows that came of such policies."
        )
    return path


def _policy(job: Job, path: Path) -> list[dict[str, Any]]:
    from agents.policy_file import read_card
    from agents.pretrained import PretrainedAgent, PretrainedSettings
    from releq_gym.ledger import Ledger

    started, ledger = time.perf_counter(), Ledger()
    observation = read_card(path).observation
    agent = PretrainedAgent(
        lambda: QuantizeNetEnv(task=job.task, ledger=ledger, observation=observation),
        PretrainedSettings(policy=str(path)),
        job.seed,
    )
    first = agent.first_answer()
    agent.close()
    assert ledger.fresh == 0
    changes = {"policy": str(path), "observation": observation}
    return [_unasked(job, first, started), *_searched(job, changes)]


def _noise(job: Job) -> list[dict[str, Any]]:
    started = time.perf_counter()
    limit = noise_of_others(tuple(others(job.task).values()))
    env = QuantizeNetEnv(task=job.task, bitwidths=BITWIDTHS)
    first = env.problem.assignment(within_noise(env, limit))
    changes = {"bitwidths": BITWIDTHS}
    return [
        _unasked(job, first, started),
        *_searched(job, changes, noise_search(limit)),
    ]


def _searched(job: Job, changes: dict[str, Any], search: Any = None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        asked = [budget for budget in BUDGETS if budget]
        return run_job(job, asked, Path(folder) / "log.jsonl", changes, search)


def _unasked(job: Job, bitwidths: tuple[int, ...], started: float) -> dict[str, Any]:
    """The row of an answer that nothing was asked for."""
    problem = _problem(job.task)
    accuracy = mean_accuracy(problem.evaluator, bitwidths)
    known = problem.transition(bitwidths, accuracy)
    return {
        **judged(job, 0, bitwidths),
        "objective": problem.reward_of(known),
        "accuracy": accuracy,
        "loss_points": known.loss_points,
        "evaluations": 0,
        "fresh": 0,
        "simulated_seconds": 0.0,
        "seconds": round(time.perf_counter() - started, 2),
    }


@cache
def _problem(task: str) -> Problem:
    return QuantizeNetEnv(task=task).problem
