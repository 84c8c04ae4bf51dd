"""Options that several benchmarks have."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """What was typed as a whole number, 1 or more; a ``type=`` of argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} has to be a whole number, 1 or more")
    return number
