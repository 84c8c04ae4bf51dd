"""``python -m benchmarks.live_speed``: measures what is missing, then prints every table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.live_speed import (
    candidates,
    episodes,
    exhaustive,
    memory,
    nets,
    sample,
    searches,
    training_steps,
)
from benchmarks.live_speed.analysis import TITLES
from benchmarks.options import net_and_file, positive
from benchmarks.parts import Part, add_options, one_row, run
from releq_gym.training.loop import PRECISIONS

RESULTS = Path(__file__).parent / "results"

IMAGES = 1_000
"""Search images of the comparisons whose straightforward loop takes long."""


def main() -> int:
    """Goes on where an earlier call was stopped; ``--again`` measures anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_speed", description=__doc__)
    add_options(parser)
    parser.add_argument("--net", action="append", help="default: all")
    parser.add_argument("--data", help="folder that holds the data sets")
    parser.add_argument(
        "--weights", action="append", type=net_and_file, default=[], metavar="NET=FILE",
        help="for those not shipped",
    )  # fmt: skip
    parser.add_argument("--images", type=positive, default=IMAGES)
    options = parser.parse_args()
    parts = _parts(options.data, options.images, dict(options.weights))
    return run(parts, TITLES, RESULTS, options, chosen=options.net)


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
            {(net,): partial(one_row, exhaustive.measure, net, data) for net in exhaustive.NETS},
        ),
        "episodes": Part(
            episodes.COLUMNS,
            ("net", "precision"),
            {
                (net, precision): partial(one_row, episodes.measure, net, precision, data, images)
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
        "memory": Part(
            memory.COLUMNS,
            ("net", "work"),
            {
                (net, work): partial(one_row, memory.measure, net, work)
                for net in memory.NETS
                for work in memory.WORK
            },
        ),
        "candidates": Part(
            candidates.COLUMNS,
            ("net",),
            {(net,): partial(one_row, candidates.measure, net, data) for net in candidates.EPOCHS},
        ),
        "searches": Part(
            searches.COLUMNS,
            ("net",),
            {(net,): partial(one_row, searches.measure, net, data) for net in searches.NETS},
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


def _steps(net: str) -> list[Mapping[str, Any]]:
    return [cost._asdict() for cost in training_steps.measure_steps(net)]


if __name__ == "__main__":
    sys.exit(main())
