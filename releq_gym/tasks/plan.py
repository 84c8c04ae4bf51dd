"""What a task is to measure, and what its card says about that."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as package_version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_gym.datasets import load_splits
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.file_names import as_file_name
from releq_gym.networks import NetworkLike, resolve_network
from releq_gym.rewards.accuracy_floor import AccuracyFloor
from releq_gym.tasks.format import SPLITS, Measurements, configurations, ordered
from releq_gym.tasks.sample import SOURCES


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        net: A registered network.
        quantizer: By name.
        recipe: ``"ptq"``, ``"short"`` or ``"long"``.
        version: Semantic version of the task.
        bitwidths: The choice per layer; None takes all that the quantizer defines.
        repeats: Retrainings per assignment and split; 1 under ``"ptq"``.
        max_loss_points: The loss that the task tolerates, in percentage points; None is the
            network's own.
        quantizer_kwargs: Arguments of the quantizer.
        recipe_kwargs: Fields of the recipe that differ from the network's.
        activation_bitwidth: 32 or 8.
        search_images: Only so many of the search split, its first; None takes all.
        weights: Checkpoint of a network whose weights are not shipped.
        known_issues: Sentences for the card.
    """

    net: str
    quantizer: str = "wrpn"
    recipe: str = "short"
    version: str = "1.0.0"
    bitwidths: tuple[int, ...] | None = None
    repeats: int = 10
    max_loss_points: float | None = None
    quantizer_kwargs: dict[str, Any] = field(default_factory=dict)
    recipe_kwargs: dict[str, Any] = field(default_factory=dict)
    activation_bitwidth: int = 32
    search_images: int | None = None
    weights: str | None = None
    known_issues: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what no task can have, before anything is measured."""
        ordered(self.version)
        AccuracyFloor(self.max_loss_points)

    def evaluator(
        self, data: str | os.PathLike | None, memo: bool | str | os.PathLike
    ) -> LiveEvaluator:
        """Measures the cells; results are kept in ``memo``."""
        return make_live(
            self.net,
            data=data,
            search_images=self.search_images,
            weights=self.weights,
            quantizer=self.quantizer,
            quantizer_kwargs=self.quantizer_kwargs,
            recipe=self.recipe,
            recipe_kwargs=self.recipe_kwargs,
            bitwidths=self.bitwidths,
            activation_bitwidth=self.activation_bitwidth,
            repeats=self.repeats,
            memo=memo,
        )


def make_live(
    net: NetworkLike, *, data: str | os.PathLike | None, search_images: int | None, **options: Any
) -> LiveEvaluator:
    """A live evaluator as tasks use it: in float32 on the CPU, on the first search images.

    Args:
        net: The network.
        data: Where its data set lies; None where it is bundled or in the usual places.
        search_images: How many; None means all.
        **options: Of `LiveEvaluator`.
    """
    source: Any = data
    if search_images is not None:
        network = resolve_network(net)
        source = load_splits(network.dataset, data, True).first(search_images)
    return LiveEvaluator(net, data=source, precision="float32", device="cpu", **options)


def task_id(evaluator: LiveEvaluator, plan: Plan) -> str:
    """``<net>-<data>-<quantizer>-<recipe>-w<lo>to<hi>[-a8][-loss<points>]``.

    Bitwidths with gaps are listed, as in ``-w2-4-8``. ``pc`` behind the quantizer means per
    channel, ``bn`` behind the recipe that it measures batch norm anew; the tolerated loss is named
    where it is not the network's own.
    """
    bitwidths = evaluator.bitwidths
    low, high = bitwidths[0], bitwidths[-1]
    gaps = len(bitwidths) <= high - low
    choices = "-".join(map(str, bitwidths)) if gaps else f"{low}to{high}"
    channel = "pc" if plan.quantizer_kwargs.get("per_channel") else ""
    norm = "bn" if plan.recipe_kwargs.get("reestimate_batch_norm") else ""
    name = (
        f"{as_file_name(plan.net)}-{evaluator.splits.name}-{plan.quantizer}{channel}-{plan.recipe}{norm}"
        f"-w{choices}"
    )
    if plan.activation_bitwidth != 32:
        name += f"-a{plan.activation_bitwidth}"
    if plan.max_loss_points not in (None, evaluator.max_loss_points):
        name += f"-loss{plan.max_loss_points:g}"
    return name


def seeds(split: str, repeats: int) -> list[int]:
    """Of the retrainings whose results stand in a split's file; no seed is in both."""
    start = REPORT_SEED if split == "report" else 0
    return list(range(start, start + repeats))


def stated(plan: Plan, evaluator: LiveEvaluator) -> dict[str, Any]:
    """The entries of a card that say how is measured, as JSON gives them.

    Args:
        plan: What is to be measured.
        evaluator: By what.
    """
    entries = {
        "data": evaluator.splits.name,
        "quantizer": plan.quantizer,
        "quantizer_kwargs": plan.quantizer_kwargs,
        "recipe": plan.recipe,
        "recipe_kwargs": plan.recipe_kwargs,
        "recipe_fields": asdict(evaluator.recipe),
        "activation_bitwidth": evaluator.activation_bitwidth,
        "bitwidths": list(evaluator.bitwidths),
        "search_images": plan.search_images,
        "repeats": dict.fromkeys(SPLITS, evaluator.repeats),
    }
    return json.loads(json.dumps(entries))


def make_card(
    plan: Plan,
    evaluator: LiveEvaluator,
    measured: Mapping[str, Measurements],
    command: str,
    **more: Any,
) -> dict[str, Any]:
    """The card of a task, but for what `write_task` adds.

    Args:
        plan: What was measured.
        evaluator: By which it was.
        measured: By split.
        command: What was typed.
        **more: Further entries.
    """
    splits = evaluator.splits
    held = {"search": splits.search, "report": splits.report}
    if splits.train is not None:
        held["train"] = splits.train
    full = {split: evaluator.measure_full_precision(split).correct for split in SPLITS}
    return {
        "id": task_id(evaluator, plan),
        "version": plan.version,
        "net": plan.net,
        **stated(plan, evaluator),
        "max_loss_points": (
            evaluator.max_loss_points if plan.max_loss_points is None else plan.max_loss_points
        ),
        "completeness": "exhaustive",
        "layers": [layer.to_dict() for layer in evaluator.layers],
        "full_precision": {"weights_sha256": evaluator.weights_sha256, "correct": full},
        "splits": {
            split: {
                "images": len(part),
                "points_per_image": 100 / len(part),
                "sha256": part.sha256,
                "index_sha256": part.index_sha256,
            }
            for split, part in held.items()
        },
        "noise_points": {
            split: pooled_sd_points(values.correct, len(held[split]))
            for split, values in measured.items()
        },
        "baselines": {
            split: _baselines(evaluator, values, split, len(held[split]))
            for split, values in measured.items()
        },
        "generator": {
            "command": command,
            "device": platform.processor() or platform.machine(),
            "versions": {
                package: package_version(package) for package in ("releq_gym", "torch", "numpy")
            },
        },
        "known_issues": list(plan.known_issues),
        "licence": "Apache-2.0",
        "credits": "Measured with releq_gym; the images are not included.",
        **more,
    }


def pooled_sd_points(correct: NDArray[np.uint32], images: int) -> float:
    """Standard deviation between repeats, pooled over the assignments, in percentage points."""
    if correct.shape[1] < 2:
        return 0.0
    return float(100 / images * np.sqrt(correct.var(axis=1, ddof=1).mean()))


def _baselines(
    evaluator: LiveEvaluator, measured: Measurements, split: str, images: int
) -> dict[str, Any]:
    """Mean accuracy of random assignments, where such were measured, and of every uniform one."""
    accuracy = measured.correct.mean(axis=1) / images
    assignments, random = measured.bitwidths, np.ones(len(accuracy), dtype=np.bool_)
    if assignments is None:
        assignments = configurations(evaluator.bitwidths, len(evaluator.layers))
    else:
        assert measured.source is not None
        # On report images nothing was drawn at random.
        random = (measured.source == SOURCES.index("uniform")) & (split == "search")
    alike = (assignments == assignments[:, :1]).all(axis=1)
    uniform = zip(assignments[alike, 0].tolist(), accuracy[alike].tolist(), strict=True)
    return {
        "mean_accuracy": float(accuracy[random].mean()) if random.any() else None,
        "uniform_accuracy": {str(bitwidth): one for bitwidth, one in uniform},
    }
