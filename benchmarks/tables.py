"""Tables, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """What is printed, whatever it is printed on.

    Attributes:
        title: Above it.
        note: What its numbers are.
        head: Names of the columns.
        rows: As many cells each.
    """

    title: str
    note: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The cells alone.

    Args:
        head: Names of the columns.
        rows: As many cells each.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(tables: Iterable[Table]) -> str:
    """All tables, one under the other."""
    parts = (
        f"## {table.title}\n\n{table.note}\n\n{grid(table.head, table.rows)}" for table in tables
    )
    return "\n\n".join(parts) + "\n"
