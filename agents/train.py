"""Learns bitwidths: ``python -m agents.train --net digits``. ``--help`` lists every option."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from agents.args import Args
    from releq_gym.result import Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command: 0 when finished, 2 for a user's error, 130 after Ctrl-C.

    Args:
        arguments: What was typed after ``agents.train``; None reads the command line.
    """
    typed = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Imported late, so that Ctrl-C and a missing package are answered in words here too.
        from agents.args import parse

        return train(parse(typed), shlex.join(["python", "-m", "agents.train", *typed]))
    except KeyboardInterrupt:
        print("Stopped at once. A run that had begun goes on with --resume.", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        print(f"This needs the package {error.name!r}: pip install -e '.[agents]'", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


def train(args: Args[Any], command: str) -> int:
    """Searches and reports; after Ctrl-C the answer so far is kept, and 130 returned.

    Args:
        args: What to do.
        command: What was typed, for the record.
    """
    from rich.console import Console

    from agents.args import read_settings
    from agents.run import Run, is_finished
    from releq_gym.result import RESULT_FILE, read_result

    console = Console(emoji=False, markup=False)  # names are the user's
    if args.resume and (Path(args.folder or "") / RESULT_FILE).is_file():
        earlier = read_result(args.folder or "")
        granted = args.evaluation_budget != read_settings(args.folder or Path()).evaluation_budget
        if not granted and is_finished(earlier, args):
            return _say_finished(console, args.folder, earlier)
    run = Run(args, command, console)
    if run.is_finished:  # as many assignments as there are
        return _say_finished(console, run.folder, read_result(run.folder))
    console.print(
        f"{run.evaluator.name}: at most {run.budget} assignments, folder {run.folder}",
        soft_wrap=True,
        highlight=False,
    )
    complete = run.search()
    result = run.result()
    if result is not None:
        run.show(result)
    if not complete:
        console.print(f"Stopped. To continue: {run.continuation}", soft_wrap=True, highlight=False)
        return 130
    if result is not None:
        run.finish(result)
    return 0


def _say_finished(console: Console, folder: Path | None, result: Result) -> int:
    listed = " ".join(map(str, result.bitwidths))
    console.print(
        f"The run in {folder} is finished: bitwidths {listed}. Unless all assignments are known, a "
        "higher --evaluation-budget lets it go on.",
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
