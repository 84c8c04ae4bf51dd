"""Measures a task: every assignment, retrained and tested, into a folder that others can use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from releq_gym.evaluators.full_precision import warn_near_chance
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.tasks.format import (
    SPLITS,
    Task,
    TaskError,
    configurations,
    extend_card,
    load_task,
    write_task,
)
from releq_gym.tasks.landscape import landscape
from releq_gym.tasks.measure import Measurer
from releq_gym.tasks.plan import Plan, make_card, stated, task_id

MOST_ASSIGNMENTS = 1_000_000
"""Of a table; more are days of measuring."""


def build_task(
    plan: Plan,
    folder: str | os.PathLike,
    *,
    data: str | os.PathLike | None = None,
    workers: int | None = None,
    command: str = "",
) -> Task:
    """Measures every cell and writes ``folder/<task id>/<version>/``.

    Finished cells are kept in a file beside the task, so that a build that was stopped at any
    moment goes on where it was; the file is removed once the task is written.

    Args:
        plan: What to measure.
        folder: Parent of the task's own folder.
        data: Where the network's data set lies; None where it is bundled or in the usual places.
        workers: Processes; None means one per core.
        command: What was typed, for the card.

    Raises:
        TaskError: Where that version of the task exists already.
        ValueError: For more assignments than `MOST_ASSIGNMENTS`.
    """

    def check(evaluator: LiveEvaluator) -> None:
        layers, bitwidths = len(evaluator.layers), len(evaluator.bitwidths)
        if bitwidths**layers > MOST_ASSIGNMENTS:
            raise ValueError(
                f"{bitwidths} bitwidths in {layers} layers are {bitwidths**layers:,} assignments; "
                f"a table holds {MOST_ASSIGNMENTS:,} at most. Offer fewer bitwidths, or fit a "
                "surrogate to a sample (build_sampled_task; releq task build --surrogate)."
            )

    measurer, target, half = prepare(plan, folder, data, workers, check)
    if half is not None:
        return finish(measurer, half)
    evaluator = measurer.evaluator
    every = configurations(evaluator.bitwidths, len(evaluator.layers)).tolist()
    measured = {split: measurer.measure(split, every) for split in SPLITS}
    task = write_task(target, make_card(plan, evaluator, measured, command), measured)
    return finish(measurer, task)


def prepare(
    plan: Plan,
    folder: str | os.PathLike,
    data: str | os.PathLike | None,
    workers: int | None,
    check: Callable[[LiveEvaluator], None] = lambda evaluator: None,
) -> tuple[Measurer, Path, Task | None]:
    """What measures a task that is to be built, its folder, and what `unfinished` finds there.

    Args:
        plan: As of `build_task`, likewise the following.
        folder: Parent of the task's own folder.
        data: Where the images lie.
        workers: Processes.
        check: Raises where such a task cannot be built; called while nothing is there yet.

    Raises:
        TaskError: Where that version of the task exists already.
        ValueError: For fewer than one process.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} has to be 1 or more; None means one per core.")
    folder = Path(folder)
    evaluator = plan.evaluator(data, memo=False)
    check(evaluator)
    name = task_id(evaluator, plan)
    target = folder / name / plan.version
    half = unfinished(target, stated(plan, evaluator))
    if half is not None:
        _check_made_from(half, plan, evaluator)
    if half is None and (target / "card.json").exists():
        raise TaskError(
            f"{target} holds a task already; a changed task needs a new version (version=, on the "
            "command line --version), or another folder (--output)."
        )
    if half is None:
        warn_near_chance(evaluator)
    folder.mkdir(parents=True, exist_ok=True)
    memo = folder / f"{name}-{plan.version}.partial.sqlite"
    return Measurer(plan, name, data, memo, workers or os.cpu_count() or 1), target, half


def unfinished(target: Path, wanted: Mapping[str, Any]) -> Task | None:
    """The task whose build was stopped when all was measured, but its landscape not described.

    Args:
        target: Its folder.
        wanted: Entries that its card has to have.

    Raises:
        TaskError: Where it has others, of another plan.
    """
    if not (target / "card.json").exists():
        return None
    task = load_task(target)
    if "landscape" in task.card or task.configurations == 1:
        return None
    if differing := [name for name, value in wanted.items() if task.card.get(name) != value]:
        raise TaskError(
            f"{target} holds a task that was made otherwise (another {', '.join(differing)}); a "
            "changed task needs a new version."
        )
    return task


def _check_made_from(half: Task, plan: Plan, evaluator: LiveEvaluator) -> None:
    """Refuses to finish a task that was measured on something else."""
    card, splits = half.card, evaluator.splits
    train = None if splits.train is None else splits.train.sha256
    pairs = {
        "weights": (card["full_precision"]["weights_sha256"], evaluator.weights_sha256),
        "search images": (card["splits"]["search"]["sha256"], splits.search.sha256),
        "training images": (card["splits"].get("train", {}).get("sha256"), train),
        "known issues": (card["known_issues"], list(plan.known_issues)),
    }
    if differing := [name for name, (held, asked) in pairs.items() if held != asked]:
        raise TaskError(
            f"{half.name} was measured with other {', '.join(differing)}; a changed task needs a "
            "new version."
        )


def finish(measurer: Measurer, task: Task) -> Task:
    """Forgets the cells of a task that is written, and describes its landscape."""
    measurer.forget()
    return add_landscape(task)


def add_landscape(task: Task) -> Task:
    """Puts the facts of `releq_gym.tasks.landscape` into a task's card; shows who is at work."""
    if task.configurations == 1:
        return task
    with Console(stderr=True).status("") as status:
        facts = landscape(task, lambda name: status.update(f"{task.name}, landscape: {name}"))
    return extend_card(task, landscape=facts)
