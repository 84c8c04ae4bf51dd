"""What a registered network states about itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from releq_gym.layers import MAX_LOSS_POINTS
from releq_gym.plain_numbers import is_real, is_whole
from releq_gym.registry import Registry, UnknownNameError

RANGES: dict[str, tuple[float, float]] = {
    "images": (0, math.inf),
    "batch_size": (1, math.inf),
    "learning_rate": (0, math.inf),
    "weight_decay": (0, math.inf),
    "warmup": (0, 1),
    "label_smoothing": (0, 1),
    "distillation": (0, 1),
    "regularizer_weight": (0, math.inf),
    "reestimate_batch_norm": (0, math.inf),
}
"""Of the numbers in a `Recipe`."""

WHOLE = ("images", "batch_size", "reestimate_batch_norm")
"""Those of them that count images."""

Build = TypeVar("Build", bound=Callable[[], nn.Module])


@dataclass(frozen=True)
class Recipe:
    """What retraining follows quantization (or, for ``pretrain``, what training comes first).

    Attributes:
        images: Training images shown in all, repeats counted, rounded to whole steps, of which
            there is at least one; 0 means no retraining.
        batch_size: Images per step.
        learning_rate: Peak learning rate.
        optimizer: ``"sgd"`` (Nesterov momentum 0.9) or ``"adam"``.
        weight_decay: L2 penalty on parameters of two or more axes, quantized or not.
        schedule: ``"constant"`` or ``"cosine"`` (to zero, after ``warmup``).
        warmup: Share of the steps over which the learning rate rises linearly from zero.
        augment: Name of the augmentation, see `releq_gym.datasets.augment`; ``"none"``,
            ``"shift"`` (random translation), ``"flip_shift"`` (and horizontal flips).
        label_smoothing: Of the cross-entropy.
        distillation: Weight in [0, 1] of the full-precision network's soft labels in the loss.
        regularizer: Name of the penalty that draws the weights of quantized layers to their
            levels, see `releq_gym.training.regularizers`: ``"none"`` or ``"sinreq"``. Where no
            layer is quantized there is none.
        regularizer_weight: Factor of that penalty in the loss.
        reestimate_batch_norm: Training images, always the same and augmented as ``augment`` says,
            over which batch-norm statistics are measured anew after quantization and retraining,
            if any; 0 leaves them. ``ptq`` with it, ``Recipe(reestimate_batch_norm=1_000)``, should
            augment as full-precision training did, and does so where that is known.
        precision: What the forward and backward pass compute in, and a teacher, ``"float32"`` or
            ``"bfloat16"`` (autocast); weights, loss and optimizer are float32 in both.
        fold_batch_norm: For ``pretrain`` of a network without batch norm: train with one after
            every convolution and fold it into that in the end.
    """

    images: int = 0
    batch_size: int = 64
    learning_rate: float = 1e-3
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    augment: str = "none"
    label_smoothing: float = 0.0
    distillation: float = 0.0
    regularizer: str = "none"
    regularizer_weight: float = 0.01
    reestimate_batch_norm: int = 0
    precision: str = "float32"
    fold_batch_norm: bool = False

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            known = is_whole(value) if name in WHOLE else is_real(value)
            if not known or not least <= value <= most or math.isinf(value):
                kind = "whole number" if name in WHOLE else "number"
                limits = f"{least} to {most}" if most < math.inf else f"{least} or more"
                raise ValueError(f"A recipe's {name}={value!r} has to be a {kind}, {limits}.")
        if not isinstance(self.fold_batch_norm, bool):
            raise ValueError(
                f"A recipe's fold_batch_norm={self.fold_batch_norm!r} has to be True or False."
            )
        if self.reestimate_batch_norm == 1:
            raise ValueError(
                "A recipe's reestimate_batch_norm=1 is too few: one image has no variance. Give "
                "some hundreds, or 0."
            )

    def with_fields(self, fields: Mapping[str, Any]) -> Recipe:
        """This recipe with some fields set otherwise.

        Raises:
            ValueError: For a field that there is not, or a value that it cannot have.
        """
        known = [field.name for field in dataclasses.fields(Recipe)]
        for name in fields:
            if name not in known:
                raise UnknownNameError("recipe_kwargs", name, known)
        return dataclasses.replace(self, **fields)


GENERIC_RECIPES = {
    "short": Recipe(images=6_400, optimizer="adam", learning_rate=1e-4),
    "long": Recipe(
        images=64_000, optimizer="adam", learning_rate=1e-4, schedule="cosine", warmup=0.05
    ),
}
"""Of a network that states none: 100 and 1,000 steps that hardly any network is harmed by."""


@dataclass(frozen=True)
class Network:
    """One registered network: how to build it, what it sees, how it is trained.

    A module or factory that is not registered is described by its name and ``build`` alone; what
    is then left empty has to come from the data.

    Attributes:
        name: What it is registered under.
        build: Returns a new module, on the CPU; untrained unless it is a copy of a given module.
        input_shape: Of one image, without the batch axis; empty where unknown.
        classes: Number of classes; 0 where unknown.
        dataset: Name of its data set; empty where unknown.
        recipes: ``pretrain``, ``short`` and ``long``; ``ptq`` needs none. One that states neither
            of the last two gets `GENERIC_RECIPES`, where somebody asks for them by name.
        mean: Per-channel mean that inputs in [0, 1] are normalised by.
        std: Per-channel standard deviation, likewise.
        max_loss_points: Tolerated loss in percentage points; more than the usual 0.3 where the
            search split is too small to resolve that.
        download: Fetches the tensors of a public checkpoint, for a network whose weights are not
            shipped with this package.
        source: Where the architecture comes from.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...] = ()
    classes: int = 0
    dataset: str = ""
    recipes: dict[str, Recipe] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    max_loss_points: float = MAX_LOSS_POINTS
    download: Callable[[], dict[str, Tensor]] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            numbers = isinstance(values, Sequence) and all(map(is_real, values)) and len(values)
            if not numbers or not all(map(math.isfinite, values)):
                raise ValueError(
                    f"{name}={values!r} of the net {self.name!r} has to be a tuple of numbers, one "
                    "per channel or one for all."
                )
            # Whatever numbers they are: headers of files are JSON.
            object.__setattr__(self, name, tuple(map(float, values)))
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std={self.std!r} of the net {self.name!r} has to be above 0.")


NETWORKS: Registry[Network] = Registry("net", "releq_gym.networks")


def register_network(name: str, **fields: Any) -> Callable[[Build], Build]:
    """Registers a module class or a factory without arguments as the net ``name``.

    For instance::

        @register_network("two_layers", input_shape=(1, 8, 8), classes=10, dataset="digits")
        def two_layers():
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    Args:
        name: How users call it.
        **fields: The other fields of `Network`.

    Returns:
        A decorator that returns what it decorates.

    Raises:
        ValueError: If the name is taken.
    """

    def file_build(build: Build) -> Build:
        NETWORKS.register(name)(Network(name=name, build=build, **fields))
        return build

    return file_build
