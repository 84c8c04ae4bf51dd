"""Which device a network runs on, in which memory layout, and where freed memory goes."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Sequence
from functools import cache

import torch
from torch import nn

from releq_gym.networks.profile import in_evaluation_mode
from releq_gym.registry import UnknownNameError

SMALLEST_CHANNELS_LAST = 16
"""Sides of an image from which on channels-last pays, measured on a CPU between 8 and 28."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>

THRESHOLDS = ("trim_threshold", "mmap_threshold")

LARGEST_KEPT = 32 << 20
"""Bytes of the largest block that glibc can be told to keep."""


def resolve_device(device: str | torch.device) -> torch.device:
    """``"auto"`` is a CUDA device where there is one, else the CPU.

    Raises:
        ValueError: For another name, or CUDA where there is none.
    """
    available, device = torch.cuda.is_available(), str(device)
    if device == "auto":
        return torch.device("cuda" if available else "cpu")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise UnknownNameError("device", device, ("auto", "cpu", "cuda"))
    if device.startswith("cuda") and not available:
        raise ValueError(f"device={device!r}, but PyTorch sees no CUDA device; use device='cpu'.")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is none that PyTorch knows: {error}") from None


def runs_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def packs_bfloat16(device: torch.device) -> bool:
    """Whether oneDNN takes fully connected layers in bfloat16 on this CPU, else it raises."""
    abilities = torch.cpu.get_capabilities()
    wide = all(abilities.get(name) for name in ("avx512_bw", "avx512_vl", "avx512_dq"))
    return device.type == "cpu" and bool(wide or abilities.get("avx_ne_convert"))


def warn_of_emulation(precision: str, device: torch.device) -> None:
    """Of a training in bfloat16 on a processor that has to emulate it, many times slower."""
    if precision == "bfloat16" and device.type == "cpu" and not runs_bfloat16(device):
        warnings.warn(
            "The recipe trains in bfloat16, which this CPU emulates, several times slower than "
            "float32; recipe_kwargs={'precision': 'float32'} (--recipe-kwargs precision=float32) "
            "changes results by rounding alone.",
            stacklevel=3,
        )


def place(module: nn.Module, device: torch.device, input_shape: Sequence[int]) -> nn.Module:
    """Moves a module to a device, in the memory layout that is fastest there; returns it.

    On a CPU this process keeps its memory from then on, see `keep_freed_memory`. Convolutions of
    images run faster channels-last; on tiny images the conversions cost more than that saves. A
    network that does not work so, as one that calls ``view`` on features, stays as it is.
    """
    large = len(input_shape) == 3 and min(input_shape[1:]) >= SMALLEST_CHANNELS_LAST
    if device.type == "cpu":
        keep_freed_memory()
    module = module.to(device)
    # Of tensors with five axes PyTorch would not know the layout, and raise.
    known = all(tensor.ndim < 5 for tensor in (*module.parameters(), *module.buffers()))
    if not (large and known):
        return module
    module = module.to(memory_format=torch.channels_last)
    if not _takes(module, torch.zeros(2, *input_shape, device=device)):
        module = module.to(memory_format=torch.contiguous_format)
    return module


@cache
def keep_freed_memory() -> bool:
    """Has glibc keep what is freed in blocks of up to `LARGEST_KEPT`; whether it does.

    Features are freed after each batch and needed again in the next one. By default the system gets
    much of that memory back, and hands it out page by page, each filled with zeros first: up to a
    third of the time, mostly much less (``benchmarks/live_speed``). The process then stays as large
    as it has ever been. Nothing is done where there is no glibc, or where the user's environment
    sets one of the two thresholds.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    told = any(f"MALLOC_{name.upper()}_" in os.environ or name in tunables for name in THRESHOLDS)
    if told or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # which musl lacks
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, -1))


def _takes(module: nn.Module, images: torch.Tensor) -> bool:
    """Whether a forward pass works, in evaluation mode; the module is left as it was."""
    try:
        with in_evaluation_mode(module):
            module(images)
    except Exception:  # whatever code of the user's raises; `check_fit` says it
        return False
    return True
