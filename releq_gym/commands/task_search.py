"""``releq task search``."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from releq_gym.commands.choice import add_choice, chosen_among

EVALUATIONS = 600


def add_command(actions: Any) -> None:
    """Puts it among the actions of ``releq task``."""
    search = actions.add_parser(
        "search", help="look for the best assignment, and tell how far it is from the optimum"
    )
    search.add_argument("task", help="a shipped or generated task by name, or a folder")
    search.add_argument(
        "--max-loss-points", type=float, help="what may be lost (default: the task's)"
    )
    add_choice(search)
    search.add_argument(
        "--evaluation-budget",
        type=int,
        default=EVALUATIONS,
        help="different assignments to ask for (default %(default)s)",
    )
    kept = search.add_mutually_exclusive_group()
    kept.add_argument("--log", metavar="FILE", help="action log (.jsonl), for benchmarks.validate")
    kept.add_argument(
        "--folder", type=Path, help="a new one for the result, its Pareto set and the action log"
    )
    search.set_defaults(run=_search)


def _search(options: argparse.Namespace) -> int:
    import numpy as np
    from rich.console import Console

    from releq_gym.env import QuantizeNetEnv
    from releq_gym.ledger import Ledger
    from releq_gym.pareto import measured_point, pareto_set, write_search
    from releq_gym.result import LOG_FILE, Result
    from releq_gym.search_display import Watched, progress_of_search
    from releq_gym.searchers import SEARCHERS, confirm

    floor, folder = options.max_loss_points, options.folder
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder (--folder).")
    play = SEARCHERS[options.searcher]
    env = QuantizeNetEnv(
        task=options.task,
        reward_kwargs=None if floor is None else {"max_loss_points": floor},
        ledger=Ledger(options.evaluation_budget, folder / LOG_FILE if folder else options.log),
        **chosen_among(options),
    )
    started = time.perf_counter()
    env.reset(seed=options.seed)
    stopped = False
    try:
        with progress_of_search(Console(stderr=True)) as bar:
            watched = Watched(env, bar)
            play(watched, np.random.default_rng(options.seed))
            watched.finish()
            confirm(watched)
    except KeyboardInterrupt:
        print("Stopped; this is the answer so far.", file=sys.stderr)
        stopped = True
    env.close()
    answer, seconds = env.ledger.best(env.problem), time.perf_counter() - started
    if answer is None:
        return 130
    print(_describe(env, options.searcher, seconds))
    if folder is not None:
        result = Result.of(
            env.problem,
            env.ledger,
            answer,
            finished=not stopped,
            data=None,
            searcher=options.searcher,
            seed=options.seed,
            seconds=seconds,
            command=shlex.join(["releq", *options.typed]),
        )
        chosen = measured_point(env.problem, answer.bitwidths, answer.accuracy)
        write_search(folder, result, pareto_set(env.ledger, env.problem), chosen)
        print(f"written to {folder}")
    return 130 if stopped else 0


def _describe(env: Any, searcher: str, seconds: float) -> str:
    problem, ledger = env.problem, env.ledger
    answer = ledger.best(problem)
    known = problem.transition(answer.bitwidths, answer.accuracy)
    figures = {"cost": known.cost, **problem.figures_of(answer.bitwidths)}
    told = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
    weighted, average = known.weighted_bitwidth, known.average_bitwidth
    lost = f"{known.loss_points:.2f} of at most {problem.max_loss_points:g} points"
    kept = "" if known.loss_points <= problem.max_loss_points + 1e-9 else ", which is more"
    lines = [
        f"{problem.evaluator.name}: {searcher}, {ledger.distinct:,} different assignments, "
        f"{ledger.fresh:,} accuracies, {seconds:.1f} s",
        f"  answer      {' '.join(map(str, answer.bitwidths))}",
        f"  loss        {lost}{kept}",
        f"  bits        {weighted:.2f} per weight, {average:.2f} per layer",
        f"  costs       {told}",
        f"  regret      {_regret(problem, answer.bitwidths)}",
    ]
    return "\n".join(lines)


def _regret(problem: Any, bitwidths: tuple[int, ...]) -> str:
    from releq_gym.tasks.score import make_scorer

    try:
        scorer = make_scorer(problem)
    except ValueError as error:
        return f"unknown: {error}"
    told = f"{scorer.search_regret(bitwidths):.4f}"
    if scorer.has_report:
        told += f" on search data, {scorer.regret(bitwidths):.4f} on report data"
    told += " (0 the optimum, 1 a random assignment"
    if problem.caution(problem.evaluator.full_precision_accuracy - 0.01):
        told += "; answers count a standard error below their accuracy on search data"
    return f"{told})"
