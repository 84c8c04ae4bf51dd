"""Results as rows of a CSV file, each written as soon as it is there."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from releq_gym.whole_files import written_whole


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Adds rows to a file, all of them or none; a new one begins with the names of the columns.

    A last line without an end, which a lost process has left, is cut off before. Several processes
    may add to one file.

    Raises:
        ValueError: Where the file has other columns.
        OSError: Where it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    rows = list(rows)
    with path.open("a+b", buffering=0) as stream:
        stream.seek(0)
        held = stream.read()
        whole = _whole_lines(held)
        if not whole:
            writer.writeheader()
        elif (found := next(csv.reader([whole.decode().partition("\n")[0]]))) != list(columns):
            raise ValueError(
                f"{path} has the columns {', '.join(found)}, but rows of now have "
                f"{', '.join(columns)}: it is of another version. Move it away."
            )
        if whole != held:  # not where another process has added lines meanwhile
            stream.truncate(len(whole))
        writer.writerows(rows)
        content = text.getvalue().encode()
        before = stream.seek(0, os.SEEK_END)
        if _write(stream, content) < len(content):  # the disk is full
            stream.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def replace_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes a file of these rows alone; an earlier one stays until this is complete."""
    with written_whole(path) as partial:
        append_rows(partial, rows, columns)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file, but for a last line without an end; none where there is no file yet."""
    held = path.read_bytes() if path.exists() else b""
    return list(csv.DictReader(io.StringIO(_whole_lines(held).decode(), newline="")))


def _write(stream: io.FileIO, content: bytes) -> int:
    """At one go, so that rows of several processes do not mix; returns how much was written."""
    return stream.write(content)


def _whole_lines(held: bytes) -> bytes:
    """What a file holds up to its last line's end; nothing where there is none."""
    return held[: held.rfind(b"\n") + 1]
