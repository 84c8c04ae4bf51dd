"""``python -m benchmarks.throughput``: measures what is missing, then prints every table."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.parts import Part, add_options, one_row, run
from benchmarks.throughput import pace, start, training
from benchmarks.throughput.analysis import TITLES
from benchmarks.throughput.sweep import AGENTS, COPIES, NET, REFERENCE, SETTINGS, tasks
from releq_gym.tasks.catalog import DEFAULT_TASKS

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Goes on where an earlier call was stopped; ``--again`` measures anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    add_options(parser)
    parser.add_argument(
        "--task",
        choices=tasks(),
        metavar="TASK",
        action="append",
        help="default: all shipped, and a synthetic one",
    )
    parser.add_argument(
        "--net", choices=DEFAULT_TASKS, default=NET, help="that agents are trained on"
    )  # fmt: skip
    options = parser.parse_args()
    chosen = [*options.task, options.net] if options.task else None
    return run(_parts(options.net), TITLES, RESULTS, options, chosen)


def _parts(net: str) -> dict[str, Part]:
    return {
        "single": Part(
            pace.SINGLE_COLUMNS,
            ("task", "setting"),
            {
                (task, setting): partial(one_row, pace.measure_single, task, setting)
                for task in tasks()
                for setting in SETTINGS
            },
        ),
        "vector": Part(
            pace.VECTOR_COLUMNS,
            ("task", "setting", "copies"),
            {
                (task, setting, str(copies)): partial(
                    one_row, pace.measure_vector, task, setting, copies
                )
                for task in tasks()
                for setting in SETTINGS
                for copies in COPIES
            },
        ),
        "training": Part(
            training.COLUMNS,
            ("net", "agent"),
            {(net, agent): partial(one_row, training.measure, net, agent) for agent in AGENTS},
        ),
        "start": Part(
            start.COLUMNS,
            ("task",),
            {(task,): partial(one_row, start.measure, task) for task in [*tasks(), REFERENCE]},
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
