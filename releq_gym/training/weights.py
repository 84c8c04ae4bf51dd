"""Where the full-precision weights of registered networks are kept."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import safe_open
from safetensors.torch import load, save

from releq_gym.networks.base import NETWORKS, Network
from releq_gym.whole_files import written_whole

RECORD = "releq_gym"
"""Key of the safetensors metadata that says how weights came about, as JSON."""


def default_weights_path(name: str) -> Path:
    """The file that a new pretraining of ``name`` writes.

    In a checkout that is ``releq_gym/data/weights/<name>.safetensors``, so that it can be
    committed; an installed package is not written to, but has the user's data folder beside it.
    """
    shipped = _shipped(name)
    in_checkout = (shipped.parents[3] / "pyproject.toml").is_file()
    return shipped if in_checkout else _own(name)


def weights_candidates(name: str) -> tuple[Path, ...]:
    """Where the weights of ``name`` may lie, the first one first."""
    return (_shipped(name), _own(name))


def find_weights(name: str) -> Path:
    """The weights of ``name``: as shipped, else the user's own pretraining, else downloaded.

    Raises:
        ValueError: Where there are none.
    """
    for path in weights_candidates(name):
        if path.is_file():
            return path
    if name in NETWORKS and NETWORKS[name].download:
        return _download(NETWORKS[name], _own(name))
    if name in NETWORKS and "pretrain" not in NETWORKS[name].recipes:
        raise ValueError(
            f"There are no weights for {name!r}, which is a name alone. Where its factory returns "
            "a trained network, pass that factory itself, or as 'package.module:factory'; else "
            "pass weights=FILE.safetensors."
        )
    raise ValueError(
        f"There are no weights for {name!r} yet. Train them with `releq pretrain {name}`, or pass "
        "weights=FILE.safetensors."
    )


def _download(network: Network, path: Path) -> Path:
    assert network.download is not None
    try:
        tensors = network.download()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"The weights of {network.name!r} are not shipped and cannot be downloaded ({error}). "
            "Connect to the internet once, or pass weights=FILE.safetensors."
        ) from error
    with written_whole(path) as partial:
        partial.write_bytes(save({key: tensor.contiguous() for key, tensor in tensors.items()}))
    return path


def add_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes how the weights in ``path`` came about into the file; whole or not at all."""
    with written_whole(path) as partial:
        partial.write_bytes(save(load(path.read_bytes()), {RECORD: json.dumps(record)}))


def read_record(path: Path) -> dict[str, Any]:
    """What `add_record` wrote; empty for weights that were trained elsewhere."""
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get(RECORD, "{}"))


def _shipped(name: str) -> Path:
    package = Path(str(importlib.resources.files("releq_gym")))
    return package / "data" / "weights" / f"{name}.safetensors"


def _own(name: str) -> Path:
    return platformdirs.user_data_path("releq_gym") / "weights" / f"{name}.safetensors"
