"""From rows to Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import parts as tables

TITLES = {
    "exhaustive": "All assignments of lenet, without retraining",
    "episodes": "Random episodes, measured at every step",
    "sample": "A sample of 500 assignments",
    "training_steps": "Quantized training steps",
    "memory": "Freed memory that is kept, and page faults, per piece of work",
    "candidates": "One candidate of a search, as the authors' scripts measure it",
    "searches": "`releq_gym.search` under its defaults, without retraining",
    "nets": "Published bitwidths beside uniform ones, on search images",
}
"""Heading of each table, in order."""


def markdown(parts: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """Every table that has rows, under its heading."""
    return tables.markdown(parts, TITLES)
