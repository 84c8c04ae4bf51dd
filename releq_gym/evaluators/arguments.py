"""What a live evaluator is given: read, and refused with a reason before anything is measured."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from releq_gym.activations import ACTIVATION_BITWIDTHS
from releq_gym.choices import are_bitwidths, as_list
from releq_gym.datasets import DATASETS, Split, Splits, load_splits
from releq_gym.datasets.base import refuse_seen, shared_images
from releq_gym.datasets.normalise import Normalise
from releq_gym.layers import BITWIDTHS
from releq_gym.networks import Recipe
from releq_gym.networks.base import GENERIC_RECIPES, NETWORKS, Network
from releq_gym.plain_numbers import is_whole
from releq_gym.quantized import weights_and_statistics
from releq_gym.quantizers.base import Quantizer
from releq_gym.quantizers.uniform import Uniform
from releq_gym.training.accuracy import Score
from releq_gym.training.loop import Loss, training_loss
from releq_gym.training.weights import find_weights

SCORE_TOLERANCE = 1e-5
"""How far rounding may take a score out of 0 to 1."""

OUTPUT_TOLERANCE = 1e-4
"""Of the largest output: how far rounding, in another order on a GPU, may move one."""


def check_options(activation_bitwidth: int, repeats: int, memory: int, loss: Loss | None) -> None:
    """Refuses arguments of `LiveEvaluator` that are none by themselves."""
    if activation_bitwidth not in ACTIVATION_BITWIDTHS:
        raise ValueError(
            f"activation_bitwidth={activation_bitwidth!r} has to be 32 (activations stay in "
            "full precision) or 8."
        )
    if not is_whole(repeats) or repeats < 1:
        raise ValueError(f"repeats={repeats!r} has to be a whole number, at least 1.")
    if loss is not None and not callable(loss):
        raise ValueError(
            f"loss= is {loss!r}; it has to be a function of outputs and targets that returns a "
            "scalar tensor."
        )
    if not is_whole(memory) or memory < 0:
        raise ValueError(f"memory={memory!r} has to be a whole number of bytes, 0 or more.")


def resolve_bitwidths(bitwidths: Sequence[int] | None, quantizer: Quantizer) -> tuple[int, ...]:
    """What a layer may have, ascending; None means all that the quantizer defines."""
    if bitwidths is None:
        # Only a quantizer that fits its scale to the weights means something at 1 bit.
        return tuple(b for b in BITWIDTHS if b > 1 or isinstance(quantizer, Uniform))
    listed = as_list(bitwidths)
    if not are_bitwidths(listed):
        raise ValueError(f"bitwidths={listed!r}; give one or more of 1 to 8.")
    return tuple(sorted(map(int, set(listed))))


def resolve_weights(network: Network, weights: str | os.PathLike | None) -> Path | None:
    """The file that is named, else that of a registered net; None where a net brings its own."""
    if weights is not None:
        return Path(weights).expanduser()
    # A net of one's own may have the name of a registered one, and brings its weights.
    registered = network.name in NETWORKS and NETWORKS[network.name].build is network.build
    return find_weights(network.name) if registered else None


def resolve_splits(
    network: Network,
    data: str | os.PathLike | Splits | None,
    record: Mapping[str, Any],
    search_from_train: bool,
) -> tuple[Splits, bool]:
    """The splits, and whether the network may have been trained on the search images."""
    if not isinstance(data, str | os.PathLike | Splits | None):
        raise ValueError(
            f"data= is a {type(data).__name__}; it has to be the name or path of a data set, or "
            "releq_gym.datasets.Splits(name, train, search, read_report), where train and search "
            "are Split(images, labels) and read_report is a function that returns one."
        )
    if not network.dataset and data is None:
        raise ValueError(
            f"{network.name} is no registered net, so nothing says which data it is for: pass "
            f"data= an .npz file, a folder of images, one of {', '.join(DATASETS.names())}, or "
            "from Python Splits(...)."
        )
    splits = load_splits(network.dataset, data)
    if not splits.search_from_train:
        return splits, _is_seen(splits)
    # Weights that were trained here state which images they have seen.
    trained_on = record.get("train_sha256")
    if trained_on is None and not search_from_train:
        refuse_seen(splits)
    # Copies of a public data set may differ in a few pixels, as JPEG copies of CIFAR-10 do, but
    # not in what the search images are.
    known = splits.official and splits.name == record.get("dataset")
    clean = splits.train is not None and (known or splits.train.sha256 == trained_on)
    if not clean and not search_from_train:
        raise ValueError(
            f"The weights of {network.name} were trained on other images than the train split of "
            f"{splits.name!r}, so they may have seen its search images. Use the weights that "
            f"`releq pretrain {network.name}` writes, or pass search_from_train=True."
        )
    return splits, not clean


def _is_seen(splits: Splits) -> bool:
    """Whether many search images of somebody's own data are training images, too; warns of it."""
    if splits.train is None or splits.official:
        return False
    seen = shared_images(splits.search, splits.train)
    if not seen:
        return False
    warnings.warn(
        f"{seen:,} of the {len(splits.search):,} search images of {splits.name!r} are among its "
        "training images, which flatters every accuracy; results say so.",
        stacklevel=3,
    )
    return True


def check_weights(module: nn.Module) -> None:
    """Refuses weights that are no numbers, or of another precision than the inputs."""
    for name, tensor in weights_and_statistics(module).items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ValueError(
                f"{name!r} of the network is {tensor.dtype}; parameters have to be torch.float32, "
                "as the inputs are: call .float() on the network."
            )
        if not tensor.isfinite().all():
            raise ValueError(
                f"The weights of the network hold NaN or infinity in {name!r}; load a checkpoint "
                "with finite weights."
            )


def known_recipes(network: Network, fields: Mapping[str, Any]) -> tuple[dict[str, Recipe], bool]:
    """Recipes by name, and whether the network states them: else they are the generic ones.

    Args:
        network: What is quantized.
        fields: Set in all of them.
    """
    stated = {name: one for name, one in network.recipes.items() if name != "pretrain"}
    ptq = Recipe()
    if fields.get("reestimate_batch_norm") and "pretrain" in network.recipes:
        # Its statistics are of the images that the weights were trained on.
        ptq = Recipe(augment=network.recipes["pretrain"].augment)
    every = {"ptq": ptq} | (stated or GENERIC_RECIPES)
    return {name: one.with_fields(fields) for name, one in every.items()}, bool(stated)


def check_recipe(recipe: Recipe, quantizer: Quantizer, splits: Splits, loss: Loss | None) -> None:
    """Refuses a recipe that this quantizer or this data cannot be used with."""
    if not recipe.images and quantizer.refuses_ptq:
        raise ValueError(f"A recipe without retraining: {quantizer.refuses_ptq}")
    if uses_images(recipe) and splits.train is None:
        raise ValueError(
            f"The recipe trains, but the data set {splits.name!r} has no training split; "
            "use recipe='ptq' or pass data=Splits(...) with one."
        )
    if recipe.images and loss is None and not classified(splits.search):
        raise ValueError(
            f"The recipe trains, but the targets of {splits.name!r} are no classes, which "
            "cross-entropy needs; pass loss=, a function of outputs and targets."
        )


def check_loss(
    recipe: Recipe, loss: Loss, module: nn.Module, inputs: Tensor, targets: Tensor
) -> None:
    """Refuses a loss that no training can make smaller.

    Args:
        recipe: By which something is trained.
        loss: Of one's own.
        module: With its weights, on its device.
        inputs: A batch, as it sees them.
        targets: Of these.
    """
    with torch.no_grad():
        outputs = module(inputs).float()
    training_loss(recipe, loss, outputs.requires_grad_(), targets)


def classified(split: Split) -> bool:
    """Whether every image has one class."""
    return split.labels.dtype == torch.int64 and split.labels.ndim == 1


def uses_images(recipe: Recipe) -> bool:
    """Whether it needs a training split: it retrains, or measures batch norm anew."""
    return bool(recipe.images or recipe.reestimate_batch_norm)


def check_fit(
    network: Network,
    module: nn.Module,
    splits: Splits,
    first: Split,
    normalise: Normalise,
    metric: Score | None,
) -> None:
    """Refuses data that the network cannot take, and answers that cannot be scored.

    Args:
        network: What ``module`` was built from.
        module: With its weights, on its device.
        splits: The data.
        first: Search images on that device, at least one.
        normalise: From images to what the network sees.
        metric: Instead of top-1.
    """
    search = splits.search
    shape = tuple(search.images.shape[1:])
    if network.input_shape and shape != tuple(network.input_shape):
        raise ValueError(
            f"{network.name} takes inputs of shape {tuple(network.input_shape)}, but the images of "
            f"{splits.name!r} have {shape}. Name the data set of this net."
        )
    try:
        with torch.inference_mode():
            outputs = module(normalise(first.images[:1]))
            several = outputs if metric is None else module(normalise(first.images[:3]))
    except Exception as error:  # whatever code of the user's raises
        raise ValueError(
            f"{network.name} cannot take an image of shape {shape} from {splits.name!r}: "
            f'"{str(error).rstrip(".")}".{_about_channels(shape)}'
        ) from error
    pixels = search.images
    if pixels.is_floating_point() and len(shape) == 3 and pixels.min() >= 0 and pixels.max() > 2:
        warnings.warn(
            f"The images of {splits.name!r} are floats up to {float(pixels.max()):g}; a network is "
            "shown floats as they are, uint8 divided by 255. Divide them, if it was trained so.",
            stacklevel=3,
        )
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"{network.name} answers with a {type(outputs).__name__}; one tensor is needed, with "
            "one row per input. Wrap the network in a module whose forward returns that alone."
        )
    if metric is not None:
        _check_metric(metric, outputs, first.labels[:1])
        _check_metric(metric, several, first.labels[:3])
        return
    if not classified(search):
        raise ValueError(
            f"The labels of {splits.name!r} are {search.labels.dtype} of shape "
            f"{tuple(search.labels.shape)}; top-1 accuracy needs one int64 class per image. "
            "For anything else pass metric=."
        )
    both = [one.labels for one in (search, splits.train) if one is not None]
    classes = max(int(labels.max()) for labels in both) + 1
    least = min(int(labels.min()) for labels in both)
    if least < 0:
        raise ValueError(
            f"{splits.name!r} has a label of {least}; classes are counted from 0. Leave "
            "images without a class out."
        )
    if outputs.ndim != 2 or outputs.shape[1] < classes:
        hint = " Its labels begin at 1, and classes are counted from 0." if least == 1 else ""
        raise ValueError(
            f"{network.name} answers one image with a tensor of shape {tuple(outputs.shape)}, but "
            f"{splits.name!r} has {classes} classes; [1, {classes}] is needed.{hint}"
        )


def check_repeats(name: str, module: nn.Module, inputs: Tensor) -> None:
    """Refuses a network that answers at random: no two assignments could be compared by that.

    Args:
        name: Of the network.
        module: With its weights, on its device, in evaluation mode.
        inputs: Some, as it sees them.
    """
    with torch.inference_mode():
        first, second = (_finite(module(inputs)) for _ in range(2))
    moved, largest = (float(each.abs().max()) for each in (first - second, first))
    if moved > OUTPUT_TOLERANCE * largest:
        raise ValueError(
            f"{name} answers the same images differently when it is asked again (outputs of up to "
            f"{largest:.3g} differ by up to {moved:.3g}), so that no assignments can be compared. "
            "Its forward probably drops values out in evaluation mode, too: write "
            "functional.dropout(x, p, training=self.training), or take nn.Dropout."
        )


def _finite(outputs: Tensor) -> Tensor:
    """Of a masked class, -inf, there is no difference to be taken."""
    return outputs.double().nan_to_num(0.0, 0.0, 0.0)


def _about_channels(shape: tuple[int, ...]) -> str:
    """What may be wrong with the images of a network that cannot take them."""
    if len(shape) == 3 and shape[2] in (1, 3) and shape[0] == shape[1]:
        return " Its images are [n, channels, height, width]: permute these."
    if len(shape) == 2:
        return " If these are images, they lack their axis of channels: images[:, None]."
    return ""


def _check_metric(metric: Score, outputs: Tensor, labels: Tensor) -> None:
    """Refuses a metric that does not give one score per input."""
    if not callable(metric):
        raise ValueError(
            f"metric= is {metric!r}; it has to be a function of outputs and targets that returns "
            "one score per input."
        )
    count = len(labels)
    try:
        scores = metric(outputs, labels)
    except Exception as error:  # whatever a function of the user's raises
        raise ValueError(
            f"metric= failed ({type(error).__name__}: {error}). It takes outputs, here of the "
            f"shape {tuple(outputs.shape)}, and targets of the shape {tuple(labels.shape)}."
        ) from error
    if not isinstance(scores, Tensor) or scores.shape != (count,) or not scores.isfinite().all():
        what = f"a tensor of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else scores
        raise ValueError(
            f"metric= returned {what} for {count} inputs, whose outputs have the shape "
            f"{tuple(outputs.shape)} and whose targets {tuple(labels.shape)}; it has to return a "
            "tensor of one finite score per input, of which 1 is perfect and 0 worthless."
        )
    check_scores(scores)
    alone = torch.cat([metric(outputs[i : i + 1], labels[i : i + 1]) for i in range(count)])
    if not torch.allclose(alone, scores, rtol=0, atol=SCORE_TOLERANCE):
        raise ValueError(
            f"metric= gives inputs other scores together ({scores.tolist()}) than one by one "
            f"({alone.tolist()}): do its outputs {tuple(outputs.shape)} and targets "
            f"{tuple(labels.shape)} fit together?"
        )


def check_scores(scores: Tensor) -> None:
    """Refuses scores of full precision outside of 0 to 1."""
    least, most = (float(one) for one in scores.aminmax())
    if not -SCORE_TOLERANCE <= least <= most <= 1 + SCORE_TOLERANCE:
        raise ValueError(
            f"metric= returned scores from {least:.4g} to {most:.4g} in full precision; every "
            "score has to lie in 0 to 1, of which 1 is perfect and 0 worthless. An error e can be "
            "scored as 1 / (1 + e), a score of 0 to 100 divided by 100."
        )
