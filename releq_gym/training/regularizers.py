"""Penalties that draw the weights of quantized layers to their levels during retraining."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from releq_gym.quantized import fake_quantizers
from releq_gym.quantizers.base import Grid
from releq_gym.registry import Registry

Regularizer = Callable[[Grid], Tensor]
"""Takes where the weights of a layer lie among their levels, returns a scalar penalty."""

REGULARIZERS: Registry[Regularizer] = Registry("regularizer")


@REGULARIZERS.register("none")
def none(grid: Grid) -> Tensor:
    """No penalty."""
    return grid.position.new_zeros(())


@REGULARIZERS.register("sinreq")
def sinreq(grid: Grid) -> Tensor:
    """``sum (step / pi)^2 sin^2(pi position)``: zero on the levels, largest halfway between.

    Near a level that is the squared distance to it, so that one weight of the penalty suits all
    bitwidths, as one weight decay does. A quarter of a step outside the outermost levels the
    slope, ``step / pi``, has become as large as it gets between levels, and stays that.

    Source: Elthakeb et al., "SinReQ: Generalized Sinusoidal Regularization for Low-Bitwidth Deep
    Quantized Training", arXiv:1905.01416; the factor ``step^2`` and the slope outside are ours.
    """
    near = grid.position.clamp(-0.25, grid.levels - 0.75)
    wave = (math.pi * (near - near.round())).sin().square()
    penalties = wave + math.pi * (grid.position - near).abs()
    return (penalties * (grid.step / math.pi).square()).sum()


class Penalty:
    """The sum of one regularizer over all quantized layers of a module.

    Args:
        name: Of the regularizer.
        module: What `releq_gym.quantized.quantize_network` returned, or one without quantized
            layers, whose penalty is 0.

    Raises:
        UnknownNameError: Where there is no regularizer of that name.
    """

    def __init__(self, name: str, module: nn.Module):
        self._regularizer = REGULARIZERS[name]
        self._layers = []
        if name != "none":  # nothing to compute
            for layer, fake in fake_quantizers(module).items():
                weight = module.get_parameter(f"{layer}.parametrizations.weight.original")
                self._layers.append((fake, weight))

    def __bool__(self) -> bool:
        """Whether there is anything to penalise."""
        return bool(self._layers)

    def __call__(self) -> Tensor:
        """The penalty on the weights as they are now, a scalar."""
        penalties = [self._regularizer(fake.grid(weight)) for fake, weight in self._layers]
        return torch.stack(penalties).sum()
