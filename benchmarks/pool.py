"""Runs in several processes; the rows of each are kept as soon as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from benchmarks.rows import append_rows, read_rows
from benchmarks.runs import Job
from releq_gym.processes import process_pool
from releq_gym.progress import ProgressBars


def finished(path: Path) -> set[Job]:
    """The runs whose rows are in a file."""
    return {Job(row["task"], row["searcher"], int(row["seed"])) for row in read_rows(path)}


def append_missing(
    function: Callable[..., Iterable[Mapping[str, Any]]],
    jobs: Mapping[Job, tuple[Any, ...]],
    path: Path,
    columns: Sequence[str],
    workers: int,
) -> None:
    """`append_each` of the runs that are not `finished`.

    Args:
        function: As of `append_each`, likewise the rows' path and columns, and the processes.
        jobs: Its first argument, and those behind it.
        path: Of the rows.
        columns: Of theirs.
        workers: Processes.
    """
    done = finished(path)
    missing = [(job, *further) for job, further in jobs.items() if job not in done]
    if missing:
        append_each(function, missing, path, columns, workers)


def append_each(
    function: Callable[..., Iterable[Mapping[str, Any]]],
    calls: Sequence[tuple[Any, ...]],
    path: Path,
    columns: Sequence[str],
    workers: int,
) -> None:
    """Appends what a function returns for each of many arguments; Ctrl-C drops what has not ended.

    So does SIGTERM, which reaches commands in the background. Where one run fails, the others go
    on, and the first error is raised in the end.

    Args:
        function: Of a module that processes can import.
        calls: Its arguments.
        path: Of the rows.
        columns: Of theirs.
        workers: Processes.

    Raises:
        ValueError: Where the system has killed a process, which ends all.
    """
    with ProgressBars() as progress, process_pool(workers) as pool:
        bar = progress.add_task("runs", total=len(calls))
        futures = {pool.submit(function, *arguments): arguments[0] for arguments in calls}
        errors = []
        try:
            for future in as_completed(futures):
                if (error := future.exception()) is None:
                    append_rows(path, future.result(), columns)
                elif isinstance(error, BrokenProcessPool):
                    raise error
                else:
                    errors.append(error)
                    where = error.__cause__ or repr(error)  # the traceback of its process
                    text = f"{futures[future]} failed, the others go on: {where}"
                    progress.console.print(text, markup=False, highlight=False)
                progress.advance(bar)
        except KeyboardInterrupt:
            progress.console.print("Stopping; runs that had begun are dropped.")
            raise
    if errors:
        raise errors[0]
