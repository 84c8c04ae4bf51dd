"""One run: at every checkpoint how its episodes fare, where its policy walks, what it answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import releq_gym
from agents.watch import PolicyHistory
from benchmarks.paper_figures import sweep
from benchmarks.runs import Job, answers, judged, make_agent, mean_accuracy, most_steps
from releq_gym.env import QuantizeNetEnv
from releq_gym.evaluators.synthetic import is_synthetic
from releq_gym.ledger import Ledger
from releq_gym.problem import Problem
from releq_gym.replay import read_records, read_revealed
from releq_gym.rewards import make_reward
from releq_gym.tasks.catalog import find_task

WINDOW = 50
"""Episodes that a reward is the mean of."""

COLUMNS = (
    *("task", "searcher", "seed", "budget", "episodes", "reward", "walk", "walk_reward"),
    *("walk_releq", "walk_regret", "walk_loss_points", "walk_keeps", "walk_bits"),
    *("bitwidths", "search_regret", "seconds", "version"),
)
"""Of a row; ``reward`` and ``walk_reward`` are by the reward that the run has learned from, and
``seconds`` those of a processor: other programs may run beside it."""


def checkpoints(task: str) -> tuple[int, ...]:
    """Different assignments revealed at which a row is made; the last of them ends a run."""
    exhaustive = not is_synthetic(task) and find_task(task).exhaustive
    budget = sweep.TABLE_BUDGET if exhaustive else sweep.DEEP_BUDGET
    parts = range(1, sweep.CHECKPOINTS + 1)
    return tuple(budget * part // sweep.CHECKPOINTS for part in parts)


def history_path(results: Path, task: str, variant: str) -> Path:
    """Where the policy of a run of `sweep.HISTORIES` is kept."""
    return results / "policy" / f"{task}-{variant}.npz"


def run(job: Job, results: Path) -> list[dict[str, Any]]:
    """One row per checkpoint; the policy's history goes to a file where it is to be drawn.

    Args:
        job: Its ``searcher`` is one of `sweep.VARIANTS`.
        results: Folder of what is kept.
    """
    budgets = checkpoints(job.task)
    kept = (job.task, job.searcher) in sweep.HISTORIES and job.seed == sweep.SEEDS[0]
    history = history_path(results, job.task, job.searcher) if kept else None
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        problem, walks = _learn(job, Ledger(budgets[-1], log), budgets, history)
        seconds = round(time.process_time() - started, 1)
        fared = fares(read_records(log), budgets)
        found = list(answers(job, read_revealed(log, problem), problem, budgets))
    return [
        {
            **job._asdict(),
            "budget": budget,
            "episodes": fare.episodes,
            "reward": round(fare.reward, 5),
            **_walked(job, problem, walk),
            **_answered(job, one.answer.bitwidths),
            "seconds": seconds,
            "version": releq_gym.__version__,
        }
        for budget, fare, walk, one in zip(budgets, fared, walks, found, strict=True)
    ]


class Fare(NamedTuple):
    """How the episodes of a run have fared by a checkpoint.

    Attributes:
        episodes: Played to their end.
        reward: Mean of the last `WINDOW` of them.
    """

    episodes: int
    reward: float


def fares(records: Iterable[Mapping[str, Any]], budgets: Sequence[int]) -> list[Fare]:
    """How a run has fared when each budget was reached, or when it ended where it never was.

    Args:
        records: Of its action log; rewards are paid at the end of an episode.
        budgets: Of different assignments, ascending.
    """
    known: set[tuple[int, ...]] = set()
    rewards: list[float] = []
    found: list[Fare] = []
    for record in records:
        if not record.get("revealed") or record["cut"]:
            continue
        known.add(tuple(record["bitwidths"]))
        rewards.append(sum(record["rewards"]))
        while len(found) < len(budgets) and len(known) >= budgets[len(found)]:
            found.append(_fare(rewards))
    return found + [_fare(rewards)] * (len(budgets) - len(found))


def _fare(rewards: Sequence[float]) -> Fare:
    return Fare(len(rewards), float(np.mean(rewards[-WINDOW:])))


def _learn(
    job: Job, ledger: Ledger, budgets: Sequence[int], history: Path | None
) -> tuple[Problem, list[tuple[int, ...]]]:
    """The problem that was searched, and where the policy would walk at each checkpoint."""
    variant = sweep.VARIANTS[job.searcher]

    def make_env(**options: Any) -> QuantizeNetEnv:
        return QuantizeNetEnv(task=job.task, ledger=ledger, **options)

    agent, env, options = make_agent(make_env, variant.agent, job.seed, variant.changes)
    watch = _Checkpoints(agent, QuantizeNetEnv(task=job.task, **options), ledger, budgets)
    agent.learn(most_steps(env), watch)
    agent.close()
    watch.finish()
    if history is not None:
        history.parent.mkdir(parents=True, exist_ok=True)
        history.unlink(missing_ok=True)
        kept = PolicyHistory(history, env.problem.bitwidths)
        for evaluations, probabilities in watch.policies:
            kept.append(evaluations, probabilities)
        kept.write()
    return env.problem, watch.walks


class _Checkpoints:
    """Lets the policy walk at every checkpoint, in an environment whose ledger nobody counts."""

    def __init__(self, agent: Any, env: QuantizeNetEnv, ledger: Ledger, budgets: Sequence[int]):
        self.walks: list[tuple[int, ...]] = []
        self.policies: list[tuple[int, NDArray[np.float32]]] = []
        self._agent, self._env, self._ledger, self._budgets = agent, env, ledger, budgets

    def after_step(self) -> bool:
        while self._waits and self._ledger.distinct >= self._budgets[len(self.walks)]:
            self._walk()
        return not self._ledger.spent

    def after_rollout(self, probabilities: NDArray[np.float32]) -> None:
        self.policies.append((self._ledger.distinct, probabilities))

    def finish(self) -> None:
        """The checkpoints that a settled policy has never reached."""
        while self._waits:
            self._walk()

    @property
    def _waits(self) -> bool:
        return len(self.walks) < len(self._budgets)

    def _walk(self) -> None:
        walk = self._agent.walk(self._env)
        assert walk is not None
        self.walks.append(walk)


def _walked(job: Job, problem: Problem, bitwidths: tuple[int, ...]) -> dict[str, Any]:
    """What a walk is worth on search data, by every reward that is asked about."""
    known = problem.transition(bitwidths, mean_accuracy(problem.evaluator, bitwidths))
    return {
        "walk": " ".join(map(str, bitwidths)),
        "walk_reward": round(problem.reward_of(known), 5),
        "walk_releq": round(make_reward("releq")(known), 5),
        "walk_regret": round(judged(job, 0, bitwidths)["search_regret"], 5),
        "walk_loss_points": round(known.loss_points, 3),
        "walk_keeps": int(known.loss_points <= known.max_loss_points + 1e-9),
        "walk_bits": round(known.weighted_bitwidth, 3),
    }


def _answered(job: Job, bitwidths: tuple[int, ...]) -> dict[str, Any]:
    known = judged(job, 0, bitwidths)
    return {
        "bitwidths": known["bitwidths"],
        "search_regret": round(known["search_regret"], 5),
    }
