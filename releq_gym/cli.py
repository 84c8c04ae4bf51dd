"""The command ``releq``: networks, tasks, pretraining, evaluation, search, measuring."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from releq_gym.commands import hardware, networks, search, tasks

EXTRAS = {
    "agents": ("pandas", "sb3_contrib", "stable_baselines3", "tyro"),
    "live": (
        "PIL", "optuna", "rich", "safetensors", "scipy", "sklearn", "timm", "torch", "torchvision",
    ),
    "tvm": ("tvm",),
}  # fmt: skip
"""Modules that come with an extra of this package."""

POSITIONAL = {"file", "net", "target", "task"}
"""Arguments that have no flag, at least in some commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; user errors are one sentence and exit code 2.

    Args:
        arguments: What was typed after ``releq``; None reads the command line.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    options.typed = sys.argv[1:] if arguments is None else list(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.run
    try:
        with _surroundings(options):
            code = command(options) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; at exit nothing may be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # What a shell reports of a program that ended so.
    except KeyboardInterrupt:
        kept = getattr(options, "kept", "the same command goes on from here")
        print(f"Stopped; {kept}.", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        extras = [extra for extra, modules in EXTRAS.items() if error.name in modules]
        cure = f": pip install 'releq_gym[{extras[0]}]'" if extras else "."
        print(f"This needs {error.name!r}, which is not installed{cure}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(_with_flags(str(error), options), file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{error.filename}: {error.strerror}.", file=sys.stderr)
        return 2


@contextlib.contextmanager
def _surroundings(options: argparse.Namespace) -> Iterator[None]:
    """Warnings are a line each, and what is named as ``module:name`` may lie in this folder."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    kept = list(sys.path)
    named = (getattr(options, name, None) for name in ("net", "target", "cost"))
    if any(":" in name for name in named if name):
        sys.path.insert(0, os.getcwd())
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        sys.path[:] = kept


def _with_flags(sentence: str, options: argparse.Namespace) -> str:
    """An error, and what the arguments that it names are called on the command line.

    What it quotes in double quotes, others have said; examples, and what somebody's parameters
    are called, stand behind "such as" and "it takes", or in brackets.
    """
    own = re.sub(r'".*?"|\(.*?\)|(such as|it takes) [^.;]*', "", sentence, flags=re.DOTALL)
    flags = {name: f"--{name.replace('_', '-')}" for name in vars(options)}
    called = [
        f"{name} is {flag}"
        for name, flag in flags.items()
        if (name not in POSITIONAL or flag in options.typed)
        and not any(typed.partition("=")[0] == name for typed in options.typed)
        and re.search(rf"(?<!\w){name}" + (r"\b" if "_" in name else "="), own)
        and flag not in sentence
    ]
    return f"{sentence}\nOn the command line: {', '.join(called)}." if called else sentence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="releq", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for kind in (hardware, networks, search, tasks):
        kind.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
