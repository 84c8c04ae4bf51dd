import sys

import pytest
import torch
from torch import nn

from releq_gym.processes import process_pool
from releq_gym.training import device
from releq_gym.training.device import keep_freed_memory, place

resource = pytest.importorskip("resource")

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")


def faults_of_the_second_pass(kept):
    """Page faults while memory that has been freed once is needed again."""
    if kept:
        place(nn.Linear(1, 1), torch.device("cpu"), (1,))
    torch.ones(100, 1 << 18)  # so much at once lifts the default thresholds
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.ones(1 << 20) for _ in range(20)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@on_linux
def test_memory_is_needed_again_without_page_faults():
    with process_pool(1) as pool:
        assert pool.submit(faults_of_the_second_pass, False).result() > 1_000
    with process_pool(1) as pool:
        assert pool.submit(faults_of_the_second_pass, True).result() < 100


@on_linux
@pytest.mark.parametrize("variable", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_who_sets_a_threshold_keeps_it(variable, monkeypatch):
    monkeypatch.setenv(variable, "131072")
    assert not keep_freed_memory.__wrapped__()
    monkeypatch.delenv(variable)
    assert keep_freed_memory.__wrapped__()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_done(platform, monkeypatch):
    monkeypatch.setattr(device.sys, "platform", platform)
    assert not keep_freed_memory.__wrapped__()
