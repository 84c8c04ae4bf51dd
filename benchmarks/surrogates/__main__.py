"""``python -m benchmarks.surrogates``: works out what is missing, then prints every table."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.parts import Part, add_options, run
from benchmarks.surrogates import cards, proxies, recipe

RESULTS = Path(__file__).parent / "results"

TITLES = {
    "recipe": "The recipe against the truth: fitted to a tenth of a table, compared with the rest",
    "cards": "The shipped surrogates, on what they were not fitted to",
    "proxies": "Accuracy in the task against accuracy after the long retraining, on search images",
}


def main() -> int:
    """Goes on where an earlier call was stopped; ``--again`` works everything out anew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surrogates", description=__doc__)
    add_options(parser)
    parser.add_argument("--task", action="append", help="default: all shipped")
    options = parser.parse_args()
    return run(_parts(), TITLES, RESULTS, options, options.task)


def _parts() -> dict[str, Part]:
    return {
        "recipe": Part(
            recipe.COLUMNS,
            ("task",),
            {(task,): partial(recipe.measure, task) for task in recipe.tables()},
        ),
        "cards": Part(
            cards.COLUMNS,
            ("task",),
            {(task,): partial(cards.read, task) for task in cards.sampled()},
        ),
        "proxies": Part(
            proxies.COLUMNS,
            ("task",),
            {(task,): partial(proxies.read, task) for task in proxies.checked()},
            derived=True,
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
