"""Errors of code that a user has plugged in, as a sentence."""

from __future__ import annotations

import traceback
from pathlib import Path


def failure_of(what: str, plugged: object, error: Exception, advice: str) -> Exception:
    """What to raise from an error that code of the user's has raised: what failed, and where.

    To be called where it was called. An error in words of what is shipped is returned as it is.

    Args:
        what: Such as ``"reward"``.
        plugged: The object that was called.
        error: What it has raised.
        advice: What it is called with, and has to return.
    """
    if type(plugged).__module__.startswith("releq_gym.") and isinstance(error, ValueError):
        return error
    caller, *frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if frame.filename != caller.filename]
    if not inside:
        return ValueError(f"The {what} {plugged!r:.80} cannot be called: {error}. {advice}")
    own = [frame for frame in inside if frame.filename == inside[0].filename][-1]
    return ValueError(
        f"The {what} {plugged!r:.80} raised {type(error).__name__} in line {own.lineno} of "
        f"{Path(own.filename).name}: {error}. {advice}"
    )
