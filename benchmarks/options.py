"""Options that several benchmarks have."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable

from releq_gym.registry import UnknownNameError


def net_and_file(text: str) -> tuple[str, str]:
    """``NET=FILE`` as its two parts; a ``type=`` of argparse."""
    net, _, file = text.partition("=")
    if not net or not file:
        raise argparse.ArgumentTypeError(f"{text} has to read NET=FILE")
    return net, file


def positive(text: str) -> int:
    """What was typed as a whole number, 1 or more; a ``type=`` of argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} has to be a whole number, 1 or more")
    return number


def check_names(
    kind: str, given: Iterable[str] | None, known: Collection[str], hint: str = ""
) -> None:
    """Refuses names that there are not.

    Args:
        kind: What they are of.
        given: They; None is none.
        known: What there is.
        hint: Ends the sentence.

    Raises:
        UnknownNameError: Where one is not known.
    """
    for name in given or ():
        if name not in known:
            raise UnknownNameError(kind, name, known, hint)
