"""``python -m benchmarks.live_speed``: measures what is missing, then prints every table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.live_speed import (
    candidates,
    episodes,
    exhaustive,
    nets,
    sample,
    searches,
    training_steps,
)
from benchmarks.live_speed.analysis import markdown
from benchmarks.rows import append_rows, read_rows
from releq_gym.training.loop import PRECISIONS

RESULTS = Path(__file__).parent / "results"

IMAGES = 1_000
"""Search images of the comparisons whose straightforward loop takes long."""

Row = Mapping[str, Any]

Rows = Callable[[], Iterable[Row]]


class Part(NamedTuple):
    """One question.

    Attributes:
        columns: Of its file.
        key: Columns that name a measurement, so that it is not repeated.
        jobs: Each measurement with its key.
    """

    columns: tuple[str, ...]
    key: tuple[str, ...]
    jobs: dict[tuple[str, ...], Rows]


def main() -> int:
    """Goes on where an earlier call was stopped; ``--again`` measures anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_speed", description=__doc__)
    parser.add_argument("--part", action="append", help="default: all")
    parser.add_argument("--net", action="append", help="default: all")
    parser.add_argument("--data", help="folder that holds the data sets")
    parser.add_argument(
        "--weights", action="append", default=[], metavar="NET=FILE", help="for those not shipped"
    )
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--again", action="store_true", help="forget the rows of these parts")
    options = parser.parse_args()
    console, parts = (
        Console(),
        _parts(options.data, options.images, dict(one.split("=", 1) for one in options.weights)),
    )
    RESULTS.mkdir(exist_ok=True)
    try:
        for name in options.part or parts:
            if name not in parts:
                parser.error(f"--part {name}: there are {', '.join(parts)}")
            _run(name, parts[name], options.net, options.again, console)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    text = markdown({name: read_rows(RESULTS / f"{name}.csv") for name in parts})
    (RESULTS / "tables.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _run(name: str, part: Part, chosen: list[str] | None, again: bool, console: Console) -> None:
    path = RESULTS / f"{name}.csv"
    jobs = {key: job for key, job in part.jobs.items() if not chosen or key[0] in chosen}
    kept = [row for row in read_rows(path) if not (again and _key(row, part) in jobs)]
    if again:
        path.unlink(missing_ok=True)
        append_rows(path, kept, part.columns)
    done = {_key(row, part) for row in kept}
    for key, job in jobs.items():
        if key not in done:
            try:
                with console.status(f"{name}: {' '.join(key)}"):
                    append_rows(path, list(job()), part.columns)
            except ValueError as error:
                console.print(f"{name} {' '.join(key)} is left out: {error}")


def _key(row: Mapping[str, Any], part: Part) -> tuple[str, ...]:
    return tuple(row[column] for column in part.key)


def _parts(data: str | None, images: int, weights: dict[str, str]) -> dict[str, Part]:
    nets_and_recipes = [
        (net, recipe)
        for net in nets.PUBLISHED
        for recipe in (("ptq", "short") if net in nets.SHORT else ("ptq",))
    ]
    return {
        "exhaustive": Part(
            exhaustive.COLUMNS,
            ("net",),
            {(net,): partial(_one, exhaustive.measure, net, data) for net in exhaustive.NETS},
        ),
        "episodes": Part(
            episodes.COLUMNS,
            ("net", "precision"),
            {
                (net, precision): partial(_one, episodes.measure, net, precision, data, images)
                for net in episodes.NETS
                for precision in PRECISIONS
            },
        ),
        "sample": Part(
            sample.COLUMNS,
            ("net",),
            {(net,): partial(sample.measure, net, data, images) for net in sample.NETS},
        ),
        "training_steps": Part(
            training_steps.StepCost._fields,
            ("net",),
            {(net,): partial(_steps, net) for net in training_steps.NETS},
        ),
        "candidates": Part(
            candidates.COLUMNS,
            ("net",),
            {(net,): partial(_one, candidates.measure, net, data) for net in candidates.EPOCHS},
        ),
        "searches": Part(
            searches.COLUMNS,
            ("net",),
            {(net,): partial(_one, searches.measure, net, data) for net in searches.NETS},
        ),
        "nets": Part(
            nets.COLUMNS,
            ("net", "recipe"),
            {
                (net, recipe): partial(nets.measure, net, recipe, data, weights.get(net))
                for net, recipe in nets_and_recipes
            },
        ),
    }


def _one(measure: Callable[..., Row], *arguments: Any) -> list[Row]:
    return [measure(*arguments)]


def _steps(net: str) -> list[Row]:
    return [cost._asdict() for cost in training_steps.measure_steps(net)]


if __name__ == "__main__":
    sys.exit(main())
