import sys

import pytest
import torch
from torch import nn

from releq_gym.processes import process_pool
from releq_gym.training import device
from releq_gym.training.device import keep_freed_memory, place

resource = pytest.importorskip("resource")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")


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


@on_linux
def test_memory_is_needed_again_without_page_faults():
    with process_pool(1) as pool:
        assert pool.submit(faults_of_the_last_pass).result() < 1_000


@on_linux
@pytest.mark.parametrize("variable", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_who_sets_a_threshold_keeps_it(variable, monkeypatch):
    assert keep_freed_memory.__wrapped__()
    monkeypatch.setenv(variable, "131072")
    assert not keep_freed_memory.__wrapped__()
    with process_pool(1) as pool:
        assert pool.submit(faults_of_the_last_pass).result() > 10_000


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_done(platform, monkeypatch):
    monkeypatch.setattr(device.sys, "platform", platform)
    assert not keep_freed_memory.__wrapped__()
