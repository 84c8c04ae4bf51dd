import ctypes
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from releq_gym.processes import process_pool
from releq_gym.training import device
from releq_gym.training.device import keep_freed_memory, place

resource = pytest.importorskip("resource")
on_linux = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def faults_of_the_last_pass():
    """Page faults while memory that has been freed before is needed again."""
    place(nn.Linear(1, 1), torch.device("cpu"), (1,))
    for _ in range(5):
        before = faults()
        blocks = [torch.ones(5 << 20) for _ in range(8)]
        del blocks
    return faults() - before


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


@on_linux
def test_memory_is_needed_again_without_page_faults():
    with process_pool(1) as pool:
        assert pool.submit(faults_of_the_last_pass).result() < 1_000


@on_linux
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072"),
    ],
)
def test_who_sets_a_threshold_keeps_it(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    assert not keep_freed_memory.__wrapped__()
    with process_pool(1) as pool:
        assert pool.submit(faults_of_the_last_pass).result() > 10_000


def test_both_thresholds_are_set(monkeypatch):
    calls = []
    libc = SimpleNamespace(mallopt=lambda *given: calls.append(given) or 1)
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(device.sys, "platform", "linux")
    assert keep_freed_memory.__wrapped__()
    told = {(device.M_TRIM_THRESHOLD, -1), (device.M_MMAP_THRESHOLD, device.LARGEST_KEPT)}
    assert set(calls) == told


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_done(platform, monkeypatch):
    monkeypatch.setattr(device.sys, "platform", platform)
    assert not keep_freed_memory.__wrapped__()
