"""From rows to Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TITLES = {
    "exhaustive": "All assignments of lenet, without retraining",
    "episodes": "Random episodes, measured at every step",
    "sample": "A sample of 500 assignments",
    "training_steps": "Quantized training steps",
    "candidates": "One candidate of a search, as the authors' scripts measure it",
    "searches": "`releq_gym.search` under its defaults, without retraining",
    "nets": "Published bitwidths beside uniform ones, on search images",
}
"""Heading of each table, in order."""

Rows = Sequence[Mapping[str, str]]


def markdown(parts: Mapping[str, Rows]) -> str:
    """Every table that has rows, under its heading."""
    return "\n\n".join(
        f"## {TITLES[name]}\n\n{table(rows)}" for name, rows in parts.items() if rows
    )


def table(rows: Rows) -> str:
    """A Markdown table of rows with the same columns, numbers in four digits."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    lines += [[_short(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    return text if number == int(number) and "." not in text else f"{number:.4g}"
