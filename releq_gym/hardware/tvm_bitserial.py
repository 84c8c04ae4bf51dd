"""Bit-serial convolutions and linear layers of TVM, scheduled by hand.

Bit-serial operators hold one bit of 32 values in a word. A sum of products is, for every bit of
the weights and every bit of the activations, ``popcount(weights & activations)`` shifted by both:
time falls with the bits of the weights. The definition is that of
``tvm.topi.nn.bitserial_conv2d_nchw`` and ``bitserial_dense`` with ``unipolar=False``, but for one
sign: activations are unsigned 8-bit codes, as after a ReLU, and weights are two's complement, so
that their highest bit counts negatively. The schedule is by hand: 16 output channels are a vector,
the sums of the 8 bits of the activations stay in registers, and the loop over the bits of the
weights is outside of the positions. Weights are packed ahead of time, activations in the operator.

Channels are padded with zeros to 32. Images, of at most `FEW_CHANNELS` channels, would waste
nearly all of a word, so that there a word holds values of a whole window of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.hardware.geometry import Geometry

ACTIVATION_BITWIDTH = 8
"""Bits of every activation."""

WORD = 32
"""Values in a word, one bit of each; what packs them counts on 4 bytes of 8 bits."""

LANES = 16
"""Output channels in a vector: 512 bits of sums of 32."""

FEW_CHANNELS = 4
"""Up to so many input channels, words hold windows."""


def bitserial(geometry: Geometry, bitwidth: int) -> tuple[str, Any]:
    """The operator's name and its schedule, of activations, weights and output.

    Args:
        geometry: Of a linear layer or an ungrouped convolution.
        bitwidth: Of the weights, 1 to 8.
    """
    from tvm import s_tir, te, tirx

    plan = _Plan.of(geometry)
    rows, columns = geometry.given
    kernel_rows, kernel_columns = plan.kernel
    source, values = _activations(geometry, plan)
    # A kernel of 1x1 meets only the positions that it is put at: no others are packed.
    down, right = geometry.stride if plan.kernel != (1, 1) else (1, 1)
    area = (rows - 1) * down + kernel_rows, (columns - 1) * right + kernel_columns

    place = te.reduce_axis((0, WORD // 4), name="place")
    packed = te.compute(
        (*area, plan.words, ACTIVATION_BITWIDTH),
        lambda y, x, word, bit: te.sum(
            ((values(y, x, word, place) >> bit.astype("uint32")) & tirx.const(0x01010101, "uint32"))
            << place.astype("uint32"),
            axis=place,
        ),
        name="packed",
    )
    weights = te.placeholder(
        (plan.vectors, bitwidth, *plan.kernel, plan.words, LANES), "uint32", name="weights"
    )
    i = te.reduce_axis((0, kernel_rows), name="i")
    j = te.reduce_axis((0, kernel_columns), name="j")
    word = te.reduce_axis((0, plan.words), name="word")
    counts = te.compute(
        (plan.vectors, bitwidth, rows, columns, ACTIVATION_BITWIDTH, LANES),
        lambda vector, high, y, x, bit, lane: te.sum(
            tirx.popcount(
                packed[y * down + i, x * right + j, word, bit]
                & weights[vector, high, i, j, word, lane]
            ).astype("int32"),
            axis=[i, j, word],
        ),
        name="counts",
    )
    one = tirx.const(1, "int32")
    high = te.reduce_axis((0, bitwidth), name="high")
    bit = te.reduce_axis((0, ACTIVATION_BITWIDTH), name="bit")
    given = te.compute(
        output_shape(geometry),
        lambda y, x, vector, lane: te.sum(
            (counts[vector, high, y, x, bit, lane] << bit)
            * tirx.Select(high == bitwidth - 1, -(one << high), one << high),
            axis=[high, bit],
        ),
        name="given",
    )
    schedule = s_tir.Schedule(te.create_prim_func([source, weights, given]))
    _schedule_bitserial(schedule, plan)
    if geometry.kind == "linear":
        return "bitserial_dense", schedule
    return f"bitserial_conv2d{'_windows' if plan.windows else ''}", schedule


def lay_out_activations(geometry: Geometry, activations: NDArray[np.uint8]) -> NDArray[Any]:
    """As the operator takes them: channels last, and in fours where channels fill words.

    Args:
        geometry: Of the layer.
        activations: `Geometry.input_shape`.
    """
    last = np.moveaxis(activations, 0, -1)
    return last if _Plan.of(geometry).windows else _quads(last)


def pack_weights(
    geometry: Geometry, bitwidth: int, weights: NDArray[np.int8]
) -> NDArray[np.uint32]:
    """Words ``[vectors, bitwidth, kernel rows, kernel columns, words, LANES]``.

    Args:
        geometry: Of the layer.
        bitwidth: Of the weights, 1 to 8.
        weights: `Geometry.weight_shape`, each within ``bitwidth`` bits in two's complement.
    """
    plan = _Plan.of(geometry)
    codes = np.moveaxis(weights.view(np.uint8), 1, -1)  # outputs, rows, columns, channels
    codes = codes.reshape(len(codes), *plan.kernel, -1)
    missing = plan.vectors * LANES - len(codes)
    codes = np.pad(codes, ((0, missing), (0, 0), (0, 0), (0, 0)))
    words = _packed(_quads(codes), bitwidth)  # outputs, rows, columns, words, bits
    return np.moveaxis(words.reshape(plan.vectors, LANES, *words.shape[1:]), (1, 5), (5, 1))


def output_shape(geometry: Geometry) -> tuple[int, int, int, int]:
    """Of the operator: rows, columns, vectors and `LANES`."""
    return (*geometry.given, _Plan.of(geometry).vectors, LANES)


def channels_first(geometry: Geometry, given: NDArray[np.int32]) -> NDArray[np.int32]:
    """The operator's output as output channels, rows and columns, without its padding."""
    channels = given.reshape(*geometry.given, -1)[..., : geometry.out_channels]
    return np.moveaxis(channels, -1, 0)


@dataclass(frozen=True)
class _Plan:
    """How a geometry lies in words.

    Attributes:
        windows: Whether a word holds values of a window, so that the kernel is 1x1.
        kernel: Rows and columns that are left to sum over.
        words: Words per position.
        vectors: Vectors of output channels.
    """

    windows: bool
    kernel: tuple[int, int]
    words: int
    vectors: int

    @classmethod
    def of(cls, geometry: Geometry) -> _Plan:
        area = geometry.kernel[0] * geometry.kernel[1]
        windows = area > 1 and geometry.in_channels <= FEW_CHANNELS
        values = geometry.in_channels * (area if windows else 1)
        return cls(
            windows=windows,
            kernel=(1, 1) if windows else geometry.kernel,
            words=-(-values // WORD),
            vectors=-(-geometry.out_channels // LANES),
        )


def _quads(codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Codes in fours, ``[..., words, 8]``, padded with zeros to whole words."""
    rest = -codes.shape[-1] % WORD
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, rest)])
    fours = np.ascontiguousarray(padded).view("<u4").astype(np.uint32, copy=False)
    return fours.reshape(*codes.shape[:-1], -1, WORD // 4)


def _packed(quads: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    """Bit ``b`` of the 32 codes of a word, ``[..., words, bits]``.

    Which of the 32 codes a bit of the word belongs to does not matter, as long as activations and
    weights agree: taking four at a time needs a quarter of the steps of one after the other.
    """
    shifts = np.arange(bits, dtype=np.uint32)
    words = np.zeros((*quads.shape[:-1], bits), np.uint32)
    for place in range(WORD // 4):
        words |= ((quads[..., place, None] >> shifts) & np.uint32(0x01010101)) << np.uint32(place)
    return words


def _activations(geometry: Geometry, plan: _Plan) -> tuple[Any, Callable[..., Any]]:
    """What the operator takes, and four codes of it by row, column, word and place in the word."""
    from tvm import te, tirx

    (rows, columns), (down, right) = geometry.taken, geometry.stride
    top, left, bottom, after = geometry.padding
    if not plan.windows:
        fours = te.placeholder((rows, columns, plan.words, WORD // 4), "uint32", name="activations")
        if plan.kernel == (1, 1):
            return fours, lambda y, x, word, place: fours[y * down, x * right, word, place]
        return fours, lambda y, x, word, place: tirx.if_then_else(
            tirx.all(y >= top, y < top + rows, x >= left, x < left + columns),
            fours[y - top, x - left, word, place],
            tirx.const(0, "uint32"),
        )

    channels, wide = geometry.in_channels, geometry.kernel[1]
    codes = te.placeholder((rows, columns, channels), "uint8", name="activations")
    image = te.compute(
        (rows + top + bottom, columns + left + after, channels),
        lambda y, x, c: tirx.if_then_else(
            tirx.all(y >= top, y < top + rows, x >= left, x < left + columns),
            codes[y - top, x - left, c],
            tirx.const(0, "uint8"),
        ),
        name="image",
    )

    def code(y: Any, x: Any, index: Any) -> Any:
        row, rest = index // (wide * channels), index % (wide * channels)
        return tirx.if_then_else(
            index < geometry.kernel[0] * wide * channels,
            image[y * down + row, x * right + rest // channels, rest % channels].astype("uint32"),
            tirx.const(0, "uint32"),
        )

    def four(y: Any, x: Any, word: Any, place: Any) -> Any:
        first = word * WORD + place * 4
        found = code(y, x, first)
        for byte in range(1, 4):
            found = found | (code(y, x, first + byte) << tirx.const(8 * byte, "uint32"))
        return found

    windows = te.compute((*geometry.given, plan.words, WORD // 4), four, name="windows")
    return codes, lambda y, x, word, place: windows[y, x, word, place]


def _schedule_bitserial(schedule: Any, plan: _Plan) -> None:
    """Vectors, registers and the order of loops."""
    packed, counts, given = (schedule.get_sblock(each) for each in ("packed", "counts", "given"))
    _, column, _, bit, place = schedule.get_loops(packed)
    schedule.reorder(place, bit)
    schedule.unroll(place)
    schedule.vectorize(bit)
    if plan.windows:
        windows = schedule.get_sblock("windows")
        schedule.compute_at(windows, column, preserve_unit_loops=True)
        for loop in schedule.get_loops(windows)[-2:]:
            schedule.unroll(loop)
    schedule.decompose_reduction(packed, place)

    row, column, vector, lane, high, bit = schedule.get_loops(given)
    schedule.reorder(vector, high, row, column, bit, lane)
    schedule.unroll(bit)
    schedule.vectorize(lane)
    schedule.compute_at(counts, column, preserve_unit_loops=True)
    bit, lane, *summed = schedule.get_loops(counts)[-5:]
    schedule.reorder(*summed, bit, lane)
    schedule.unroll(bit)
    schedule.vectorize(lane)
    schedule.set_scope(counts, 0, "local")
    zeros = schedule.decompose_reduction(counts, summed[0])
    schedule.unroll(schedule.get_loops(zeros)[-2])
    schedule.vectorize(schedule.get_loops(zeros)[-1])
    zeros = schedule.decompose_reduction(given, vector)
    schedule.vectorize(schedule.get_loops(zeros)[-1])
