"""``python -m benchmarks.validate LOG...``: replays action logs; 0 only if everything agrees."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.options import positive
from benchmarks.runs import KNOWN
from benchmarks.validate.claims import Row, check_budgets, check_known, read_claims, share_out
from benchmarks.validate.digests import log_name, read_digests
from benchmarks.validate.verdict import (
    AGREES,
    DIFFERS,
    SHOWN,
    UNCHECKED,
    Verdict,
    draw,
    find_logs,
    validate,
)
from releq_gym.processes import process_pool


def main(arguments: Sequence[str] | None = None) -> int:
    """Validates: 0 if all logs agree, 1 if one differs, else 2 if one cannot be checked.

    Args:
        arguments: What was typed; None reads the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validate", description=__doc__)
    parser.add_argument(
        "logs", nargs="+", type=Path, metavar="LOG", help="log, run folder, or folder of logs"
    )
    parser.add_argument(
        "--claims", type=Path, metavar="CSV", help="rows that name task, searcher, seed and budget"
    )
    parser.add_argument(
        "--sha256", type=Path, metavar="FILE", help="hashes of logs TASK/SEARCHER/SEED, kept or not"
    )
    parser.add_argument(
        "--tasks", action="append", metavar="FOLDER",
        help="tasks that are not shipped (default: ./tasks)",
    )  # fmt: skip
    parser.add_argument("--workers", type=positive, default=multiprocessing.cpu_count())
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="learning curve of the one log"
    )
    parser.add_argument("--show", type=int, default=5, help="differences shown of each log")
    options = parser.parse_args(arguments)
    try:
        logs = find_logs(options.logs)
        rows = None if options.claims is None else read_claims(options.claims)
        digests = {} if options.sha256 is None else read_digests(options.sha256)
        if options.sha256 and not digests:
            raise ValueError(f"{options.sha256} holds no hashes.")
        _check(options, logs)
        shares = [None] * len(logs) if rows is None else share_out(rows, logs)
        check_budgets(row for share in shares for row in share or ())
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    folders = tuple(options.tasks or ["tasks"])
    verdicts = []
    try:
        for verdict in _validated(logs, shares, folders, digests, options.workers):
            print(describe(verdict, options.show), flush=True)
            verdicts.append(verdict.status)
    except KeyboardInterrupt:
        print(f"Stopped after {len(verdicts)} of {_logs(logs)}.", file=sys.stderr)
        return 130
    except ValueError as error:  # of a lost process
        print(error, file=sys.stderr)
        return 2
    counts = [f"{verdicts.count(one)} {one}" for one in (AGREES, DIFFERS, UNCHECKED)]
    print(f"{_logs(logs)}: {', '.join(counts)}.")
    if options.picture:
        try:
            draw(logs[0], options.picture, folders)
            print(f"Learning curve: {options.picture}")
        except (ValueError, OSError, EOFError, zlib.error) as error:
            print(error, file=sys.stderr)
    if rows is not None:
        told = {row.source for share in shares for row in share or ()}
        print(f"{len(told)} of {len(rows)} rows are about these logs.")
        left = [row for row in rows if row.source not in told]
        absent = [Path(name) for name in digests.keys() - set(map(log_name, logs))]
        verdicts.append(_check_left(left, absent, is_complete=options.sha256 is not None))
    return 1 if DIFFERS in verdicts else 2 if UNCHECKED in verdicts else 0


def _check(options: argparse.Namespace, logs: list[Path]) -> None:
    """Refuses folders of tasks that are not there, and pictures that cannot be drawn."""
    for folder in options.tasks or ():
        if not Path(folder).is_dir():
            raise ValueError(f"--tasks {folder}: there is no such folder.")
    if options.picture and options.picture.suffix != ".png":
        raise ValueError(f"--picture {options.picture} has to end in .png.")
    if options.picture and len(logs) > 1:
        raise ValueError(f"--picture is of one log, but there are {len(logs)}; name one.")


def _logs(logs: list[Path]) -> str:
    return f"{len(logs)} log{'s' * (len(logs) != 1)}"


def _check_left(rows: list[Row], absent: list[Path], *, is_complete: bool) -> str:
    """Rows without a log: those that need none, those whose log is known by its hash, others.

    Args:
        rows: They.
        absent: Logs of which the hash is known.
        is_complete: Whether every log should be here, or its hash.
    """
    known = [row for row in rows if row.job.searcher in KNOWN]
    differences: list[str] = []
    unchecked: list[str] = []
    for row in known:
        try:
            differences += check_known(row)
        except ValueError as error:
            unchecked.append(str(error))
    if known:
        status = DIFFERS if differences else UNCHECKED if unchecked else AGREES
        print(f"{len(known)} need none: {status}.")
    for text in (differences + unchecked)[:SHOWN]:
        print(f"  {text}")
    hashed = {row.source for share in share_out(rows, absent) for row in share}
    if hashed:
        print(f"{len(hashed)} are about {len(absent)} others, of which the hash is known.")
    others = [row for row in rows if row.job.searcher not in KNOWN and row.source not in hashed]
    if others:
        runs = list(dict.fromkeys(" ".join(map(str, row.job)) for row in others))
        more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
        print(
            f"{len(others)} are of runs whose log is not here"
            f"{', nor its hash' if is_complete else ''}: {', '.join(runs[:SHOWN])}{more}."
        )
    is_unchecked = unchecked or (others and is_complete)
    return DIFFERS if differences else UNCHECKED if is_unchecked else AGREES


def _validated(
    logs: list[Path],
    rows: Sequence[list[Row] | None],
    folders: tuple[str, ...],
    digests: Mapping[str, str],
    workers: int,
) -> Iterator[Verdict]:
    each = logs, rows, [folders] * len(logs), [digests.get(log_name(log)) for log in logs]
    if min(workers, len(logs)) < 2:
        yield from map(validate, *each)
        return
    with process_pool(min(workers, len(logs))) as pool:
        futures = [pool.submit(validate, *one) for one in zip(*each, strict=True)]
        yield from (future.result() for future in futures)


def describe(verdict: Verdict, show: int) -> str:
    """What is printed about a log.

    Args:
        verdict: Of it.
        show: How many differences at most.
    """
    budget = "".join(f" of {limit} {unit}" for unit, limit in (verdict.budget or {}).items())
    lines = [
        f"{verdict.log}: {verdict.status}",
        f"  {verdict.environments} environments, {verdict.episodes} episodes, "
        f"fresh {verdict.fresh}, distinct {verdict.distinct}{budget and f', budget{budget}'}, "
        f"claims {verdict.claims}",
        *(f"  {answer}" for answer in verdict.answers),
        *(["  its last line is incomplete, and not counted"] if verdict.is_cut else []),
        *(f"  {text}" for text in verdict.unchecked),
        *(f"  {text}" for text in verdict.differences[:show]),
    ]
    if len(verdict.differences) > show:
        lines.append(f"  and {len(verdict.differences) - show} more differences")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
