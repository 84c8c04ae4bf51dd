"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside ``path`` to write to; the end of the block puts it in the place of ``path``.

    It has the suffix of ``path``. Missing folders are made. Should the block fail, or be
    interrupted, nothing of it is left, and what ``path`` held is still there.

    Args:
        path: The file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike) -> None:
    """Refuses a file that could not be written, before hours of work; leaves nothing behind.

    Raises:
        ValueError: If it could not.
    """
    path = Path(path)
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        trial = there / f".{os.getpid()}-{path.name}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"{path} cannot be written in {there}: {why}.") from None
