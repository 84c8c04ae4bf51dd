"""Builds a task of a deep network: a sample of its assignments, and a surrogate fitted to that."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from releq_gym.costs import make_cost
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.evaluators.surrogate import NoiseTable
from releq_gym.layers import BITWIDTHS
from releq_gym.tasks.build import add_landscape, clean_up, prepare
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
    flattered. On report images only these and the uniform assignments are measured. What was
    measured is kept in a file beside the task until the task is written.

    Args:
        plan: How to measure.
        folder: Parent of the task's own folder.
        rows: Size of the sample; None means `ROWS_PER_LAYER` for every layer.
        data: Where the network's data set lies; None where it is bundled or in the usual places.
        workers: Processes; None means one per core.
        command: What was typed, for the card.

    Raises:
        TaskError: Where that version of the task exists already.
    """
    name, target, memo = prepare(plan, folder, data)
    measurer = Measurer(plan, data, memo, workers or os.cpu_count() or 1)
    evaluator = measurer.evaluator
    layers, bitwidths = len(evaluator.layers), evaluator.bitwidths
    wanted = ROWS_PER_LAYER * layers if rows is None else rows
    sampled = {each.bitwidths: each.source for each in draw(layers, bitwidths, wanted, SEED)}
    measurer.measure(name, "search", list(sampled))
    missing = wanted - len(sampled)
    with Console().status("") as status:
        searched = ask_searchers(
            evaluator,
            missing,
            SEED,
            lambda found: status.update(f"{name}, searchers have asked for {found} of {missing}"),
        )
    sampled |= {each.bitwidths: each.source for each in searched if each.bitwidths not in sampled}

    gaps: list[float] = []
    best: list[tuple[int, ...]] = []
    while True:
        found = measurer.measure(name, "search", list(sampled))
        sample = _sample(evaluator, list(sampled), found)
        model = fit_noise(sample)
        table = NoiseTable(**export(model, sample.images), bitwidths=bitwidths)
        best = optimised(evaluator, table, OPTIMISED)
        chosen = measurer.measure(f"{name}, best by surrogate", "search", best)
        predicted = 1 - table.wrong(np.array(best)) / sample.images
        gaps.append(100 * float((predicted - _accuracy(chosen, sample.images)).mean()))
        new = [each for each in best if each not in sampled]
        sampled |= dict.fromkeys(new, "optimised")
        if not new or abs(gaps[-1]) < GAP_POINTS or len(gaps) == ROUNDS:
            break
    # Whatever was measured last is fitted to as well.
    found = measurer.measure(name, "search", list(sampled))
    sample = _sample(evaluator, list(sampled), found)
    arrays = export(fit_noise(sample), sample.images)
    table = NoiseTable(**arrays, bitwidths=bitwidths)

    uniform = [(bitwidth,) * layers for bitwidth in bitwidths]
    optimised_ones = [each for each, source in sampled.items() if source == "optimised"]
    reported = list(dict.fromkeys([*uniform, *best, *optimised_ones]))
    on_report = measurer.measure(name, "report", reported)
    measured = {
        "search": _with_rows(found, sampled.items()),
        "report": _with_rows(on_report, [(each, sampled[each]) for each in reported]),
    }
    quality = {
        "model": "noise",
        "rows": len(sampled),
        "held_out": _held_out(sample, measured["search"]),
        "fitted": compare(
            1 - table.wrong(sample.bitwidths) / sample.images,
            sample.accuracy,
            evaluator.full_precision_accuracy,
        )._asdict(),
        "report": _report_quality(evaluator, table, reported, on_report)._asdict(),
        "gap_points": gaps,
    }
    milliseconds = np.array(round(float(found.milliseconds.mean())), dtype=np.int64)
    card = make_card(
        plan,
        evaluator,
        measured,
        command,
        completeness="sampled",
        sources=list(SOURCES),
        surrogate=quality,
    )
    task = write_task(target, card, measured, {**arrays, "milliseconds": milliseconds})
    clean_up(memo)
    return add_landscape(task)


def optimised(evaluator: LiveEvaluator, table: NoiseTable, count: int) -> list[tuple[int, ...]]:
    """What a surrogate takes for the best, for each of `TOLERATED_POINTS` an equal share.

    The cheapest assignment within the loss, and the cheapest others of those that differ from it
    in two layers at most.

    Args:
        evaluator: Says what full precision gets right, and the layers.
        table: The surrogate.
        count: How many in all.
    """
    bitwidths = np.array(evaluator.bitwidths)
    figures = make_cost("quantization_state")(evaluator.layers, BITWIDTHS)
    costs = np.asarray(next(iter(figures.values())))[:, bitwidths - 1]
    images = len(table.limits)
    right = evaluator.full_precision_accuracy * images
    found: dict[tuple[int, ...], None] = {}
    for points in TOLERATED_POINTS:
        most_wrong = images - int(np.ceil(right - points * images / 100 - 1e-6))
        around = _two_flips(table.cheapest(costs, most_wrong), bitwidths)
        around = around[table.wrong(around) <= most_wrong]
        digits = np.searchsorted(bitwidths, around)
        order = costs[np.arange(len(costs)), digits].sum(axis=1).argsort(kind="stable")
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


def _with_rows(measured: Measurements, rows: Iterable[tuple[tuple[int, ...], str]]) -> Measurements:
    assignments, sources = zip(*rows, strict=True)
    return Measurements(
        measured.correct,
        measured.milliseconds,
        measured.status,
        measured.seed,
        bitwidths=np.array(assignments, dtype=np.uint8),
        source=np.array([SOURCES.index(source) for source in sources], dtype=np.uint8),
    )


def _accuracy(measured: Measurements, images: int) -> NDArray[np.float64]:
    return measured.correct.mean(axis=1) / images


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
    return compare(predicted, _accuracy(measured, images), full)
