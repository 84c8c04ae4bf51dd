"""TVM's ordinary convolutions on 8-bit integers, for what its bit-serial ones do not cover."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.hardware.geometry import Geometry

LANES = 16
"""Most output columns in a vector."""


def integer(geometry: Geometry) -> tuple[str, Any]:
    """The operator's name and its schedule, of activations, weights and output.

    Args:
        geometry: Of a depthwise, grouped or transposed convolution.
    """
    from tvm import s_tir, te, topi

    activations = te.placeholder((1, *geometry.input_shape), "uint8", name="activations")
    weights = te.placeholder(_held_shape(geometry), "int8", name="weights")
    operands = (activations, weights, geometry.stride, geometry.padding)
    groups = geometry.channel_groups
    if geometry.kind == "transposed":
        added = [max(-each, 0) for each in geometry.surplus]
        name = f"{'group_' if groups > 1 else ''}conv2d_transpose_nchw"
        given = topi.nn.group_conv2d_transpose_nchw(*operands, "int32", added, groups)
    elif geometry.kind == "depthwise":
        name = "depthwise_conv2d_nchw"
        given = topi.nn.depthwise_conv2d_nchw(*operands, 1, "int32")
    else:
        name = "group_conv2d_nchw"
        given = topi.nn.group_conv2d_nchw(*operands, 1, groups, "int32")
    schedule = s_tir.Schedule(te.create_prim_func([activations, weights, given]))
    _schedule(schedule, geometry.given[1])
    return f"int8 {name}", schedule


def lay_out(
    geometry: Geometry, activations: NDArray[np.uint8], weights: NDArray[np.int8]
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Both as the operator takes them: a batch of one, and its own shape of weights."""
    return activations[None], weights.reshape(_held_shape(geometry))


def _held_shape(geometry: Geometry) -> tuple[int, ...]:
    """Of the weights; depthwise operators tell the outputs of one channel apart."""
    if geometry.kind == "depthwise":
        outputs = geometry.out_channels // geometry.in_channels
        return (geometry.in_channels, outputs, *geometry.kernel)
    return geometry.weight_shape


def _schedule(schedule: Any, columns: int) -> None:
    """Output columns are a vector that stays in registers while the kernel is summed."""
    (given,) = schedule.get_output_blocks(schedule.get_sblock("root"))
    lanes = next(n for n in range(min(columns, LANES), 0, -1) if columns % n == 0)
    copied = schedule.cache_write(given, 0, "local")
    batch, channel, row, column, *summed = schedule.get_loops(given)
    column, lane = schedule.split(column, [None, lanes])
    schedule.reorder(batch, channel, row, column, *summed, lane)
    schedule.reverse_compute_at(copied, column)
    if lanes > 1:  # else the last loops are not those of lanes
        schedule.vectorize(lane)
        schedule.vectorize(schedule.get_loops(copied)[-1])
    zeros = schedule.decompose_reduction(given, summed[0])
    if lanes > 1:
        schedule.vectorize(schedule.get_loops(zeros)[-1])
