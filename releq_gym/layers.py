"""What is known of a quantized layer before anything is quantized."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

FULL_PRECISION = 32
"""The bitwidth of what is not quantized."""

BITWIDTHS = range(1, 9)
"""Every bitwidth that a quantizer, a cost model and an observation can speak of."""

MAX_LOSS_POINTS = 0.3
"""The loss that is tolerated where nobody states one, in percentage points."""

KINDS = ("conv", "depthwise", "transposed", "linear")
"""Layer kinds: any (grouped) convolution, depthwise, transposed convolution, fully connected."""


@dataclass(frozen=True)
class Layer:
    """One quantized layer.

    Attributes:
        name: Its dotted path in the module, for instance ``"features.0"``.
        kind: One of `KINDS`.
        weight_shape: Shape of the weight tensor as PyTorch stores it.
        stride: Product of the strides over the spatial dimensions; 1 for a linear layer.
        output_positions: Spatial positions of the output per image, summed over all uses of the
            layer in one forward pass.
        macs: Multiply-accumulate operations per image.
        weight_std: Standard deviation of the full-precision weights.
        sqnr_db: Signal-to-quantization-noise ratio of the weights in dB at 1 to 8 bits under the
            quantizer in use, ``10 log10(sum w^2 / sum (w - q(w))^2)``, before any retraining.
        channel_groups: Into how many groups a convolution splits its channels.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    stride: int
    output_positions: int
    macs: int
    weight_std: float
    sqnr_db: tuple[float, ...]
    channel_groups: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"Layer {self.name!r} has kind {self.kind!r}; allowed are {', '.join(KINDS)}."
            )
        if len(self.sqnr_db) != len(BITWIDTHS) or not all(map(math.isfinite, self.sqnr_db)):
            raise ValueError(f"Layer {self.name!r} needs one finite sqnr_db per bitwidth 1 to 8.")
        if not math.isfinite(self.weight_std):
            raise ValueError(
                f"Layer {self.name!r} has a weight_std of {self.weight_std}: its weights hold NaN "
                "or infinity. Load a checkpoint with finite weights."
            )

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.weight_shape)

    @property
    def output_dim(self) -> int:
        """Output channels or features."""
        if self.kind == "transposed":
            return self.weight_shape[1] * self.channel_groups
        return self.weight_shape[0]

    @property
    def input_dim(self) -> int:
        """Input channels or features that one output sees."""
        if self.kind == "transposed":
            return self.weight_shape[0] // self.channel_groups
        return self.weight_shape[1]

    @property
    def kernel_area(self) -> int:
        """Kernel positions: 25 for a 5x5 convolution, 1 for a linear layer."""
        return math.prod(self.weight_shape[2:])

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Layer:
        """The inverse of `to_dict`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record.items()
        }
        return cls(**values)
