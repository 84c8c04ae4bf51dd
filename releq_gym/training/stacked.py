"""Many retrainings of one small network at once, for a GPU that one of them leaves idle."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from releq_gym.datasets.augment import find_augmentation
from releq_gym.datasets.normalise import PIXELS
from releq_gym.networks.base import Recipe
from releq_gym.quantized import FakeQuantize, fake_quantizers, quantize_network
from releq_gym.quantizers.base import Quantizer
from releq_gym.training.loop import (
    CHECK_EVERY,
    Loss,
    check_run,
    chunk_seed,
    computing_in,
    descend,
    draw_batches,
    learning_rate,
    make_optimizer,
    repeatable,
    taught,
    training_loss,
)
from releq_gym.training.regularizers import REGULARIZERS, Regularizer
from releq_gym.training.retrain import Retrained, finish

ORIGINAL = "parametrizations.weight.original"
"""Where a quantized layer keeps the weight underneath."""


def retrain_many(
    module: nn.Module,
    layer_names: Sequence[str],
    assignments: Sequence[Sequence[int]],
    quantizer: Quantizer,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    seeds: Sequence[int],
    *,
    normalise: Callable[[Tensor], Tensor] = PIXELS,
    teacher: nn.Module | None = None,
    loss: Loss | None = None,
) -> list[Retrained]:
    """`retrain` for several assignments, whose steps are taken together.

    The results are those of separate calls up to floating-point noise. All weights and activations
    are held at once, so that memory limits how many assignments one call can take. On a CPU
    nothing is gained.

    Args:
        module: Full-precision network; left as it is.
        layer_names: Which layers are quantized.
        assignments: Each one bitwidth per layer.
        quantizer: Quantizes their weights.
        recipe: How to retrain.
        images: As for `retrain`.
        labels: Likewise.
        seeds: One per assignment.
        normalise: From images to what the network sees.
        teacher: Whose soft labels a recipe with distillation uses; None means ``module``.
        loss: What to lower instead of cross-entropy, from outputs and targets.

    Returns:
        One per assignment, in order; each states an equal share of the wall time.

    Raises:
        ValueError: Where `retrain` raises it, for unequal numbers of assignments and seeds, or for
            a network that cannot be stacked: one with dropout, batch norm without a momentum, or
            operations that ``torch.func`` does not know.
    """
    started = time.perf_counter()
    if len(assignments) != len(seeds):
        raise ValueError(
            f"{len(assignments)} assignments need as many seeds, one each; got {len(seeds)}."
        )
    members = [quantize_network(module, layer_names, each, quantizer) for each in assignments]
    finite = [True] * len(members)
    if recipe.images and members:
        check_run(recipe, images, labels, loss)
        _check_parts(module)
        if recipe.distillation and teacher is None:
            teacher = copy.deepcopy(module).eval()
        stack = _Stack(module, members, recipe, loss, teacher if recipe.distillation else None)
        finite = stack.train(images, labels, seeds, normalise)
        stack.write_back()
    finite = [
        finish(member, recipe, images, normalise, ok)
        for member, ok in zip(members, finite, strict=True)
    ]
    milliseconds = 1e3 * (time.perf_counter() - started) / max(len(members), 1)
    return [
        Retrained(member, not ok, milliseconds) for member, ok in zip(members, finite, strict=True)
    ]


def can_stack(module: nn.Module) -> bool:
    """Whether nothing is known that keeps copies of a network from being trained together."""
    try:
        _check_parts(module)
    except ValueError:
        return False
    return True


class _Member(NamedTuple):
    """One layer of one member: its quantizer with state, and the weight underneath."""

    fake: FakeQuantize
    original: nn.Parameter


class _Group:
    """The members whose copy of one layer has the same bitwidth."""

    def __init__(self, members: Sequence[_Member]):
        self.members = members
        fake = members[0].fake
        self.quantizer, self.bitwidth = fake.quantizer, fake.bitwidth
        self.weight = _stack([member.original for member in members])
        states = [member.fake.state for member in members]
        self.state = {name: _stack([state[name] for state in states]) for name in fake.state}

    def quantized(self) -> Tensor:
        """The quantized weights, ``[members of the group, ...]``."""
        return vmap(lambda weight, state: self.quantizer.quantize(weight, state, self.bitwidth))(
            self.weight, self.state
        )

    def penalties(self, regularizer: Regularizer) -> Tensor:
        """Of each member."""
        return vmap(
            lambda weight, state: regularizer(self.quantizer.grid(weight, state, self.bitwidth))
        )(self.weight, self.state)

    def write_back(self) -> None:
        """Gives the members what they have become."""
        for position, (fake, original) in enumerate(self.members):
            original.copy_(self.weight[position])
            for name, tensor in fake.state.items():
                tensor.copy_(self.state[name][position])


class _Layer:
    """One quantized layer of all members, grouped by bitwidth."""

    def __init__(self, members: Sequence[_Member]):
        by_bitwidth: dict[int, list[int]] = {}
        for position, member in enumerate(members):
            by_bitwidth.setdefault(member.fake.bitwidth, []).append(position)
        groups = by_bitwidth.values()
        self.groups = [_Group([members[position] for position in group]) for group in groups]
        order = torch.tensor([position for group in groups for position in group])
        self._back = order.argsort().to(members[0].original.device)

    def quantized(self) -> Tensor:
        """The quantized weights, ``[members, ...]``."""
        return self._in_order([group.quantized() for group in self.groups])

    def penalties(self, regularizer: Regularizer) -> Tensor:
        """Of each member, ``[members]``."""
        return self._in_order([group.penalties(regularizer) for group in self.groups])

    def _in_order(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.cat(parts)[self._back]


class _Stack:
    """All tensors of all members, each kind in one tensor whose first axis is the member.

    Args:
        module: What the members were before quantization.
        members: Quantized copies of it.
        recipe: How to train.
        loss: None means cross-entropy.
        teacher: For a recipe with distillation.
    """

    def __init__(
        self,
        module: nn.Module,
        members: Sequence[nn.Module],
        recipe: Recipe,
        loss: Loss | None,
        teacher: nn.Module | None,
    ):
        self.members, self.recipe, self.loss, self.teacher = members, recipe, loss, teacher
        self.regularizer = None
        if recipe.regularizer != "none":
            self.regularizer = REGULARIZERS[recipe.regularizer]
        # Only its structure is used: its tensors are replaced by those of the members.
        self.module = copy.deepcopy(module).train()
        fakes = [fake_quantizers(member) for member in members]
        self.layers = {
            f"{name}.weight": _Layer(
                [
                    _Member(fake[name], member.get_parameter(f"{name}.{ORIGINAL}"))
                    for member, fake in zip(members, fakes, strict=True)
                ]
            )
            for name in fakes[0]
        }
        # A weight that modules share has one name here.
        quantized = {id(self.module.get_parameter(name)) for name in self.layers}
        self.others = {
            name: _stack([member.get_parameter(name) for member in members])
            for name, parameter in self.module.named_parameters()
            if id(parameter) not in quantized
        }
        self.buffers = {
            name: _stack([member.get_buffer(name) for member in members])
            for name, _ in self.module.named_buffers()
        }
        groups = [group for layer in self.layers.values() for group in layer.groups]
        # Matrices and kernels decay, see `releq_gym.training.loop`; an axis counts the members.
        decayed = [group.weight for group in groups]
        decayed += [tensor for tensor in self.others.values() if tensor.ndim > 2]
        spared = [step for group in groups for step in group.state.values()]
        spared += [tensor for tensor in self.others.values() if tensor.ndim <= 2]
        self.optimizer = make_optimizer(_trained(decayed), _trained(spared), recipe)

    def train(
        self,
        images: Tensor,
        labels: Tensor,
        seeds: Sequence[int],
        normalise: Callable[[Tensor], Tensor],
    ) -> list[bool]:
        """Takes all steps; returns which members' loss stayed finite."""
        drawn = [draw_batches(len(labels), self.recipe, seed) for seed in seeds]
        batches = torch.stack(drawn, 1).to(images.device)
        augment = find_augmentation(self.recipe.augment)
        generators = [torch.Generator().manual_seed(chunk_seed(seed, 0)) for seed in seeds]
        finite = torch.ones(len(seeds), dtype=torch.bool, device=images.device)
        with repeatable():
            for step, index in enumerate(batches):
                batch = images[index.flatten()]
                if augment is not None:
                    parts = zip(batch.split(index.shape[1]), generators, strict=True)
                    batch = torch.cat([augment(part, generator) for part, generator in parts])
                losses = self._losses(normalise(batch), labels[index])
                rate = learning_rate(self.recipe, step, len(batches))
                descend(losses.sum(), self.optimizer, rate)
                finite &= losses.detach().isfinite()
                if step % CHECK_EVERY == CHECK_EVERY - 1 and not finite.any():
                    break
        return finite.tolist()

    def write_back(self) -> None:
        """Gives the members what they have become."""
        with torch.no_grad():
            for position, member in enumerate(self.members):
                for name, tensor in self.others.items():
                    member.get_parameter(name).copy_(tensor[position])
                for name, tensor in self.buffers.items():
                    member.get_buffer(name).copy_(tensor[position])
            for layer in self.layers.values():
                for group in layer.groups:
                    group.write_back()

    def _losses(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Of each member.

        Args:
            inputs: Of one member after the other, ``[members * batch_size, ...]``.
            labels: ``[members, batch_size, ...]``.
        """
        shape = labels.shape[:2]
        outputs = self._outputs(inputs.unflatten(0, shape)).float()
        arguments = [outputs, labels]
        if self.teacher is not None:
            soft_labels = taught(self.teacher, inputs, self.recipe.precision)
            arguments.append(soft_labels.unflatten(0, shape))

        def of_member(*tensors: Tensor) -> Tensor:
            return training_loss(self.recipe, self.loss, *tensors)

        if self.loss is None:
            losses = vmap(of_member)(*arguments)
        else:  # which may do what vmap does not know
            losses = torch.stack([of_member(*each) for each in zip(*arguments, strict=True)])
        if self.regularizer is not None and self.layers:
            penalties = [layer.penalties(self.regularizer) for layer in self.layers.values()]
            losses = losses + self.recipe.regularizer_weight * torch.stack(penalties).sum(0)
        return losses

    def _outputs(self, inputs: Tensor) -> Tensor:
        """Of each member for its own inputs, ``[members, batch_size, ...]`` both."""
        weights = {name: layer.quantized() for name, layer in self.layers.items()}
        tensors = self.others | self.buffers | weights

        def of_member(tensors: dict[str, Tensor], batch: Tensor) -> Tensor:
            return functional_call(self.module, tensors, (batch,))

        with computing_in(self.recipe.precision, inputs.device):
            try:
                return vmap(of_member)(tensors, inputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise ValueError(
                    "Copies of this network cannot be trained together; retrain them one after "
                    f"the other. torch.func says: {error}"
                ) from error


def _check_parts(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, _DropoutNd) and part.p > 0:
            raise ValueError(
                f"Copies of a network with dropout ({name!r}) cannot be trained together: each "
                "draws its own random numbers. Retrain them one after the other."
            )
        if isinstance(part, _BatchNorm) and part.track_running_stats and part.momentum is None:
            raise ValueError(
                f"Copies of a network with batch norm without momentum ({name!r}) cannot be "
                "trained together. Retrain them one after the other, or set its momentum."
            )


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor, trained where the first of them is."""
    return torch.stack([t.detach() for t in tensors]).requires_grad_(tensors[0].requires_grad)


def _trained(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor.requires_grad]
