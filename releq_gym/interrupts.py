"""Ctrl-C, while something is written down that belongs together."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Uninterrupted:
    """Within it Ctrl-C waits; it is raised at the end.

    Outside of the main thread, which alone it reaches, this does nothing, and so it does where
    something else than Python handles it, which could not be put back.
    """

    def __enter__(self) -> None:
        self._came = False
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.getsignal(signal.SIGINT)
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._wait)

    def __exit__(self, *raised: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if self._came:
            signal.raise_signal(signal.SIGINT)

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._came = True
