"""A task from accuracies that somebody has measured already: any CSV of bitwidths and accuracy."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from releq_gym.file_names import as_file_name
from releq_gym.layers import BITWIDTHS, MAX_LOSS_POINTS, Layer
from releq_gym.problem import BETTER_POINTS
from releq_gym.registry import UnknownNameError
from releq_gym.tasks.format import (
    OK,
    Measurements,
    Task,
    TaskError,
    configurations,
    ordered,
    write_task,
)

COLUMNS = ("bitwidths", "accuracy")

UNMEASURED = ("mask", "refuse")

EXACT_IMAGES = 1_000_000
"""In how many accuracies are counted where nobody says how many images measured them."""


ROUNDING = 1e-6
"""Of accuracies that were computed in float32 and are printed with more digits."""


def import_task(
    file: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    net: str,
    layers: Sequence[Layer],
    full_precision_accuracy: float,
    images: int | None = None,
    bitwidths: Sequence[int] | None = None,
    max_loss_points: float = MAX_LOSS_POINTS,
    unmeasured: str = "mask",
    name: str | None = None,
    version: str = "1.0.0",
    stated: Mapping[str, Any] | None = None,
    command: str = "",
) -> Task:
    """Writes a task folder of what a CSV file holds, ``folder/<name>/<version>/``.

    The file has the columns ``bitwidths`` (one per layer, first to last, separated by spaces,
    commas or dashes) and ``accuracy`` (a fraction); others are ignored. An assignment that stands
    there several times has as many repeats. Where assignments are missing the task is partial;
    nothing is made up.

    Args:
        file: The CSV file.
        folder: Parent of the task's own folder.
        net: What the network is called.
        layers: Its quantized layers, first to last; `releq_gym.network_layers` gives them.
        full_precision_accuracy: Of the unquantized network on the same images, in (0, 1].
        images: How many measured an accuracy; None means that they are taken as exact, counted in
            millionths.
        bitwidths: The choice per layer; None means those that occur.
        max_loss_points: The loss that the task tolerates.
        unmeasured: What an environment does about missing assignments: ``"mask"`` the choices that
            lead to none that was measured, or ``"refuse"`` to answer.
        name: Of the task; None means ``<net>-imported``.
        version: Semantic version of the task.
        stated: Entries of the card that the file does not tell, such as ``quantizer``, ``recipe``,
            ``data``, ``activation_bitwidth``, ``licence``.
        command: What was typed, for the card.

    Raises:
        TaskError: For a file that cannot be understood; names the line.
        ValueError: For arguments that do not fit it.
    """
    ordered(version)
    if not 0 < full_precision_accuracy <= 1:
        raise ValueError(
            f"full_precision_accuracy={full_precision_accuracy} has to be a fraction above 0 and "
            "at most 1; 92 % is 0.92."
        )
    if unmeasured not in UNMEASURED:
        raise UnknownNameError("unmeasured", unmeasured, UNMEASURED)
    if not 0 <= max_loss_points < float("inf"):
        raise ValueError(f"max_loss_points={max_loss_points} has to be 0 or more points.")
    counted = EXACT_IMAGES if images is None else images
    if counted < 1:
        raise ValueError(f"images={images} has to be at least 1.")
    cells = _read(Path(file), len(layers))
    if images is not None:
        _check_multiples(full_precision_accuracy, cells, images, file)
    seen = sorted({bitwidth for assignment in cells for bitwidth in assignment})
    allowed = seen if bitwidths is None else sorted(set(bitwidths))
    if not set(seen) <= set(allowed):
        raise ValueError(
            f"{file} has assignments at {', '.join(map(str, seen))} bits, but bitwidths= allows "
            f"only {', '.join(map(str, allowed))}."
        )
    repeats = {len(accuracies) for accuracies in cells.values()}
    if len(repeats) > 1:
        most = next(one for one in cells if len(cells[one]) == max(repeats))
        raise TaskError(
            f"{file} has some assignments {min(repeats)} times and others {max(repeats)} times, "
            f"{' '.join(map(str, most))} for one; give each as often, or one mean each."
        )
    _warn_of_full_precision(full_precision_accuracy, cells)
    complete = len(cells) == len(allowed) ** len(layers)
    order = list(cells)
    if complete:
        order = [tuple(row) for row in configurations(allowed, len(layers)).tolist()]
    correct = np.rint(np.array([cells[each] for each in order]) * counted).astype(np.uint32)
    measured = Measurements(
        correct=correct,
        milliseconds=np.zeros_like(correct),
        status=np.full(correct.shape, OK, np.uint8),
        seed=np.arange(correct.shape[1], dtype=np.uint32),
        bitwidths=None if complete else np.array(order, dtype=np.uint8),
        source=None if complete else np.zeros(len(order), np.uint8),
    )
    card: dict[str, Any] = {
        "id": _named(name, net),
        "version": version,
        "net": net,
        "quantizer": "unknown",
        "quantizer_kwargs": {},
        "recipe": "unknown",
        "activation_bitwidth": 32,
        "bitwidths": list(allowed),
        "max_loss_points": max_loss_points,
        "completeness": "exhaustive" if complete else "partial",
        "sources": ["imported"],
        "unmeasured": unmeasured,
        "layers": [layer.to_dict() for layer in layers],
        "full_precision": {"correct": {"search": round(full_precision_accuracy * counted)}},
        "splits": {"search": {"images": counted}},
        "exact": images is None,
        "generator": {"command": command},
        "known_issues": ["Imported, not measured by releq_gym; there is no report split."],
        **(stated or {}),
    }
    return write_task(Path(folder) / card["id"] / version, card, {"search": measured})


def _warn_of_full_precision(accuracy: float, cells: Mapping[Any, Sequence[float]]) -> None:
    """What quantized networks may gain is little; more is a slip, or of other images."""
    best = max(sum(accuracies) / len(accuracies) for accuracies in cells.values())
    if 100 * (best - accuracy) > BETTER_POINTS:
        warnings.warn(
            f"The best assignment has an accuracy of {best:g}, full precision of {accuracy:g}, so "
            "that there is no loss to avoid. Are they of the same images?",
            stacklevel=3,
        )


def _named(name: str | None, net: str) -> str:
    """The task's name, that of its folder, too."""
    if name is None:
        return as_file_name(f"{net}-imported")
    if name in ("", ".", "..") or name != as_file_name(name):
        raise ValueError(
            f"A task's name is that of its folder: letters, digits, '.', '_' and '-', not {name!r}."
        )
    return name


def _read(file: Path, layers: int) -> dict[tuple[int, ...], list[float]]:
    """The accuracies of every assignment, in the order of the file."""
    cells: dict[tuple[int, ...], list[float]] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream, skipinitialspace=True)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise TaskError(
                    f"{file} has no column {missing[0]!r} in its first line, which reads "
                    f"{','.join(rows.fieldnames or ())!r:.80}; it needs {' and '.join(COLUMNS)}, "
                    "separated by a comma."
                )
            for row in rows:
                where = f"{file}, line {rows.line_num}"
                if None in row:
                    raise TaskError(
                        f"{where} has more fields than the first line names; decimals need a "
                        "point, and bitwidths with commas quotes."
                    )
                assignment = _assignment(row["bitwidths"], layers, where)
                cells.setdefault(assignment, []).append(_accuracy(row["accuracy"], where))
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{file} cannot be read: {error}") from None
    if not cells:
        raise TaskError(f"{file} has no rows below its first line.")
    return cells


def _check_multiples(
    full_precision_accuracy: float,
    cells: Mapping[tuple[int, ...], Sequence[float]],
    images: int,
    file: str | os.PathLike,
) -> None:
    """Refuses what so many images cannot give, as far as it is printed."""
    told = [("full_precision_accuracy", full_precision_accuracy)]
    for assignment, accuracies in cells.items():
        where = f"{file}, {' '.join(map(str, assignment))}: accuracy"
        told += [(where, accuracy) for accuracy in accuracies]
    for where, accuracy in told:
        digits = len(np.format_float_positional(accuracy).partition(".")[2])
        printed = max(0.51 * 10.0**-digits, ROUNDING)
        if abs(round(accuracy * images) / images - accuracy) > printed:
            raise ValueError(
                f"{where} {accuracy!r} cannot come from images={images}; correct their number, or "
                "leave it out where accuracies are averages."
            )


def _assignment(typed: str | None, layers: int, where: str) -> tuple[int, ...]:
    words = (typed or "").replace(",", " ").replace("-", " ").split()
    known = {str(bitwidth): bitwidth for bitwidth in BITWIDTHS}
    if len(words) != layers or not set(words) <= set(known):
        raise TaskError(
            f"{where}: bitwidths {typed!r} have to be {layers} whole numbers from 1 to 8, one per "
            "layer, such as '8 4 4 8'."
        )
    return tuple(known[word] for word in words)


def _accuracy(typed: str | None, where: str) -> float:
    try:
        accuracy = float(typed or "")
    except ValueError:
        accuracy = -1.0
    if not 0 <= accuracy <= 1:
        raise TaskError(
            f"{where}: accuracy {typed!r} has to be a fraction from 0 to 1; 92 % is 0.92. An "
            "assignment that was not measured has no line."
        )
    return accuracy
