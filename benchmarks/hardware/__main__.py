"""``python -m benchmarks.hardware``: measures what is missing, then prints every table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.hardware import activations, pace, published, ranks, searches
from benchmarks.hardware.pictures import draw_fronts
from benchmarks.live_speed.nets import PUBLISHED
from benchmarks.options import net_and_file
from benchmarks.parts import Part, add_options, one_row, run
from benchmarks.rows import read_rows

RESULTS = Path(__file__).parent / "results"

MEASURED = ("lenet", "resnet20", "vgg11")
"""Networks with a table of `tvm_cpu`."""

LIVE = ("lenet", "simplenet", "svhn10", "resnet20", "vgg11", "vgg16", "mobilenet")
"""Networks whose accuracy can be measured where their data is at hand."""

TASKS = (
    "digits-digits-wrpn-short-w2to8",
    "lenet-mnist-uniform-ptq-w1to8",
    "svhn10-mnistm-uniformpc-ptq-w1to8",
)

TITLES = {
    "published": "The paper's assignments against all layers at 8 bits",
    "means": "Their means over networks",
    "ranks": "Analytic models against the measured CPU",
    "activations": "With activations at 8 bits",
    "searches": "Searches under a budget",
    "losses": "Points that their answers lose, median over seeds",
    "differences": "How far apart their answers are, in bits per layer",
    "pace": "Pace of the vector environment",
}


def main() -> int:
    """Goes on where an earlier call was stopped; ``--again`` measures anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hardware", description=__doc__)
    add_options(parser)
    parser.add_argument("--data", help="folder that holds the image data sets")
    parser.add_argument(
        "--weights", action="append", type=net_and_file, default=[], metavar="NET=FILE",
        help="checkpoint of a net",
    )  # fmt: skip
    options = parser.parse_args()
    status = run(_parts(options.data, dict(options.weights)), TITLES, RESULTS, options)
    if rows := read_rows(RESULTS / "searches.csv"):
        draw_fronts(rows, RESULTS / "fronts.png")
    return status


def _parts(data: str | None, weights: dict[str, str]) -> dict[str, Part]:
    return {
        "published": Part(
            published.COLUMNS,
            ("net", "model"),
            {
                (net, model): partial(one_row, published.measure, net, model)
                for model in published.MODELS
                for net in _nets(model)
            },
        ),
        "means": Part(
            published.MEAN_COLUMNS,
            ("model",),
            {(model,): partial(_means, model) for model in published.MODELS},
            derived=True,
        ),
        "ranks": Part(
            ranks.COLUMNS, ("net",), {(net,): partial(ranks.measure, net) for net in MEASURED}
        ),
        "activations": Part(
            activations.COLUMNS,
            ("net",),
            {(net,): partial(activations.measure, net, data, weights.get(net)) for net in LIVE},
        ),
        "searches": Part(
            searches.COLUMNS,
            ("net", "device", "budget", "player"),
            {
                (net, device, str(budget), player): partial(
                    searches.measure, net, device, budget, player
                )
                for net in searches.EVALUATIONS
                for player in searches.PLAYERS
                for device in searches.DEVICES
                for budget in searches.BUDGETS
            },
        ),
        "losses": Part(
            searches.LOSS_COLUMNS,
            ("net", "budget"),
            {
                (net, str(budget)): partial(
                    _of_searches,
                    searches.losses,
                    len(searches.DEVICES) * len(searches.PLAYERS),
                    {"net": net, "budget": str(budget)},
                )
                for net in searches.EVALUATIONS
                for budget in searches.BUDGETS
            },
            derived=True,
        ),
        "differences": Part(
            searches.DIFFERENCE_COLUMNS,
            ("net", "player", "budget"),
            {
                (net, player, str(budget)): partial(
                    _of_searches,
                    searches.differences,
                    len(searches.DEVICES),
                    {"net": net, "player": player, "budget": str(budget)},
                )
                for net in searches.EVALUATIONS
                for player in searches.PLAYERS
                for budget in searches.BUDGETS
            },
            derived=True,
        ),
        "pace": Part(
            pace.COLUMNS,
            ("task", "cost"),
            {
                (task, cost): partial(one_row, pace.measure, task, cost)
                for task in TASKS
                for cost in pace.COSTS
            },
        ),
    }


def _nets(model: str) -> tuple[str, ...]:
    return MEASURED if model == "tvm_cpu" else tuple(PUBLISHED)


def _means(model: str) -> list[dict]:
    rows = [row for row in read_rows(RESULTS / "published.csv") if row["model"] == model]
    if len(rows) < len(_nets(model)):
        raise ValueError("some networks are missing")
    return published.means(model, rows)


def _of_searches(
    summary: Callable[[list[dict[str, str]]], list[dict]], kinds: int, wanted: dict[str, str]
) -> list[dict]:
    """A summary of those searches that are wanted, once all kinds of them are there."""
    rows = [row for row in read_rows(RESULTS / "searches.csv") if wanted.items() <= row.items()]
    if len({(row["device"], row["player"]) for row in rows}) < kinds:
        raise ValueError("some of the searches are missing")
    return summary(rows)


if __name__ == "__main__":
    sys.exit(main())
