"""What tests share: one thread each, a cache of their own, and real data where there is some."""

import os
import signal
from pathlib import Path

import pytest

# Read by OpenMP when torch is first imported: tiny networks are fastest on one thread, and
# parallel test processes do not fight over cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RELEQ_GYM_CACHE", str(folder))
    return folder


@pytest.fixture
def data_root():
    """The folder of real image data; tests that ask for it carry the marker ``data``."""
    folder = os.environ.get("RELEQ_GYM_DATA")
    if not folder:
        pytest.skip("needs real image data: set RELEQ_GYM_DATA to the folder that holds it")
    return Path(folder)


@pytest.fixture
def ctrl_c():
    """SIGINT interrupts, which it does not in what a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
