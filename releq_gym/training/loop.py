"""The one training loop: seeded, resumable at any step that a chunk began with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from releq_gym.datasets.augment import find_augmentation
from releq_gym.networks.base import Recipe
from releq_gym.quantized import fake_quantizers
from releq_gym.registry import UnknownNameError
from releq_gym.training.regularizers import Penalty

MOMENTUM = 0.9

PRECISIONS = ("float32", "bfloat16")

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes the outputs and the targets of a batch, returns a scalar to be made small."""

CHECK_EVERY = 20
"""Steps between two looks at the loss: each look makes a GPU wait."""


class Run:
    """One training of one module by one recipe.

    The order of the images is a fixed function of the seed, drawn anew for each pass over them;
    nothing draws from the global random number generators.

    Args:
        module: Trained in place.
        recipe: How; its number of images decides `steps`.
        images: What to train on, ``[n, channels, height, width]``, before normalisation. Without
            augmentation inputs of any other shape do as well.
        labels: int64 ``[n]``, or whatever ``loss`` takes.
        seed: Fixes everything random.
        normalise: Applied to each augmented batch.
        teacher: Full-precision network for ``recipe.distillation``.
        loss: None means cross-entropy.

    Raises:
        ValueError: For an unknown optimizer, schedule, augmentation, regularizer or precision, an
            augmentation of inputs that are no images, a recipe with distillation or label
            smoothing beside a loss of one's own, or unequal numbers of images and labels.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        images: Tensor,
        labels: Tensor,
        seed: int,
        normalise: Callable[[Tensor], Tensor],
        teacher: nn.Module | None = None,
        loss: Loss | None = None,
    ):
        _check_inputs(recipe, images, labels, loss)
        self.module, self.recipe, self.seed = module, recipe, seed
        self.images, self.labels, self.normalise = images, labels, normalise
        self.teacher = teacher if recipe.distillation else None
        self.loss = loss
        self.steps = max(1, round(recipe.images / recipe.batch_size))
        order = shuffled(len(labels), self.steps * recipe.batch_size, seed)
        self.batches = order.view(self.steps, recipe.batch_size).to(images.device)
        self.augment = find_augmentation(recipe.augment)
        self.penalty = Penalty(recipe.regularizer, module)
        self.optimizer = _make_optimizer(module, recipe)
        if recipe.precision not in PRECISIONS:
            raise UnknownNameError("precision", recipe.precision, PRECISIONS)
        # An unknown schedule is refused before the first step.
        learning_rate(recipe, self.steps - 1, self.steps)

    def advance(self, start: int, stop: int) -> bool:
        """Takes the steps ``start`` to ``stop - 1``.

        Returns:
            Whether the loss stayed finite; one that is not ends the training within
            `CHECK_EVERY` steps.
        """
        self.module.train()
        generator = torch.Generator().manual_seed(self._chunk_seed(start))
        devices = [self.images.device] if self.images.is_cuda else []
        repeatable = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        # Dropout knows only the global generator: it is borrowed here, and given back as it was.
        with torch.random.fork_rng(devices), repeatable:
            torch.manual_seed(self._chunk_seed(start))
            for first in range(start, stop, CHECK_EVERY):
                steps = range(first, min(first + CHECK_EVERY, stop))
                losses = torch.stack([self._step(step, generator) for step in steps])
                if not losses.isfinite().all():
                    return False
        return True

    def _step(self, step: int, generator: torch.Generator) -> Tensor:
        index = self.batches[step]
        images, labels = self.images[index], self.labels[index]
        if self.augment is not None:
            images = self.augment(images, generator)
        images = self.normalise(images)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step, self.steps)
        loss = self._loss(images, labels)
        if self.penalty:
            loss = loss + self.recipe.regularizer_weight * self.penalty()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        reduced = self.recipe.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=reduced):
            logits = self.module(images)
        logits = logits.float()
        if self.loss is not None:
            return _scalar(self.loss(logits, labels))
        smoothing = self.recipe.label_smoothing
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            soft_labels = self.teacher(images).softmax(dim=1)
        return loss.lerp(functional.cross_entropy(logits, soft_labels), self.recipe.distillation)

    def _chunk_seed(self, start: int) -> int:
        return self.seed + 1_000_003 * (start + 1)


def _check_inputs(recipe: Recipe, images: Tensor, labels: Tensor, loss: Loss | None) -> None:
    if len(images) != len(labels):
        raise ValueError(
            f"{len(images)} images and {len(labels)} labels do not belong together; one label per "
            "image is needed."
        )
    if recipe.augment != "none" and images.ndim != 4:
        raise ValueError(
            f"augment={recipe.augment!r} is for images, but an input has the shape "
            f"{tuple(images.shape[1:])}; use a recipe with augment='none'."
        )
    if loss is None:
        return
    for field in ("distillation", "label_smoothing"):
        if value := getattr(recipe, field):
            raise ValueError(
                f"{field}={value} belongs to the cross-entropy, so it cannot go with a loss of "
                f"your own; use a recipe with {field}=0."
            )


def _scalar(loss: Tensor) -> Tensor:
    if loss.ndim:
        raise ValueError(
            "A loss has to be a scalar, but loss(outputs, targets) has the shape "
            f"{tuple(loss.shape)}; take its mean."
        )
    return loss


def shuffled(count: int, length: int, seed: int) -> Tensor:
    """``length`` positions out of ``count``: one permutation after the other."""
    generator = torch.Generator().manual_seed(seed)
    passes = math.ceil(length / count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])[:length]


def _make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    # Decay is for weights: biases and batch norm have one axis, learned steps may have several.
    steps = {id(step) for fake in fake_quantizers(module).values() for step in fake.parameters()}
    weights = [tensor for tensor in trained if tensor.ndim > 1 and id(tensor) not in steps]
    chosen = {id(tensor) for tensor in weights}
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": [tensor for tensor in trained if id(tensor) not in chosen]},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, MOMENTUM, nesterov=True, fused=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, recipe.learning_rate, fused=True)
    raise UnknownNameError("optimizer", recipe.optimizer, ("sgd", "adam"))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step."""
    warmup = recipe.warmup * steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule == "cosine":
        done = (step - warmup) / (steps - warmup)
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    raise UnknownNameError("schedule", recipe.schedule, ("constant", "cosine"))
