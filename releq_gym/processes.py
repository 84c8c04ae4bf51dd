"""Several processes, none of which outlives the work that it was started for."""

from __future__ import annotations

import multiprocessing
import os
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
    before = set(multiprocessing.active_children())
    try:
        with (
            _termination_interrupts(),
            ProcessPoolExecutor(workers, context, _started, (start,)) as pool,
        ):
            try:
                yield pool
            except BaseException:
                for process in set(multiprocessing.active_children()) - before:
                    process.terminate()
                raise
    except BrokenProcessPool as error:
        raise ValueError(
            "A process ended before its work did. Where it printed no error, the system killed it, "
            "as it does where memory runs out: try again with fewer workers. A script of your own "
            "has to do its work under if __name__ == '__main__'. What is on disk by now is kept."
        ) from error


def _started(start: Callable[[], object] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start()


def _end_with_parent() -> None:
    """Ends this process when the first one is killed, which cannot do so any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
