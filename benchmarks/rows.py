"""Results as rows of a CSV file, each written as soon as it is there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from releq_gym.whole_files import written_whole


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Adds rows to a file, all in one go; a new one begins with the names of the columns.

    A last line without an end, which a full disk or a lost process has left, is cut off before.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    whole = _whole_lines(path)
    if not whole:
        writer.writeheader()
    writer.writerows(rows)
    with path.open("ab") as stream:
        stream.truncate(len(whole))
        stream.write(text.getvalue().encode())


def replace_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes a file of these rows alone; an earlier one stays until this is complete."""
    with written_whole(path) as partial:
        append_rows(partial, rows, columns)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file, but for a last line without an end; none where there is no file yet."""
    return list(csv.DictReader(io.StringIO(_whole_lines(path).decode(), newline="")))


def _whole_lines(path: Path) -> bytes:
    """What a file holds up to its last line's end; nothing where there is none."""
    text = path.read_bytes() if path.exists() else b""
    return text[: text.rfind(b"\n") + 1]
