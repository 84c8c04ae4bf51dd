"""The short or long retraining that follows quantization."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from releq_gym.datasets.augment import find_augmentation
from releq_gym.datasets.normalise import PIXELS
from releq_gym.networks.base import Recipe
from releq_gym.quantized import quantize_network
from releq_gym.quantizers.base import Quantizer
from releq_gym.training.accuracy import batch_size
from releq_gym.training.loop import Loss, Run, check_augmentation, shuffled


@dataclass(frozen=True)
class Retrained:
    """What came out of one retraining.

    Attributes:
        module: The quantized network, its weights still trainable.
        diverged: Whether the loss or a weight became NaN or infinite.
        milliseconds: Wall time of quantization and retraining.
    """

    module: nn.Module
    diverged: bool
    milliseconds: float


def retrain(
    module: nn.Module,
    layer_names: Sequence[str],
    bitwidths: Sequence[int],
    quantizer: Quantizer,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    seed: int,
    *,
    normalise: Callable[[Tensor], Tensor] = PIXELS,
    teacher: nn.Module | None = None,
    loss: Loss | None = None,
    advance: Callable[[float], object] = lambda share: None,
) -> Retrained:
    """Quantizes a copy of a full-precision network and retrains it.

    The result depends on the arguments alone, not on what was retrained before. The order of the
    images depends on the seed alone, so that two assignments with one seed are compared on the
    same steps.

    Args:
        module: Full-precision network; left as it is.
        layer_names: Which layers are quantized.
        bitwidths: One for each of them.
        quantizer: Quantizes their weights.
        recipe: How to retrain; 0 images means not at all.
        images: Training images before normalisation, ``[n, channels, height, width]``; where the
            recipe does not augment, inputs of any shape.
        labels: int64 ``[n]``, or whatever ``loss`` takes.
        seed: Fixes everything random.
        normalise: From images to what the network sees.
        teacher: Whose soft labels a recipe with distillation uses; None means ``module``.
        loss: What to lower instead of cross-entropy, from outputs and targets.
        advance: Told now and then which share of the retraining is done.

    Raises:
        ValueError: For layers, bitwidths, or a recipe that cannot be used; see
            `releq_gym.quantized.quantize_network` and `releq_gym.training.loop.Run`.
    """
    started = time.perf_counter()
    quantized = quantize_network(module, layer_names, bitwidths, quantizer)
    finite = True
    if recipe.images:
        if recipe.distillation and teacher is None:
            teacher = copy.deepcopy(module).eval()
        run = Run(quantized, recipe, images, labels, seed, normalise, teacher, loss)
        finite = run.advance(0, run.steps, advance)
    finite = finish(quantized, recipe, images, normalise, finite)
    return Retrained(quantized, not finite, 1e3 * (time.perf_counter() - started))


def finish(
    module: nn.Module,
    recipe: Recipe,
    images: Tensor,
    normalise: Callable[[Tensor], Tensor],
    finite: bool,
) -> bool:
    """What follows the last step of a retraining; leaves the module in evaluation mode.

    Args:
        module: Quantized and retrained.
        recipe: Says whether batch norm is measured anew.
        images: Training images before normalisation.
        normalise: From images to what the network sees.
        finite: Whether the loss was finite in every step.

    Returns:
        Whether every parameter is finite, too.
    """
    if finite and recipe.reestimate_batch_norm:
        # Always the same images: a recipe without retraining has nothing random.
        order = shuffled(len(images), min(recipe.reestimate_batch_norm, len(images)), seed=0)
        chosen = images[order.to(images.device)]
        augment = find_augmentation(recipe.augment)
        if augment is not None:
            check_augmentation(recipe, images)
            chosen = augment(chosen, torch.Generator().manual_seed(0))
        reestimate_batch_norm(module, chosen, normalise)
    module.eval()
    return finite and all(bool(tensor.isfinite().all()) for tensor in module.parameters())


def reestimate_batch_norm(
    module: nn.Module, images: Tensor, normalise: Callable[[Tensor], Tensor]
) -> None:
    """Measures batch-norm statistics anew, as plain means over batches of ``images``.

    Source: Sun et al., "Hybrid 8-bit floating point training", 2019, and others: quantized
    weights shift the activations that the old statistics describe.

    Args:
        module: Changed in place, left in evaluation mode.
        images: Inputs before normalisation, two or more.
        normalise: Applied to each batch.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    # Batches of one size: each counts as much as the others.
    count = math.ceil(len(images) / batch_size(images.shape[1:], images.device))
    with torch.no_grad(), parametrize.cached():
        for batch in images.tensor_split(count):
            module(normalise(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
