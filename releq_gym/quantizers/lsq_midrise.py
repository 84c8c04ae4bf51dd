"""LSQ on a mid-rise grid: all 2**bitwidth levels, none of them zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from releq_gym.quantizers.base import QUANTIZERS
from releq_gym.quantizers.lsq import LSQ


@QUANTIZERS.register("lsq_midrise")
@dataclass(frozen=True)
class LSQMidrise(LSQ):
    """`LSQ` with the levels ``step * (-N + 1/2, ..., -1/2, 1/2, ..., N - 1/2)``, N = 2**(k - 1).

    A symmetric grid with a zero leaves one of its 2**k codes unused: a quarter of them at 2 bits.
    Without one, four levels are there at 2 bits instead of three, as DoReFa has them, too. Codes
    are the odd numbers from ``1 - 2**k`` to ``2**k - 1``, their scale half a step. The step's
    gradient is the level minus ``w / step`` inside the grid, ``|w| <= (N - 1/2) step``, and the
    outermost level beyond, times ``1 / sqrt(weights per step * (N - 1/2))``. 1 bit is that of LSQ.

    Without retraining it rounds to the mid-rise grid of least squared error.

    Source: Esser et al., "Learned Step Size Quantization", ICLR 2020, on the grid that the
    signal-processing literature calls mid-rise (Gersho and Gray, 1992, chapter 5).
    """

    name: ClassVar[str] = "lsq_midrise"
    half: ClassVar[float] = 0.5
    refuses_ptq: ClassVar[str] = ""
