"""Builds a task of a deep network: a sample of its assignments, and a surrogate fitted to that."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from releq_gym.costs.quantization_state import layer_importance
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.evaluators.surrogate import NoiseTable
from releq_gym.tasks.build import finish, prepare
from releq_gym.tasks.format import Measurements, Task, write_task
from releq_gym.tasks.measure import Measurer
from releq_gym.tasks.plan import Plan, make_card
from releq_gym.tasks.sample import (
    SEARCHED,
    SOURCES,
    TOLERATED_POINTS,
    ask_searchers,
    draw,
)
from releq_gym.tasks.surrogate import Quality, Sample, compare, export, fit_noise, held_out

ROWS_PER_LAYER = 30
"""Assignments that are measured for every layer of the network, at least."""

LEAST_ROWS = 50
"""A sample that is smaller leaves too little to hold out."""

OPTIMISED = 51
"""Assignments that the surrogate takes for the best, measured to see whether they are."""

GAP_POINTS = 0.5
"""A surrogate that flatters its best assignments by less than this is good enough."""

ROUNDS = 3
"""Of optimising, measuring and fitting again, at most."""

SEED = 0
"""Of the sample."""


def build_sampled_task(
    plan: Plan,
    folder: str | os.PathLike,
    *,
    rows: int | None = None,
    data: str | os.PathLike | None = None,
    workers: int | None = None,
    command: str = "",
) -> Task:
    """Measures a sample, fits a surrogate and writes ``folder/<task id>/<version>/``.

    A third of the sample is what searchers ask for, see `releq_gym.tasks.sample`. Then the
    surrogate is optimised and what it takes for the best is measured, until it is no longer
    flattered. On report images only the last of these and the uniform assignments are measured.
    What was measured is kept in a file beside the task until the task is written.

    Args:
        plan: How to measure.
        folder: Parent of the task's own folder.
        rows: Size of the sample; None means `ROWS_PER_LAYER` for every layer.
        data: Where the network's data set lies; None where it is bundled or in the usual places.
        workers: Processes; None means one per core.
        command: What was typed, for the card.

    Raises:
        TaskError: Where that version of the task exists already.
        ValueError: For a sample that is too small, or a space that is hardly larger.
    """

    def check(evaluator: LiveEvaluator) -> None:
        layers, bitwidths = len(evaluator.layers), len(evaluator.bitwidths)
        if bitwidths**layers <= 2 * _wanted(rows, layers):
            raise ValueError(
                f"A sample of {_wanted(rows, layers)} is for larger spaces than {bitwidths} "
                f"bitwidths in {layers} layers; measure every assignment, without a surrogate."
            )

    if rows is not None and rows < LEAST_ROWS:
        raise ValueError(f"rows={rows}: a surrogate is fitted to {LEAST_ROWS} or more.")
    measurer, target, half = prepare(plan, folder, data, workers, check)
    if half is not None:
        return finish(measurer, half)
    evaluator = measurer.evaluator
    sources = _first_sample(measurer, _wanted(rows, len(evaluator.layers)))
    best, gaps = _refine(measurer, sources)
    searched = measurer.measure("search", list(sources))
    sample = _sample(evaluator, list(sources), searched)
    arrays = export(fit_noise(sample), sample.images)

    uniform = [(bitwidth,) * len(evaluator.layers) for bitwidth in evaluator.bitwidths]
    reported = list(dict.fromkeys([*uniform, *best]))
    on_report = measurer.measure("report", reported)
    measured = {
        "search": _with_rows(searched, sources, list(sources)),
        "report": _with_rows(on_report, sources, reported),
    }
    table = NoiseTable(**arrays, bitwidths=evaluator.bitwidths)
    quality = {
        "model": "noise",
        "rows": len(sources),
        "held_out": _held_out(sample, measured["search"]),
        "fitted": compare(
            1 - table.wrong(sample.bitwidths) / sample.images,
            sample.accuracy,
            evaluator.full_precision_accuracy,
        )._asdict(),
        "report": _report_quality(evaluator, table, reported, on_report)._asdict(),
        "gap_points": gaps,
    }
    card = make_card(
        plan,
        evaluator,
        measured,
        command,
        completeness="sampled",
        sources=list(SOURCES),
        surrogate=quality,
    )
    milliseconds = np.array(round(float(searched.milliseconds.mean())), dtype=np.int64)
    task = write_task(target, card, measured, {**arrays, "milliseconds": milliseconds})
    return finish(measurer, task)


def _wanted(rows: int | None, layers: int) -> int:
    """Size of a sample."""
    return max(ROWS_PER_LAYER * layers, LEAST_ROWS) if rows is None else rows


def _first_sample(measurer: Measurer, wanted: int) -> dict[tuple[int, ...], str]:
    """The sources of about so many measured assignments, the searchers' behind those drawn."""
    evaluator = measurer.evaluator
    drawn = draw(len(evaluator.layers), evaluator.bitwidths, wanted, SEED)
    sources = {each.bitwidths: each.source for each in drawn}
    measurer.measure("search", list(sources))
    missing = wanted - len(sources)
    with Console(stderr=True).status("") as status, measurer.like_workers():
        asked = ask_searchers(
            evaluator,
            missing,
            SEED,
            lambda found: status.update(
                f"{measurer.name}, searchers have asked for {found} of {missing}"
            ),
        )
    for each in asked:
        sources.setdefault(each.bitwidths, each.source)
    return sources


def _refine(
    measurer: Measurer, sources: dict[tuple[int, ...], str]
) -> tuple[list[tuple[int, ...]], list[float]]:
    """Adds what the surrogate takes for the best, until it is no longer flattered.

    Returns:
        The last of these, and by how many points they were flattered, round by round.
    """
    evaluator, gaps = measurer.evaluator, list[float]()
    while True:
        searched = measurer.measure("search", list(sources))
        sample = _sample(evaluator, list(sources), searched)
        arrays = export(fit_noise(sample), sample.images)
        table = NoiseTable(**arrays, bitwidths=evaluator.bitwidths)
        best = optimised(evaluator, table, OPTIMISED)
        if not best:
            return best, gaps
        found = _sample(evaluator, best, measurer.measure("search", best))
        predicted = 1 - table.wrong(found.bitwidths) / found.images
        gaps.append(100 * float((predicted - found.accuracy).mean()))
        known = len(sources)
        for each in best:
            sources.setdefault(each, "optimised")
        if len(sources) == known or abs(gaps[-1]) < GAP_POINTS or len(gaps) == ROUNDS:
            return best, gaps


def optimised(evaluator: LiveEvaluator, table: NoiseTable, count: int) -> list[tuple[int, ...]]:
    """What a surrogate takes for the best, for each of `TOLERATED_POINTS` an equal share.

    None for those that it takes for out of reach, since measuring batch norm anew costs more.

    The cheapest assignment within the loss, and the cheapest others of those that differ from it
    in two layers at most.

    Args:
        evaluator: Says what full precision gets right, and the layers.
        table: The surrogate.
        count: How many in all.
    """
    bitwidths = np.array(evaluator.bitwidths)
    importance = np.array([layer_importance(layer) for layer in evaluator.layers])
    costs = np.outer(importance, bitwidths)
    found: dict[tuple[int, ...], None] = {}
    for points in TOLERATED_POINTS:
        most_wrong = table.most_wrong(evaluator.full_precision_accuracy, points)
        if most_wrong < table.least_wrong:
            continue
        around = _two_flips(table.cheapest(costs, most_wrong), bitwidths)
        around = around[table.wrong(around) <= most_wrong]
        order = (around @ importance).argsort(kind="stable")
        share = order[: count // len(TOLERATED_POINTS)]
        found |= dict.fromkeys(map(tuple, around[share].tolist()))
    return list(found)


def _two_flips(assignment: Sequence[int], bitwidths: NDArray) -> NDArray[np.int64]:
    """An assignment and all that differ from it in one or two layers."""
    found = {tuple(assignment)}
    for first, second in itertools.combinations(range(len(assignment)), 2):
        for one, other in itertools.product(bitwidths.tolist(), repeat=2):
            changed = list(assignment)
            changed[first], changed[second] = one, other
            found.add(tuple(changed))
    return np.array(sorted(found))


def _sample(
    evaluator: LiveEvaluator, assignments: Sequence[tuple[int, ...]], measured: Measurements
) -> Sample:
    return Sample(
        bitwidths=np.array(assignments, dtype=np.uint8),
        correct=measured.correct.mean(axis=1),
        images=evaluator.images,
        full_precision_correct=round(evaluator.full_precision_accuracy * evaluator.images),
        sqnr_db=np.array([layer.sqnr_db for layer in evaluator.layers]),
    )


def _with_rows(
    measured: Measurements,
    sources: Mapping[tuple[int, ...], str],
    assignments: Sequence[tuple[int, ...]],
) -> Measurements:
    return Measurements(
        measured.correct,
        measured.milliseconds,
        measured.status,
        measured.seed,
        bitwidths=np.array(assignments, dtype=np.uint8),
        source=np.array([SOURCES.index(sources[each]) for each in assignments], dtype=np.uint8),
    )


def _held_out(sample: Sample, measured: Measurements) -> dict[str, Any]:
    assert measured.source is not None
    searched = [SOURCES.index(name) for name in SEARCHED]
    return {
        model: {what: quality._asdict() for what, quality in qualities.items()}
        for model, qualities in held_out(sample, measured.source, searched).items()
    }


def _report_quality(
    evaluator: LiveEvaluator,
    table: NoiseTable,
    assignments: Sequence[tuple[int, ...]],
    measured: Measurements,
) -> Quality:
    """Of predicted losses, on images that no surrogate has seen."""
    images = len(evaluator.splits.report)
    full = evaluator.measure_full_precision("report").correct / images
    shift = full - evaluator.full_precision_accuracy
    predicted = 1 - table.wrong(np.array(assignments)) / evaluator.images + shift
    return compare(predicted, measured.correct.mean(axis=1) / images, full)
