"""The integer operator that a layer stands for: its shapes, and its answer by numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from releq_gym.layers import Layer

Pair = tuple[int, int]
"""Rows and columns."""


@dataclass(frozen=True)
class Geometry:
    """Shapes of one layer in two spatial dimensions; a linear layer has a 1x1 kernel.

    Attributes:
        kind: One of `releq_gym.layers.KINDS`.
        channel_groups: Into how many groups the channels are split.
        in_channels: Of the whole input.
        out_channels: Of the whole output.
        kernel: Its rows and columns.
        stride: Along rows and columns.
        taken: Rows and columns of the input, without padding.
        given: Rows and columns of the output.
    """

    kind: str
    channel_groups: int
    in_channels: int
    out_channels: int
    kernel: Pair
    stride: Pair
    taken: Pair
    given: Pair

    @property
    def surplus(self) -> Pair:
        """Padding in all along rows and columns; of a transposed convolution, what is cut off.

        Negative where a transposed convolution adds rows or columns that no input reaches.
        """
        axes = zip(self.kernel, self.stride, self.taken, self.given, strict=True)
        if self.kind == "transposed":
            rows, columns = ((t - 1) * s + k - g for k, s, t, g in axes)
        else:
            rows, columns = (max((g - 1) * s + k - t, 0) for k, s, t, g in axes)
        return rows, columns

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """`surplus` split into top, left, bottom and right, the odd one after."""
        rows, columns = (max(each, 0) for each in self.surplus)
        return rows // 2, columns // 2, rows - rows // 2, columns - columns // 2

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the activations."""
        return (self.in_channels, *self.taken)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """As PyTorch stores them, with both spatial dimensions."""
        if self.kind == "transposed":
            return (self.in_channels, self.out_channels // self.channel_groups, *self.kernel)
        return (self.out_channels, self.in_channels // self.channel_groups, *self.kernel)


def geometry_of(layer: Layer) -> Geometry:
    """A geometry with as many output positions and multiply-accumulates as the layer.

    A `Layer` does not tell how its positions lie, so they make the grid that is nearest to a
    square (one row where the kernel has one dimension), and the input is as large as "same"
    padding needs: stride times the output. A transposed convolution meets its weights once at
    each input position; the grids of both sides are those that differ least from its stride. A
    layer that a forward pass uses several times has the positions of all uses at once.

    Raises:
        ValueError: If the kernel has three dimensions.
    """
    spatial = layer.weight_shape[2:]
    if len(spatial) > 2:
        raise ValueError(
            f"Layer {layer.name!r} has a kernel of {len(spatial)} dimensions, "
            f"{'x'.join(map(str, spatial))}; only those of 1 and 2 dimensions can be measured."
        )
    flat = len(spatial) == 1
    kernel_rows, kernel_columns = (1, 1, *spatial)[-2:]
    side = math.isqrt(layer.stride)
    stride = (side, side) if not flat and side**2 == layer.stride else (1, layer.stride)
    grids = _grids(layer.output_positions, flat)
    if layer.kind == "transposed":
        given, taken = min(
            product(grids, _grids(layer.macs // layer.weights, flat)),
            key=lambda sides: _mismatch(sides[0], sides[1], stride),
        )
    else:
        given = grids[0]
        taken = given[0] * stride[0], given[1] * stride[1]
    groups = layer.channel_groups
    return Geometry(
        kind=layer.kind,
        channel_groups=groups,
        in_channels=layer.input_dim * groups,
        out_channels=layer.output_dim,
        kernel=(kernel_rows, kernel_columns),
        stride=stride,
        taken=taken,
        given=given,
    )


def exact_answer(
    geometry: Geometry, activations: NDArray[np.uint8], weights: NDArray[np.int8]
) -> NDArray[np.int64]:
    """What the layer gives, by numpy, without rounding.

    Args:
        geometry: Of the layer.
        activations: `Geometry.input_shape`.
        weights: `Geometry.weight_shape`.

    Returns:
        Output channels, rows and columns.
    """
    # Products of 16 bits: float64 sums 2**37 of them exactly, and multiplies matrices by BLAS.
    groups, transposed = geometry.channel_groups, geometry.kind == "transposed"
    x = activations.astype(np.float64).reshape(groups, -1, *geometry.taken)
    w = weights.astype(np.float64).reshape(groups, -1, *weights.shape[1:])
    into = "goi,giyx->goyx" if not transposed else "gio,giyx->goyx"
    top, left, bottom, right = geometry.padding
    if not transposed:
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = tuple(  # How far the kernel reaches over all positions that it is put at.
        max((t - 1) * s + k, g + before)
        for t, s, k, g, before in zip(
            geometry.taken,
            geometry.stride,
            geometry.kernel,
            geometry.given,
            (top, left),
            strict=True,
        )
    )
    given = np.zeros(
        (groups, geometry.out_channels // groups, *(reach if transposed else geometry.given))
    )
    for row, column, places in _places(geometry):
        share = w[..., row, column]
        if transposed:
            given[:, :, *places] += np.einsum(into, share, x, optimize=True)
        else:
            given += np.einsum(into, share, x[:, :, *places], optimize=True)
    if transposed:
        rows, columns = geometry.given
        given = given[:, :, top : top + rows, left : left + columns]
    return given.reshape(-1, *geometry.given).astype(np.int64)


def _places(geometry: Geometry) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """Each place of the kernel, and where it stands in what is strided over."""
    steps = geometry.taken if geometry.kind == "transposed" else geometry.given
    for row in range(geometry.kernel[0]):
        for column in range(geometry.kernel[1]):
            rows, columns = (
                slice(start, start + (count - 1) * stride + 1, stride)
                for start, count, stride in zip((row, column), steps, geometry.stride, strict=True)
            )
            yield row, column, (rows, columns)


def _grids(positions: int, flat: bool) -> list[Pair]:
    """Rows and columns, no more rows than columns: the nearest to a square first."""
    most = 1 if flat else math.isqrt(positions)
    return [(n, positions // n) for n in range(most, 0, -1) if positions % n == 0]


def _mismatch(given: Pair, taken: Pair, stride: Pair) -> int:
    """By how many rows and columns an output differs from stride times the input."""
    return sum(abs(g - t * s) for g, t, s in zip(given, taken, stride, strict=True))
