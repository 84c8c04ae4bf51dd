"""Which device a network runs on."""

from __future__ import annotations

import torch

from releq_gym.registry import UnknownNameError


def resolve_device(device: str) -> torch.device:
    """``"auto"`` is a CUDA device where there is one, else the CPU.

    Raises:
        ValueError: For another name, or CUDA where there is none.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if available else "cpu")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise UnknownNameError("device", device, ("auto", "cpu", "cuda"))
    if device.startswith("cuda") and not available:
        raise ValueError(f"device={device!r}, but PyTorch sees no CUDA device; use device='cpu'.")
    return torch.device(device)
