"""The one training loop: seeded, resumable at any step that a chunk began with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
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

SCHEDULES = ("constant", "cosine")

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What a network can compute in, by name."""

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
        check_run(recipe, images, labels, loss)
        self.module, self.recipe, self.seed = module, recipe, seed
        self.images, self.labels, self.normalise = images, labels, normalise
        self.teacher = teacher if recipe.distillation else None
        self.loss = loss
        self.batches = draw_batches(len(labels), recipe, seed).to(images.device)
        self.steps = len(self.batches)
        self.augment = find_augmentation(recipe.augment)
        self.penalty = Penalty(recipe.regularizer, module)
        self.optimizer = make_optimizer(*_split(module), recipe)

    def advance(
        self, start: int, stop: int, advance: Callable[[float], object] = lambda share: None
    ) -> bool:
        """Takes the steps ``start`` to ``stop - 1``.

        Args:
            start: First of them.
            stop: The one after the last.
            advance: Told now and then which share of all steps is done.

        Returns:
            Whether the loss stayed finite; one that is not ends the training within
            `CHECK_EVERY` steps.
        """
        self.module.train()
        seed = chunk_seed(self.seed, start)
        generator = torch.Generator().manual_seed(seed)
        devices = [self.images.device] if self.images.is_cuda else []
        # Dropout knows only the global generator: it is borrowed here, and given back as it was.
        with torch.random.fork_rng(devices), repeatable():
            torch.default_generator.manual_seed(seed)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            for first in range(start, stop, CHECK_EVERY):
                steps = range(first, min(first + CHECK_EVERY, stop))
                losses = torch.stack([self._step(step, generator) for step in steps])
                if not losses.isfinite().all():
                    return False
                advance(steps.stop / self.steps)
        return True

    def _step(self, step: int, generator: torch.Generator) -> Tensor:
        index = self.batches[step]
        images, labels = self.images[index], self.labels[index]
        if self.augment is not None:
            images = self.augment(images, generator)
        images = self.normalise(images)
        loss = self._loss(images, labels)
        if self.penalty:
            loss = loss + self.recipe.regularizer_weight * self.penalty()
        descend(loss, self.optimizer, learning_rate(self.recipe, step, self.steps))
        return loss.detach()

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with computing_in(self.recipe.precision, images.device):
            outputs = self.module(images)
        soft_labels = None
        if self.teacher is not None:
            soft_labels = taught(self.teacher, images, self.recipe.precision)
        return training_loss(self.recipe, self.loss, outputs.float(), labels, soft_labels)


def check_run(recipe: Recipe, images: Tensor, labels: Tensor, loss: Loss | None) -> None:
    """Refuses, before the first step, what would fail in it.

    Raises:
        ValueError: See `Run`.
    """
    if recipe.precision not in PRECISIONS:
        raise UnknownNameError("precision", recipe.precision, PRECISIONS)
    if recipe.schedule not in SCHEDULES:
        raise UnknownNameError("schedule", recipe.schedule, SCHEDULES)
    find_augmentation(recipe.augment)
    if len(images) != len(labels):
        raise ValueError(
            f"{len(images)} images and {len(labels)} labels do not belong together; one label per "
            "image is needed."
        )
    check_augmentation(recipe, images)
    if loss is None:
        return
    for field in ("distillation", "label_smoothing"):
        if value := getattr(recipe, field):
            raise ValueError(
                f"{field}={value} belongs to the cross-entropy, so it cannot go with a loss of "
                f"your own; use a recipe with {field}=0."
            )


def check_augmentation(recipe: Recipe, images: Tensor) -> None:
    """Refuses to augment what are no images.

    Raises:
        ValueError: If a recipe would.
    """
    if recipe.augment != "none" and images.ndim != 4:
        raise ValueError(
            f"augment={recipe.augment!r} is for images, but an input has the shape "
            f"{tuple(images.shape[1:])}; use a recipe with augment='none'."
        )


def training_loss(
    recipe: Recipe,
    loss: Loss | None,
    outputs: Tensor,
    labels: Tensor,
    soft_labels: Tensor | None = None,
) -> Tensor:
    """What one step of a recipe makes smaller, a scalar; penalties on weights come on top.

    Args:
        recipe: Its label smoothing and distillation count.
        loss: None means cross-entropy.
        outputs: Of the network, for one batch.
        labels: What they should be.
        soft_labels: Of the teacher, where the recipe distils.

    Raises:
        ValueError: If ``loss`` returns no scalar, or one without a gradient by the outputs.
    """
    if loss is not None:
        value = loss(outputs, labels)
        if not isinstance(value, Tensor) or value.ndim:
            shape = getattr(value, "shape", None)
            what = repr(value) if shape is None else f"of the shape {tuple(shape)}"
            raise ValueError(
                f"A loss has to be a scalar tensor, but loss(outputs, targets) is {what}; take the "
                "mean of a tensor that follows from the outputs."
            )
        if outputs.requires_grad and not value.requires_grad:
            raise ValueError(
                "loss(outputs, targets) has no gradient by the outputs, so that no training makes "
                "it smaller; compute it by operations of torch, without detach(), item(), numpy "
                "or no_grad(), and not from argmax."
            )
        return value
    smoothing = recipe.label_smoothing
    value = functional.cross_entropy(outputs, labels, label_smoothing=smoothing)
    if soft_labels is None:
        return value
    return value.lerp(functional.cross_entropy(outputs, soft_labels), recipe.distillation)


def taught(teacher: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Soft labels of a teacher, float32 ``[batch, classes]``; it computes in the precision."""
    with torch.no_grad(), computing_in(precision, images.device):
        outputs = teacher(images)
    return outputs.float().softmax(dim=1)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One step of the optimizer down the gradient of a scalar."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def computing_in(precision: str, device: torch.device) -> AbstractContextManager:
    """Within it layers compute in that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def repeatable() -> AbstractContextManager:
    """Within it a GPU computes the same result every time."""
    tf32 = torch.backends.cudnn.allow_tf32  # which `flags` would set by itself
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32
    )


def chunk_seed(seed: int, start: int) -> int:
    """Of the augmentation of steps that are taken at once, from ``start`` on."""
    return seed + 1_000_003 * (start + 1)


def draw_batches(count: int, recipe: Recipe, seed: int) -> Tensor:
    """Which of ``count`` images each step sees, int64 ``[steps, batch_size]``."""
    steps = max(1, round(recipe.images / recipe.batch_size))
    return shuffled(count, steps * recipe.batch_size, seed).view(steps, recipe.batch_size)


def shuffled(count: int, length: int, seed: int) -> Tensor:
    """``length`` positions out of ``count``: one permutation after the other."""
    generator = torch.Generator().manual_seed(seed)
    passes = math.ceil(length / count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])[:length]


def _split(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The trained tensors, those that decay first."""
    trained: list[Tensor] = [tensor for tensor in module.parameters() if tensor.requires_grad]
    # Decay is for weights: biases and batch norm have one axis, learned steps may have several.
    steps = {id(step) for fake in fake_quantizers(module).values() for step in fake.parameters()}
    weights = [tensor for tensor in trained if tensor.ndim > 1 and id(tensor) not in steps]
    chosen = {id(tensor) for tensor in weights}
    return weights, [tensor for tensor in trained if id(tensor) not in chosen]


def make_optimizer(
    weights: Sequence[Tensor], others: Sequence[Tensor], recipe: Recipe
) -> torch.optim.Optimizer:
    """The optimizer of a recipe; only ``weights`` decay.

    Raises:
        ValueError: For an unknown one, or nothing to train.
    """
    if not weights and not others:
        raise ValueError(
            "Nothing of the network is to be trained: all of its parameters are frozen "
            "(requires_grad=False). Thaw some, or use recipe='ptq'."
        )
    groups: list[dict[str, Any]] = [
        {"params": list(weights), "weight_decay": recipe.weight_decay},
        {"params": list(others)},
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
    done = (step - warmup) / (steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
