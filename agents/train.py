"""Learns bitwidths: ``python -m agents.train --net digits``. ``--help`` lists every option."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.args import Args


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
    from agents.run import Run
    from releq_gym.result import RESULT_FILE, read_result

    console = Console(emoji=False, markup=False)  # names are the user's
    if args.resume and (Path(args.folder or "") / RESULT_FILE).is_file():
        earlier = read_result(args.folder or "")
        granted = args.evaluation_budget != read_settings(args.folder or Path()).evaluation_budget
        if earlier.finished and not granted and (earlier.report is not None or not args.report):
            listed = " ".join(map(str, earlier.bitwidths))
            console.print(
                f"The run in {args.folder} is finished: bitwidths {listed}. With a higher "
                "--evaluation-budget it goes on."
            )
            return 0
    run = Run(args, command, console)
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


if __name__ == "__main__":
    sys.exit(main())
