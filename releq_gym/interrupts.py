"""Ctrl-C, while something is written down that belongs together."""

from __future__ import annotations

import threading
from _signal import SIGINT, getsignal, raise_signal, signal  # type: ignore[import-not-found]
from types import FrameType


class Uninterrupted:
    """Within it Ctrl-C waits; it is raised at the end.

    Outside of the main thread, which alone it reaches, this does nothing, and so it does where
    something else than Python handles it, which could not be put back. It is entered at every
    logged step, so it calls what the module ``signal`` is made of: that looks for an enum's member
    in every handler, which takes ten times as long.
    """

    def __enter__(self) -> None:
        self._came = False
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            self._handler = getsignal(SIGINT)
        if self._handler is not None:
            signal(SIGINT, self._wait)

    def __exit__(self, *raised: object) -> None:
        if self._handler is not None:
            signal(SIGINT, self._handler)
        if self._came:
            raise_signal(SIGINT)

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._came = True
