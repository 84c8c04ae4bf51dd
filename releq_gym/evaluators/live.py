"""Measures accuracies: quantizes, retrains and tests the real network."""

from __future__ import annotations

import copy
import dataclasses
import os
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from releq_gym.activations import with_quantized_activations
from releq_gym.datasets import Split, Splits
from releq_gym.datasets.base import first_positions
from releq_gym.datasets.normalise import Normalise
from releq_gym.evaluators.arguments import (
    check_fit,
    check_loss,
    check_options,
    check_recipe,
    check_repeats,
    check_scores,
    check_weights,
    known_recipes,
    resolve_bitwidths,
    resolve_splits,
    resolve_weights,
    uses_images,
)
from releq_gym.evaluators.base import Evaluation, ManyEvaluations, in_columns
from releq_gym.evaluators.described import describe_callable, why_indescribable
from releq_gym.evaluators.forward import MEMORY, SharedForward
from releq_gym.evaluators.identity import (
    describe_quantizer,
    describe_recipe,
    describe_training,
    hash_outputs,
    hash_weights,
    why_untold,
)
from releq_gym.evaluators.measurement import Measurement, check_assignment, pooled, seeds_of
from releq_gym.evaluators.memo import Memo, hash_fields, open_memo
from releq_gym.layers import FULL_PRECISION
from releq_gym.networks import NetworkLike, Recipe, network_layers, resolve_network
from releq_gym.plain_numbers import is_whole
from releq_gym.quantized import bake, check_weight, load_weights
from releq_gym.quantizers.base import Quantizer, make_quantizer
from releq_gym.registry import UnknownNameError, named_arguments
from releq_gym.training.accuracy import Score, each_score, sum_scores, top1
from releq_gym.training.device import (
    place,
    resolve_device,
    runs_bfloat16,
    warn_of_emulation,
)
from releq_gym.training.loop import PRECISIONS, Loss
from releq_gym.training.regularizers import REGULARIZERS
from releq_gym.training.retrain import Retrained, retrain
from releq_gym.training.stacked import can_stack, retrain_many
from releq_gym.training.weights import read_record

REPORT_SEED = 1_000_000
"""Retraining for the report uses the seeds from here on, the search those from 0."""

CODE_VERSION = 5
"""Raised whenever a change of the code changes what is measured; old results are then ignored."""

ACTIVATION_VERSION = 3
"""Likewise, of what 8-bit activations alone are measured by."""

CALIBRATION_IMAGES = 512
"""Inputs on which the ranges of activations are fitted."""

PROBE_IMAGES = 32
"""Search images whose logits identify the function that a network computes, and that it is one."""

SHORT_HASH = 8
"""Digits of a hash that a name shows."""

BFLOAT16_POINTS = 0.1
"""How far bfloat16 may move the accuracy of the full-precision network, in percentage points."""

STACK = 16
"""Retrainings of a small network that a GPU takes the steps of together."""

STACKED_WEIGHTS = 2_000_000
"""Weights that such a network has at most."""

BLOCK_SECONDS = 20.0
"""How long many assignments are measured together before what was found is kept."""

MADE_AGAIN = ("_search", "_train", "_forwards")
"""Attributes of a `LiveEvaluator` that copies make again: images on its device, what is cached."""


class LiveEvaluator:
    """Measures what a table has measured before: the `Evaluator` for any network and data.

    Every measurement starts from the same full-precision weights, so that it depends on the
    assignment and the seed alone; results are kept in a `Memo`. Retraining draws from generators
    of its own. Copies share the network, the images and the memo, none of which changes.

    Args:
        net: A registered name, a module with its weights, or whatever
            `releq_gym.networks.resolve_network` takes.
        data: For a registered net the folder that holds its data set. For one's own the name of
            a data set, or a `Splits`. See `releq_gym.datasets.load_splits`.
        weights: A safetensors file; None means the shipped weights of a registered net, and for
            other nets the weights that they come with.
        quantizer: Name of a quantizer, or one.
        quantizer_kwargs: Arguments that go with the name.
        recipe: ``"ptq"`` (no retraining), ``"short"``, ``"long"`` or a `Recipe`; None means
            ``"short"`` where the network states that and there are training images, else
            ``"ptq"``. A network that states none has the generic ones, asked for by name.
        recipe_kwargs: Fields of `Recipe` that are set in every recipe, for instance
            ``{"reestimate_batch_norm": 1000}`` or ``{"regularizer": "sinreq"}``.
        bitwidths: What a layer may have; None means all that the quantizer defines, 2 to 8 for
            ``wrpn`` and ``dorefa``, 1 to 8 for ``uniform``, ``lsq`` and ``lsq_midrise``.
        activation_bitwidth: 32, or 8: what flows into every quantized layer is rounded, see
            `releq_gym.activations`.
        repeats: Independent retrainings per assignment; 1 where the recipe has no retraining.
        precision: What assignments that are not retrained are measured in on the search split,
            full precision included: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where
            the device computes in it and the accuracy of the full-precision network moves by at
            most 0.1 points. Retraining and the report split have precisions of their own: the
            recipe's, and float32.
        stack: Retrainings whose steps are taken together; None means `STACK` for a small network on
            a GPU, which one would leave idle, else 1. It changes results by rounding alone, but
            rounding can grow: they are remembered apart.
        memory: Bytes of activations and weights that are kept to be reused.
        metric: Instead of top-1, what a batch is worth: takes outputs and targets, returns one
            score per input in 0 to 1, of which the mean is the accuracy; 1 is perfect, 0 worthless.
            Of a quantized network a mean below 0 counts as 0.
        loss: Instead of cross-entropy, what a retraining lowers: takes outputs and targets, returns
            a scalar.
        memo: Whether to keep results in the user's cache; a path or `Memo` keeps them there. An
            environment that is made again starts from them, without this class and torch, until it
            asks for something else; see `releq_gym.evaluators.remembered`. A ``metric`` or ``loss``
            is told from others by all that it reads, see `describe_callable`; of one that cannot be
            told, nothing is kept.
        search_from_train: Accept search images that a network trained elsewhere has seen.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Attributes:
        name: Net, data set, quantizer with its arguments, recipe, repeats where there are several,
            and the start of ``weights_sha256``; says so where search images were seen before.
        net: Name of the network.
        max_loss_points: Loss that the network states as tolerable, in percentage points.
        layers: The quantized layers, first to last.
        bitwidths: Those a layer may have, ascending.
        repeats: Independent retrainings per assignment.
        images: Size of the search split.
        recipe: The one of `evaluate`.
        recipes: Those it knows by name.
        states_recipes: Whether the network states them, or they are the generic ones.
        quantizer: What quantizes the weights.
        splits: The data.
        normalise: From images to what the network sees.
        module: The full-precision network; not to be changed.
        weights_sha256: Hash of its weights.
        activation_bitwidth: As given.
        per_channel: Whether the quantizer has a step per output channel.
        device: Where it computes.
        precision: What assignments that are not retrained are measured in on the search split.
        stack: Retrainings whose steps are taken together.
        metric: As given.
        loss: As given.
        forgets: Why nothing that is measured is kept on disk; empty where it is.
        memory: As given.
        search_from_train: Whether the network may have been trained on the search images.

    Raises:
        ValueError: For anything that cannot be used as it was given; the sentence says why.
    """

    def __init__(
        self,
        net: NetworkLike,
        *,
        data: str | os.PathLike | Splits | None = None,
        weights: str | os.PathLike | None = None,
        quantizer: str | Quantizer = "wrpn",
        quantizer_kwargs: Mapping[str, Any] | None = None,
        recipe: str | Recipe | None = None,
        recipe_kwargs: Mapping[str, Any] | None = None,
        bitwidths: Sequence[int] | None = None,
        activation_bitwidth: int = 32,
        repeats: int = 10,
        precision: str = "auto",
        stack: int | None = None,
        memory: int = MEMORY,
        metric: Score | None = None,
        loss: Loss | None = None,
        memo: bool | str | os.PathLike | Memo = True,
        search_from_train: bool = False,
        device: str = "auto",
    ):
        check_options(activation_bitwidth, repeats, memory, loss)
        network = resolve_network(net)
        self.net = network.name
        self.max_loss_points = network.max_loss_points
        self.activation_bitwidth = activation_bitwidth
        self.metric, self.loss, self.memory = metric, loss, memory
        self.quantizer = make_quantizer(
            quantizer, **named_arguments("quantizer_kwargs", quantizer_kwargs)
        )
        self.per_channel = bool(getattr(self.quantizer, "per_channel", False))
        self._recipe_kwargs = named_arguments("recipe_kwargs", recipe_kwargs)
        self.recipes, self.states_recipes = known_recipes(network, self._recipe_kwargs)
        self.bitwidths = resolve_bitwidths(bitwidths, self.quantizer)
        self.device = resolve_device(device)

        file = resolve_weights(network, weights)
        self.module = network.build()
        if file is not None:
            load_weights(self.module, file)
        check_weights(self.module)
        self.weights_sha256 = hash_weights(self.module)

        self.splits, self.search_from_train = resolve_splits(
            network, data, read_record(file) if file is not None else {}, search_from_train
        )
        self.images = len(self.splits.search)
        if recipe is None:
            stated = self.states_recipes and "short" in self.recipes
            trains = stated and self.splits.train is not None
            recipe = "short" if trains else "ptq"
        self.recipe = self._resolve_recipe(recipe)
        self.repeats = repeats if self.recipe.images else 1
        self.normalise = Normalise(network.mean, network.std)
        input_shape = tuple(self.splits.search.images.shape[1:])
        place(self.module, self.device, input_shape).eval()
        check_fit(network, self.module, self.splits, self._search, self.normalise, metric)
        check_repeats(self.net, self.module, self._probes)
        if loss is not None and self.recipe.images:
            check_loss(self.recipe, loss, self.module, *self._first_batch())
        self.layers = network_layers(self.module, input_shape, self.quantizer)
        for name in self._names:
            check_weight(name, self.module.get_submodule(name))
        self._memo = open_memo(memo)
        self._found: dict[bytes, Measurement] = {}  # where there is no memo
        self._identities: dict[int | None, str] = {}
        self._process = uuid.uuid4().hex
        self.forgets = "" if self._memo is not None else "memo=False"
        self._untold = why_untold(self.module)
        if self._untold and uses_images(self.recipe):
            # Without retraining, what the network answers tells it from others.
            self._memo, self.forgets = None, f"the network uses {self._untold}"
        penalty = REGULARIZERS[self.recipe.regularizer]
        functions = {
            "metric": metric,
            "loss": loss,
            "quantizer": type(self.quantizer),
            "regularizer": penalty,
        }
        for name, function in functions.items():
            if why := why_indescribable(function):
                # Nothing would tell its results from those of another one.
                self._memo, self.forgets = None, f"{name}= uses {why}"
        self._forwards: dict[tuple[str, str, bool], SharedForward] = {}
        self._warned = False
        self.precision = self._choose_precision(precision)
        self.stack = self._choose_stack(stack)
        self.name = self._describe(recipe)

    def __deepcopy__(self, memo: dict) -> LiveEvaluator:
        """A copy that shares the network and the images: nothing that counts is written to."""
        return copy.copy(self)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is made again: copies of images on the device, and caches."""
        kept = {name: value for name, value in vars(self).items() if name not in MADE_AGAIN}
        return kept | {"_forwards": {}}

    @property
    def provenance(self) -> dict[str, Any]:
        """What measures, for logs and results, as plain JSON."""
        return {
            "dataset": self.splits.name,
            "mean": list(self.normalise.mean),
            "std": list(self.normalise.std),
            "quantizer": describe_quantizer(self.quantizer),
            "recipe": dataclasses.asdict(self.recipe),
            "activation_bitwidth": self.activation_bitwidth,
            "precision": self._precision_of("search", self.recipe),
            "repeats": self.repeats,
            "weights_sha256": self.weights_sha256,
        }

    @cached_property
    def full_precision_accuracy(self) -> float:
        """Of the unquantized network on the search split, in [0, 1]."""
        return self.measure_full_precision("search").accuracy

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """Accuracy on the search split after retraining with seed ``repeat``.

        Args:
            bitwidths: One per layer, first to last.
            repeat: ``0 <= repeat < self.repeats``, or -1 for the mean over all of them.

        Raises:
            ValueError: For a wrong number of bitwidths, one that is not allowed, or a repeat
                that does not exist.
        """
        seeds = seeds_of(repeat, self.repeats)
        return pooled(self._measure([(bitwidths, seed) for seed in seeds], "search", self.recipe))

    def evaluate_many(
        self, bitwidths: NDArray[np.intp], repeats: NDArray[np.intp]
    ) -> ManyEvaluations:
        """Many answers at once: they share common prefixes, or are retrained in stacks.

        Args:
            bitwidths: ``[assignments, layers]``.
            repeats: One per assignment; all -1 for the mean.
        """
        seeds = [seeds_of(repeat, self.repeats) for repeat in repeats.tolist()]
        rows = zip(bitwidths.tolist(), seeds, strict=True)
        jobs = [(row, seed) for row, own in rows for seed in own]
        measured = iter(self._measure(jobs, "search", self.recipe))
        return in_columns([pooled([next(measured) for _ in own]) for own in seeds])

    def measure(
        self,
        bitwidths: Sequence[int],
        seed: int,
        split: str = "search",
        recipe: str | Recipe | None = None,
    ) -> Measurement:
        """Retrains one assignment and counts what it gets right on a split.

        Args:
            bitwidths: One per layer, first to last.
            seed: Of the retraining; reports use `REPORT_SEED` and the seeds after it.
            split: ``"search"``, or ``"report"``, which only scorers and final reports ask for.
            recipe: None means that of the evaluator.

        Raises:
            ValueError: For bitwidths, a split or a recipe that cannot be used.
        """
        chosen = self.recipe if recipe is None else self._resolve_recipe(recipe)
        return self._measure([(bitwidths, seed)], split, chosen)[0]

    def measure_many(
        self,
        assignments: Sequence[Sequence[int]],
        split: str = "search",
        advance: Callable[[int], object] = lambda measured: None,
    ) -> list[Measurement]:
        """Measures assignments that are not retrained (recipe ``"ptq"``), sharing common prefixes.

        What is found is kept every `BLOCK_SECONDS` or so; an interruption loses no more.

        Args:
            assignments: Each one bitwidth per layer, first to last.
            split: ``"search"`` or ``"report"``.
            advance: Told after each block how many of them it measured, or found in the memo.

        Raises:
            ValueError: For bitwidths or a split that cannot be used.
        """
        ptq = Recipe()
        precision = self._precision_of(split, ptq)
        checked = [tuple(check_assignment(bitwidths, self)) for bitwidths in assignments]
        jobs = [(each, 0) for each in checked]
        fields = dict(zip(checked, self._fields(jobs, split, ptq), strict=True))
        recalled = self._recall(list(fields.values()))
        known = {each: one for each, one in zip(fields, recalled, strict=True) if one is not None}
        advance(sum(each in known for each in checked))
        missing = sorted(each for each in fields if each not in known)
        size = 1 if len(missing) == 1 else 2 * len(self.bitwidths)
        while missing:
            block, missing = missing[:size], missing[size:]
            found = self._run(block, split, precision)
            self._keep([(fields[each], one) for each, one in found.items()])
            known |= found
            advance(sum(each in found for each in checked))
            each_seconds = found[block[0]].milliseconds / 1e3
            size = max(size, min(4 * size, int(BLOCK_SECONDS / each_seconds)))
        return [known[each] for each in checked]

    def measure_full_precision(self, split: str = "search") -> Measurement:
        """What the unquantized network gets right on a split."""
        return self._measure_full_precision(split, self._precision_of(split, self.recipe))

    def shares(self, recipe: Recipe) -> bool:
        """Whether assignments under this recipe share work: nothing is trained or re-estimated."""
        return not uses_images(recipe)

    def train(
        self,
        bitwidths: Sequence[int] | None,
        seed: int,
        recipe: str | Recipe = "long",
        advance: Callable[[float], object] = lambda share: None,
    ) -> nn.Module:
        """The quantized network after retraining, for a final report or an export.

        Args:
            bitwidths: One per layer, first to last; None trains the full-precision network on
                by the same recipe, the fair reference for a long retraining.
            seed: Of the retraining.
            recipe: How to retrain.
            advance: Told now and then which share of the retraining is done.

        Raises:
            ValueError: For bitwidths or a recipe that cannot be used, or a retraining that
                diverged.
        """
        assignment = None if bitwidths is None else check_assignment(bitwidths, self)
        retrained = self._retrain(assignment, seed, self._resolve_recipe(recipe), advance)
        if retrained.diverged:
            raise ValueError(
                f"The retraining of {assignment or 'full precision'} diverged; use more bits or a "
                "recipe with a lower learning_rate."
            )
        return retrained.module

    def _measure_full_precision(self, split: str, precision: str) -> Measurement:
        fields = self._seen(split) | {"precision": precision, "subject": "full precision"}
        known = self._recall([fields])[0]
        if known is None:
            self._check_range(split)
            full = (FULL_PRECISION,) * len(self.layers)
            known = (
                self._test(Retrained(self.module, False, 0.0), split)
                if precision == "float32"
                else self._run([full], split, precision, self.module)[full]
            )
            self._keep([(fields, known)])
        return known

    def _choose_precision(self, precision: str) -> str:
        if precision in PRECISIONS:
            return precision
        if precision != "auto":
            raise UnknownNameError("precision", precision, ("auto", *PRECISIONS))
        if not self.shares(self.recipe) or not runs_bfloat16(self.device):
            return "float32"
        exact = self._measure_full_precision("search", "float32").accuracy
        try:
            reduced = self._measure_full_precision("search", "bfloat16").accuracy
        except RuntimeError:  # what it computes is not there in bfloat16, or not throughout
            return "float32"
        close = 100 * abs(exact - reduced) <= BFLOAT16_POINTS
        return "bfloat16" if close else "float32"

    def _precision_of(self, split: str, recipe: Recipe) -> str:
        return self.precision if split == "search" and self.shares(recipe) else "float32"

    def _run(
        self,
        assignments: Sequence[tuple[int, ...]],
        split: str,
        precision: str,
        subject: nn.Module | None = None,
    ) -> dict[tuple[int, ...], Measurement]:
        """Measures assignments of `_subject`, or of another, without retraining, in one go."""
        held, started = self._held(split), time.perf_counter()
        forward = self._forward(split, precision, subject or self._subject)
        totals = forward.scores(assignments, held, self.normalise)
        milliseconds = 1e3 * (time.perf_counter() - started) / len(assignments)
        return {
            each: Measurement(self._rounded(total), len(held), milliseconds, False)
            for each, total in totals.items()
        }

    def _forward(self, split: str, precision: str, subject: nn.Module) -> SharedForward:
        key = split, precision, subject is self.module
        if key not in self._forwards:
            self._forwards.clear()  # `memory` is what one of them may keep
            self._forwards[key] = SharedForward(
                subject,
                self._names,
                self.quantizer,
                self._probes,
                score=self.score,
                dtype=PRECISIONS[precision],
                memory=self.memory,
            )
            reason = self._forwards[key].reason
            if reason and not self._warned:
                self._warned = True
                warnings.warn(
                    f"Assignments of {self.net} cannot share activations, so that measuring them "
                    f"takes longer: the network cannot be cut ({reason}).",
                    stacklevel=2,
                )
        return self._forwards[key]

    @property
    def _names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def score(self) -> Score:
        """What one output is worth: the metric, or whether it is classified correctly."""
        return top1 if self.metric is None else self.metric

    def _rounded(self, total: float) -> float:
        """Images are counted in whole numbers."""
        return round(total) if self.metric is None else total

    def _retrain(
        self,
        bitwidths: Sequence[int] | None,
        seed: int,
        recipe: Recipe,
        advance: Callable[[float], object] = lambda share: None,
    ) -> Retrained:
        return retrain(
            self.module if bitwidths is None else self._subject,
            [] if bitwidths is None else self._names,
            bitwidths or [],
            seed=seed,
            advance=advance,
            **self._training(recipe),
        )

    def _training(self, recipe: Recipe) -> dict[str, Any]:
        """The arguments that all retrainings by a recipe have in common."""
        images = self._train if uses_images(recipe) else self._search
        return {
            "quantizer": self.quantizer,
            "recipe": recipe,
            "images": images.images,
            "labels": images.labels,
            "normalise": self.normalise,
            "teacher": self.module,
            "loss": self.loss,
        }

    def _measure(
        self, jobs: Sequence[tuple[Sequence[int], int]], split: str, recipe: Recipe
    ) -> list[Measurement]:
        """Measures pairs of an assignment and a seed.

        Without retraining they share their work; else `stack` of those that are new are retrained
        at a time.
        """
        if self.shares(recipe):
            return self.measure_many([bitwidths for bitwidths, _ in jobs], split)
        checked = [(check_assignment(bitwidths, self), seed) for bitwidths, seed in jobs]
        fields = self._fields(checked, split, recipe)
        found = self._recall(fields)
        keys = [(tuple(assignment), seed) for assignment, seed in checked]
        # What is asked for several times is retrained once.
        missing = list({key: job for job, key in enumerate(keys) if found[job] is None}.values())
        measured: dict[tuple[tuple[int, ...], int], Measurement] = {}
        for start in range(0, len(missing), self.stack):
            stacked = missing[start : start + self.stack]
            retrained = self._retrain_stack([checked[job] for job in stacked], recipe)
            for job, one in zip(stacked, retrained, strict=True):
                measured[keys[job]] = answer = self._test(one, split)
                self._keep([(fields[job], answer)])
        return [known or measured[key] for key, known in zip(keys, found, strict=True)]

    def _retrain_stack(
        self, jobs: Sequence[tuple[list[int], int]], recipe: Recipe
    ) -> list[Retrained]:
        if len(jobs) == 1:
            return [self._retrain(*jobs[0], recipe)]
        return retrain_many(
            self._subject,
            self._names,
            [assignment for assignment, _ in jobs],
            seeds=[seed for _, seed in jobs],
            **self._training(recipe),
        )

    def _choose_stack(self, stack: int | None) -> int:
        if stack is None:
            weights = sum(layer.weights for layer in self.layers)
            small = self.device.type == "cuda" and weights <= STACKED_WEIGHTS
            return STACK if small and can_stack(self.module) else 1
        if not is_whole(stack) or stack < 1:
            raise ValueError(f"stack={stack!r} has to be a whole number, at least 1.")
        return stack

    def _test(self, retrained: Retrained, split: str) -> Measurement:
        """Counts what is right."""
        held, started = self._held(split), time.perf_counter()
        correct = 0.0
        if not retrained.diverged:
            module = bake(retrained.module)
            total = sum_scores(module, held.images, held.labels, self.normalise, self.score)
            correct = self._rounded(total)
        milliseconds = retrained.milliseconds + 1e3 * (time.perf_counter() - started)
        return Measurement(correct, len(held), milliseconds, retrained.diverged)

    def _fields(
        self, jobs: Sequence[tuple[Sequence[int], int]], split: str, recipe: Recipe
    ) -> list[dict[str, Any]]:
        """Everything that can change the value of each measurement, of an assignment and a seed."""
        common = self._common_fields(split, recipe)
        # Without retraining nothing is random.
        return [
            common | {"bitwidths": list(assignment), "seed": seed if recipe.images else 0}
            for assignment, seed in jobs
        ]

    def _common_fields(self, split: str, recipe: Recipe) -> dict[str, Any]:
        """Those of `_fields` that are the same for every assignment and seed."""
        fields = self._seen(split) | {
            "quantizer": self.quantizer.name,
            "quantizer_kwargs": dataclasses.asdict(self.quantizer),
            "quantizer_code": describe_callable(type(self.quantizer)),
            "recipe": describe_recipe(recipe),
            "train": self._trained_on(recipe),
            "precision": self._precision_of(split, recipe),
            "activation_bitwidth": self.activation_bitwidth,
            "calibration": self._calibrated_on,
            "stack": self.stack if recipe.images else 1,
        }
        if self._untold and uses_images(recipe):
            fields["process"] = self._process  # nothing else tells this network from another one
        return fields

    def _trained_on(self, recipe: Recipe) -> str | None:
        train = self.splits.train if uses_images(recipe) else None
        return None if train is None else train.sha256

    def search_fields(self) -> dict[str, Any]:
        """Under what the memo keeps an answer of `evaluate`, but for its bitwidths and seed."""
        return self._common_fields("search", Recipe() if self.shares(self.recipe) else self.recipe)

    def _seen(self, split: str) -> dict[str, Any]:
        """What every measurement on a split depends on."""
        images = self._split(split).sha256
        return {"identity": self._identity_sha256, "split": split, "images": images}

    def _recall(self, fields: list[dict[str, Any]]) -> list[Measurement | None]:
        if self._memo is None:
            return [self._found.get(hash_fields(each)) for each in fields]
        values = self._memo.get_many(fields)
        return [None if value is None else Measurement(*value) for value in values]

    def _keep(self, found: list[tuple[dict[str, Any], Measurement]]) -> None:
        if self._memo is None:
            self._found |= {hash_fields(fields): one for fields, one in found}
        else:
            self._memo.put_many([(fields, list(one)) for fields, one in found])

    def _split(self, split: str) -> Split:
        if split not in ("search", "report"):
            raise UnknownNameError("split", split, ("search", "report"))
        return self.splits.search if split == "search" else self.splits.report

    def _held(self, split: str) -> Split:
        """The images of a split, on the device."""
        return self._search if split == "search" else _to(self._split(split), self.device)

    @cached_property
    def _subject(self) -> nn.Module:
        """What is quantized: the network, with quantized activations where they are asked for."""
        if self.activation_bitwidth == FULL_PRECISION:
            return self.module
        return with_quantized_activations(self.module, self._names, self._calibration_images())

    def _calibration_images(self) -> Tensor:
        """Some of the inputs that the network may learn from, as it sees them."""
        chosen = first_positions(self._calibration.labels, CALIBRATION_IMAGES)
        return self.normalise(self._calibration.images[chosen].to(self.device))

    @cached_property
    def _calibrated_on(self) -> list[str | int] | None:
        if self.activation_bitwidth == FULL_PRECISION:
            return None
        return [self._calibration.sha256, ACTIVATION_VERSION]

    @property
    def _calibration(self) -> Split:
        return self.splits.train or self.splits.search

    @cached_property
    def _search(self) -> Split:
        return _to(self.splits.search, self.device)

    @property
    def _probes(self) -> Tensor:
        """A few search images as the network sees them."""
        return self.normalise(self._search.images[:PROBE_IMAGES])

    def _first_batch(self) -> tuple[Tensor, Tensor]:
        """Training inputs as the network sees them, and their targets."""
        first = slice(self.recipe.batch_size)
        images, labels = self._train.images[first], self._train.labels[first]
        return self.normalise(images), labels

    @cached_property
    def _train(self) -> Split:
        assert self.splits.train is not None  # `_resolve_recipe` has seen to it
        return _to(self.splits.train, self.device)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """Everything besides the assignment and its retraining that can change a value."""
        return {
            "code_version": CODE_VERSION,
            "torch": torch.__version__,
            "device": self.device.type,
            "metric": describe_callable(self.metric),
            "loss": describe_callable(self.loss),
            "weights": self.weights_sha256,
            "network": hash_outputs(self.module, self._probes, scaled=self.metric is not None),
            "module": describe_training(self.module),
            "normalise": dataclasses.asdict(self.normalise),
        }

    @property
    def _identity_sha256(self) -> str:
        """Of that and the number of threads, which may be set at any time."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        if threads not in self._identities:
            self._identities[threads] = hash_fields(self._identity | {"threads": threads}).hex()
        return self._identities[threads]

    def _describe(self, recipe: str | Recipe) -> str:
        known = isinstance(recipe, str)
        own = hash_fields(dataclasses.asdict(self.recipe)).hex()[:SHORT_HASH]
        described = str(recipe) if known else f"own recipe {own}"
        if known and self._recipe_kwargs:
            fields = ", ".join(f"{k}={v!r}" for k, v in sorted(self._recipe_kwargs.items()))
            described += f"({fields})"
        repeats = f" x{self.repeats}" if self.repeats > 1 else ""
        precision = self._precision_of("search", self.recipe)
        repeats += "" if precision == "float32" else f" {precision}"
        repeats += "" if self.activation_bitwidth == FULL_PRECISION else " a8"
        seen = ", search images from train" if self.search_from_train else ""
        # Ledgers tell assignments of one evaluator from those of another by its name.
        functions = [describe_callable(each) for each in (self.metric, self.loss)]
        told_apart = {
            "weights": self.weights_sha256,
            "images": self.splits.search.sha256,
            "functions": functions,
        }
        return (
            f"live {self.net}/{self.splits.name} {describe_quantizer(self.quantizer)} "
            f"{described}{repeats} {hash_fields(told_apart).hex()[:SHORT_HASH]}{seen}"
        )

    def _resolve_recipe(self, recipe: str | Recipe) -> Recipe:
        if not isinstance(recipe, Recipe):
            if recipe not in self.recipes:
                raise UnknownNameError(
                    f"recipe of {self.net}",
                    recipe,
                    self.recipes,
                    "Or pass a releq_gym.networks.Recipe.",
                )
            recipe = self.recipes[recipe]
        else:
            recipe = recipe.with_fields(self._recipe_kwargs)
        check_recipe(recipe, self.quantizer, self.splits, self.loss)
        if recipe.images:
            warn_of_emulation(recipe.precision, self.device)
        return recipe

    def _check_range(self, split: str) -> None:
        """Refuses a metric that gives full precision a score outside 0 to 1."""
        if self.metric is not None:
            held = self._held(split)
            check_scores(
                each_score(self.module, held.images, held.labels, self.normalise, self.metric)
            )


def _to(split: Split, device: torch.device) -> Split:
    return Split(split.images.to(device), split.labels.to(device), split.index_sha256)
