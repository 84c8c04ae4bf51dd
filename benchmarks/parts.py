"""A benchmark in parts: each measurement is made once, its rows kept, and every part is a table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.rows import append_rows, read_rows, replace_rows
from benchmarks.tables import grid
from releq_gym.registry import UnknownNameError


class Part(NamedTuple):
    """One question.

    Attributes:
        columns: Of its file.
        key: Columns that name a measurement, so that it is not repeated.
        jobs: Each measurement with its key.
        derived: Whether it is worked out from the rows of other parts, and so every time anew.
    """

    columns: tuple[str, ...]
    key: tuple[str, ...]
    jobs: dict[tuple[str, ...], Callable[[], Iterable[Mapping[str, Any]]]]
    derived: bool = False


def one_row(measure: Callable[..., Mapping[str, Any]], *arguments: Any) -> list[Mapping[str, Any]]:
    """What a function measures, as the rows of a job."""
    return [measure(*arguments)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument("--part", action="append", help="default: all")
    parser.add_argument("--again", action="store_true", help="measure these parts anew")


def run(
    parts: Mapping[str, Part],
    titles: Mapping[str, str],
    results: Path,
    options: argparse.Namespace,
    chosen: Sequence[str] | None = None,
) -> int:
    """Measures what is missing, then writes and prints every table; returns the exit status.

    It goes on where an earlier call was stopped.

    Args:
        parts: By name.
        titles: Their headings.
        results: Folder of the rows.
        options: With those of `add_options`.
        chosen: First entries of the keys to measure; None measures all.
    """
    unknown = [name for name in options.part or () if name not in parts]
    if unknown:
        print(f"--part {unknown[0]}: there are {', '.join(parts)}", file=sys.stderr)
        return 2
    known = {key[0] for part in parts.values() for key in part.jobs}
    for name in chosen or ():
        if name not in known:
            print(UnknownNameError("name", name, known), file=sys.stderr)
            return 2
    console = Console()
    results.mkdir(exist_ok=True)
    try:
        derived = [name for name in parts if parts[name].derived]
        asked = [name for name in options.part or parts if name not in derived]
        for name in [*asked, *derived]:
            _measure(name, parts[name], results / f"{name}.csv", chosen, options.again, console)
    except KeyboardInterrupt:
        how = (
            "what was measured again is kept, other rows are the old ones"
            if options.again
            else "the same command goes on from here"
        )
        print(f"Stopped; {how}.", file=sys.stderr)
        return 130
    text = markdown({name: read_rows(results / f"{name}.csv") for name in parts}, titles)
    (results / "tables.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _measure(
    name: str, part: Part, path: Path, chosen: Sequence[str] | None, again: bool, console: Console
) -> None:
    jobs = {key: job for key, job in part.jobs.items() if not chosen or key[0] in chosen}
    again = again or part.derived
    done = set() if again else {_key(row, part) for row in read_rows(path)}
    for key, job in jobs.items():
        if key in done:
            continue
        try:
            with console.status(f"{name}: {' '.join(key)}"):
                measured = list(job())
        except ValueError as error:
            console.print(f"{name} {' '.join(key)} is left out: {error}")
            if not part.derived:
                continue
            measured = []
        if again:  # in the place of the old ones, which stay until then
            kept = [row for row in read_rows(path) if _key(row, part) != key]
            replace_rows(path, [*kept, *measured], part.columns)
        else:
            append_rows(path, measured, part.columns)


def _key(row: Mapping[str, Any], part: Part) -> tuple[str, ...]:
    return tuple(row[column] for column in part.key)


def markdown(parts: Mapping[str, Sequence[Mapping[str, str]]], titles: Mapping[str, str]) -> str:
    """Every table that has rows, under its heading."""
    return "\n\n".join(
        f"## {titles[name]}\n\n{table(rows)}" for name, rows in parts.items() if rows
    )


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table of rows with the same columns, numbers in four digits."""
    columns = list(rows[0])
    return grid(columns, ([_short(row[column]) for column in columns] for row in rows))


def _short(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return text if number == int(number) and "." not in text else f"{number:.4g}"
