"""A layer compiled by TVM for this processor: bit-serial where that can be, else at 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.hardware import tvm_bitserial, tvm_integer
from releq_gym.hardware.geometry import Geometry

ENTRY = "main"
"""What TVM calls the only function of a schedule."""

Arguments = tuple[Any, Any, Any]
"""Activations, weights and output in the memory and the layout of an operator."""


@dataclass(frozen=True)
class Operator:
    """A compiled layer, which runs on one thread.

    Attributes:
        name: For instance ``"bitserial_conv2d"`` or ``"int8 depthwise_conv2d_nchw"``.
        geometry: Of the layer.
        bitwidth: Of the weights; 8 where the operator is not bit-serial.
        runtime: The compiled module.
    """

    name: str
    geometry: Geometry
    bitwidth: int
    runtime: Any

    def arguments(self, activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> Arguments:
        """What `answer` and `milliseconds` take, with the weights packed.

        Args:
            activations: `Geometry.input_shape`.
            weights: `Geometry.weight_shape`, each within ``bitwidth`` bits in two's complement.
        """
        taken: NDArray[Any]
        held: NDArray[Any]
        shape: tuple[int, ...] = (1, self.geometry.out_channels, *self.geometry.given)
        if is_bitserial(self.geometry):
            taken = tvm_bitserial.lay_out_activations(self.geometry, activations)
            held = tvm_bitserial.pack_weights(self.geometry, self.bitwidth, weights)
            shape = tvm_bitserial.output_shape(self.geometry)
        else:
            taken, held = tvm_integer.lay_out(self.geometry, activations, weights)
        tvm = require_tvm()
        place = tvm.cpu(0)
        return (
            tvm.runtime.tensor(np.ascontiguousarray(taken), place),
            tvm.runtime.tensor(np.ascontiguousarray(held), place),
            tvm.runtime.tensor(np.zeros(shape, np.int32), place),
        )

    def answer(self, arguments: Arguments) -> NDArray[np.int32]:
        """Runs once; output channels, rows and columns."""
        self.runtime[ENTRY](*arguments)
        given = arguments[2].numpy()
        if is_bitserial(self.geometry):
            return tvm_bitserial.channels_first(self.geometry, given)
        return given[0]

    def milliseconds(self, arguments: Arguments, calls: int) -> float:
        """Mean time of one of ``calls`` calls, after one that is not counted."""
        place = require_tvm().cpu(0)
        timer = self.runtime.mod.time_evaluator(ENTRY, place, number=calls, repeat=1)
        return 1e3 * float(timer(*arguments).mean)


def is_bitserial(geometry: Geometry) -> bool:
    """Whether the bit-serial operators cover it: linear layers and ungrouped convolutions."""
    return geometry.kind in ("conv", "linear") and geometry.channel_groups == 1


def compile_layer(geometry: Geometry, bitwidth: int = 8) -> Operator:
    """Builds a layer for this processor.

    Args:
        geometry: Of the layer.
        bitwidth: Of the weights, 1 to 8; an operator that is not bit-serial has only 8.

    Raises:
        ModuleNotFoundError: If TVM is not installed.
        ValueError: If there is no such operator.
    """
    if bitwidth not in range(1, 9) or (bitwidth != 8 and not is_bitserial(geometry)):
        raise ValueError(
            f"bitwidth={bitwidth} has to be 1 to 8, and 8 for a depthwise, grouped or transposed "
            "convolution, which TVM has no bit-serial operator for."
        )
    tvm = require_tvm()
    if is_bitserial(geometry):
        name, schedule = tvm_bitserial.bitserial(geometry, bitwidth)
    else:
        name, schedule = tvm_integer.integer(geometry)
    target = tvm.target.Target({"kind": "llvm", "mcpu": processor()})
    return Operator(
        name=name,
        geometry=geometry,
        bitwidth=bitwidth,
        runtime=tvm.compile(schedule.mod, target=target),
    )


def processor() -> str:
    """What LLVM calls this processor, such as ``"znver5"``."""
    return str(require_tvm().target.codegen.llvm_get_system_cpu())


def require_tvm() -> ModuleType:
    """The package ``tvm``.

    Raises:
        ModuleNotFoundError: If it is not installed; says how to install it.
    """
    try:
        import tvm
    except ModuleNotFoundError as error:
        if error.name != "tvm":
            raise
        raise ModuleNotFoundError(
            "TVM is not installed: pip install 'releq_gym[tvm]'", name="tvm"
        ) from None
    return tvm
