"""Several processes, none of which outlives the work that it was started for."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager


@contextmanager
def process_pool(
    workers: int, start: Callable[[], object] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes; where the block fails or is interrupted, they are ended at once.

    Work is to be given by `submit`: what `map` has cancelled by then breaks the pool noisily.
    SIGTERM, which reaches commands in the background, interrupts like Ctrl-C: it would end this
    process alone.

    Args:
        workers: How many processes.
        start: Called in each of them first.

    Raises:
        ValueError: Where one of them was killed, which ends all.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with (
            _termination_interrupts(),
            ProcessPoolExecutor(workers, context, _started, (start,)) as pool,
        ):
            try:
                yield pool
            except BaseException:
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
    except BrokenProcessPool as error:
        raise ValueError(
            "A process was killed, as the system does where memory runs out. Try again with fewer "
            "--workers; what is on disk by now is kept."
        ) from error


def _started(start: Callable[[], object] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    if start is not None:
        start()


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # it has no say in signals
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
