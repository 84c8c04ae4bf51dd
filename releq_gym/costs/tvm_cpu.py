"""TVM's bit-serial operators, measured on a CPU."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from releq_gym.costs import COSTS, Figures
from releq_gym.costs.lookup import Lookup
from releq_gym.layers import Layer


@COSTS.register("tvm_cpu")
@dataclass(frozen=True)
class TvmCpu:
    """Milliseconds of one image on one core, layer by layer, weights of 1 to 8 bits.

    Activations have 8 bits. Weights are packed ahead of time, activations within the time. Layers
    that bit-serial operators do not cover (depthwise and grouped convolutions) take the same time
    at every bitwidth, that of an 8-bit operator; the table names it.

    What it counts: the measured time of TVM's bit-serial convolutions and fully connected layers,
        as ``releq hardware measure`` schedules them.
    Units: ``milliseconds``.
    What it leaves out: layers that are not quantized, moving data between layers, other cores; that
        a CPU's own 8-bit instructions may be faster than bit-serial operators at 8 bits.
    Source: measured by this package; the tables that are shipped name the CPU. Operators: Cowan et
        al., "Automatic generation of high-performance quantized machine learning kernels", CGO
        2020, as in TVM's ``topi``.

    Attributes:
        table: A file that ``releq hardware measure NET`` wrote on your CPU; None takes the shipped
            one for the network, where there is one.
    """

    table: str | os.PathLike | None = None

    def __call__(self, layers: Sequence[Layer], bitwidths: Sequence[int]) -> Figures:
        """Figures ``[layers, bitwidths]``.

        Raises:
            ValueError: Where no shipped table is about these layers, or the one named is not.
        """
        path = self.table if self.table is not None else _shipped(layers)
        found = Lookup(path)(layers, bitwidths)
        if "milliseconds" not in found:
            raise ValueError(
                f"{path} is no file of 'releq hardware measure'; a table of your own goes with "
                "cost='lookup', cost_kwargs={'path': FILE}."
            )
        return found


def _shipped(layers: Sequence[Layer]) -> Path:
    wanted = [(layer.name, list(layer.weight_shape), layer.macs) for layer in layers]
    for table in _tables():
        if table["layers"] == wanted:
            return table["path"]
    known = ", ".join(f"{table['net']} ({table['cpu']})" for table in _tables())
    raise ValueError(
        f"No measured table is about these layers; there are {known or 'none'}. Measure with "
        "'releq hardware measure NET', then pass cost_kwargs={'table': FILE}."
    )


@cache
def _tables() -> list[dict[str, Any]]:
    """The shipped ones: what they are about, and where they are."""
    folder = Path(str(files("releq_gym"))) / "data" / "hardware" / "tvm_cpu"
    found = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        layers = [
            (layer["layer"], layer["weight_shape"], layer["macs"]) for layer in content["layers"]
        ]
        found.append({"path": path, "layers": layers, "net": content["net"], "cpu": content["cpu"]})
    return found
