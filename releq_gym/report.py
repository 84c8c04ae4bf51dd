"""How good an assignment is on the report split, and how to check that again."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from releq_gym.datasets import Split, Splits, load_splits
from releq_gym.datasets.normalise import Normalise
from releq_gym.evaluators.base import Evaluator
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.evaluators.remembered import RememberedEvaluator
from releq_gym.evaluators.table import TableEvaluator
from releq_gym.networks import NetworkLike, Recipe, resolve_network
from releq_gym.quantized import (
    QUANTIZED_FILE,
    bake,
    load_quantized,
    read_header,
    save_quantized,
)
from releq_gym.result import RESULT_FILE, OnReport, Report, Result, read_result
from releq_gym.tasks.twin import live_twin
from releq_gym.training.accuracy import Score, each_score, top1
from releq_gym.training.device import place, resolve_device

REPORT_STEPS = 3
"""Networks that a report retrains: the answer, full precision and a uniform bitwidth."""

NORMAL_QUANTILE = 1.96
"""Of a two-sided 95 % interval."""

SCORE_TOLERANCE = 1e-4
"""How far the mean of scores may be from the one reported; another batch rounds differently."""


@dataclass(frozen=True)
class Reproduction:
    """A reported accuracy, measured again from the file of integer weights.

    Attributes:
        bitwidths: One per layer.
        accuracy: Measured now.
        reported: As ``result.json`` states it.
        images: Size of the report split.
        reported_images: Of that of the report.
        metric: What was measured instead of top-1 accuracy; None means that.
    """

    bitwidths: tuple[int, ...]
    accuracy: float
    reported: float
    images: int
    reported_images: int
    metric: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether both count the same number of images, or are the same mean score."""
        if self.images != self.reported_images:
            return False
        if self.metric is not None:
            return abs(self.accuracy - self.reported) <= SCORE_TOLERANCE
        return round(self.accuracy * self.images) == round(self.reported * self.images)

    def __str__(self) -> str:
        of = f" of {self.reported_images:,}" if self.images != self.reported_images else ""
        reported = f"but {100 * self.reported:.2f} %{of} was reported"
        verdict = "as reported" if self.agrees else reported
        what = "" if self.metric is None else f"mean {self.metric} "
        return (
            f"{' '.join(map(str, self.bitwidths))}: {what}{100 * self.accuracy:.2f} % of "
            f"{self.images:,} report images, {verdict}"
        )


def final_report(
    evaluator: Evaluator,
    bitwidths: Sequence[int],
    folder: str | os.PathLike,
    data: str | os.PathLike | None = None,
) -> Report | None:
    """The report of an assignment: after the long retraining where possible, else the task's.

    Args:
        evaluator: The one of the search.
        bitwidths: One per layer.
        folder: Gets `QUANTIZED_FILE` if the network is retrained.
        data: Where the images of a task's network lie.

    Returns:
        None for an invented landscape and an imported task, which have no report split.

    Raises:
        ValueError: For a task that has not measured its report images, a surrogate for instance,
            where those of its network are not at hand.
    """
    if isinstance(evaluator, RememberedEvaluator):
        evaluator = evaluator.live
    if isinstance(evaluator, LiveEvaluator):
        return retrain_and_report(evaluator, bitwidths, folder)
    task = getattr(evaluator, "task", None)
    if task is None or task.imported:
        return None
    try:
        live = live_twin(task, data)
    except ValueError as error:
        if not isinstance(evaluator, TableEvaluator) or "report" not in task.splits:
            raise ValueError(
                f"{evaluator.name} knows nothing of its answer on report images, and they cannot "
                f"be measured: {error}"
            ) from error
        return task_report(evaluator, bitwidths, why=str(error))
    return retrain_and_report(live, bitwidths, folder)


def file_meta(evaluator: LiveEvaluator) -> dict[str, Any]:
    """What the file of a quantized network states: its name, its data, what its inputs become."""
    return {
        "net": evaluator.net,
        "data": evaluator.splits.name,
        "mean": list(evaluator.normalise.mean),
        "std": list(evaluator.normalise.std),
    }


def retrain_and_report(
    evaluator: LiveEvaluator,
    bitwidths: Sequence[int],
    folder: str | os.PathLike,
    recipe: str | Recipe | None = None,
    say: Callable[[str], object] = lambda step: None,
) -> Report:
    """Retrains an assignment, writes its integer weights, and counts what *they* get right.

    Where the evaluator has a metric, it is the mean score that is reported.

    Args:
        evaluator: Of the network and its data.
        bitwidths: One per layer.
        folder: Gets `QUANTIZED_FILE`.
        recipe: None means ``"long"``, where network and data have that, else the evaluator's own.
            The generic one serves only after a search that retrained.
        say: Told what comes next, before each of `REPORT_STEPS`.

    Raises:
        ValueError: If a retraining diverges.
    """
    if recipe is None:
        asked = evaluator.states_recipes or evaluator.recipe.images
        trains = "long" in evaluator.recipes and evaluator.splits.train is not None and asked
        recipe = "long" if trains else evaluator.recipe
    chosen, uniform = tuple(bitwidths), (max(evaluator.bitwidths),) * len(evaluator.layers)
    path = Path(folder) / QUANTIZED_FILE
    say("the answer")
    save_quantized(path, evaluator.train(chosen, REPORT_SEED, recipe), file_meta(evaluator))

    def answer(module: nn.Module) -> Tensor:
        split = evaluator.splits.report
        return right_answers(module, split, evaluator.device, evaluator.normalise, evaluator.score)

    say("full precision, likewise")
    reference = answer(evaluator.train(None, REPORT_SEED, recipe))
    say("a uniform bitwidth, likewise")
    retrained_uniform = bake(evaluator.train(uniform, REPORT_SEED, recipe))
    return Report(
        source=_describe(recipe),
        images=len(reference),
        full_precision=OnReport(None, _mean(reference)),
        checkpoint=_compare(None, answer(evaluator.module), reference),
        uniform=_compare(uniform, answer(retrained_uniform), reference),
        chosen=_compare(chosen, answer(load_quantized(path, evaluator.module)), reference),
    )


def task_report(evaluator: TableEvaluator, bitwidths: Sequence[int], why: str = "") -> Report:
    """What the task itself has measured on its report split.

    Args:
        evaluator: The one of the search.
        bitwidths: One per layer.
        why: Why nothing was retrained.
    """
    held = TableEvaluator(evaluator.task, "report")
    full = held.full_precision_accuracy

    def look_up(assignment: tuple[int, ...]) -> OnReport:
        accuracy = held.evaluate(assignment, -1).accuracy
        return OnReport(assignment, accuracy, 100.0 * (full - accuracy))

    recipe = evaluator.task.card["recipe"]
    return Report(
        source=(f"mean of {held.repeats} repeats" if held.repeats > 1 else "as measured")
        + f" in the task, after the {recipe} recipe"
        + (f"; not measured anew, because: {why.removesuffix('.')}" if why else ""),
        images=held.images,
        full_precision=OnReport(None, full),
        checkpoint=OnReport(None, full),
        uniform=look_up((max(held.bitwidths),) * len(held.layers)),
        chosen=look_up(tuple(bitwidths)),
    )


def evaluate_run(
    folder: str | os.PathLike,
    data: str | os.PathLike | Splits | None = None,
    net: NetworkLike | None = None,
    metric: Score | None = None,
) -> Reproduction:
    """Measures the reported accuracy of a run again, from its integer weights alone.

    Args:
        folder: Of the run.
        data: Where the images lie, or the splits; None means where the run found them.
        net: The network, where it is not a registered one.
        metric: That of the run, where it had one.

    Raises:
        ValueError: Where the run is not finished, has retrained nothing, or data are missing.
    """
    folder = Path(folder).expanduser()
    result, path = read_result(folder), folder / QUANTIZED_FILE
    if not result.finished:
        raise ValueError(f"The run in {folder} is not finished; continue it with --resume.")
    if not path.is_file():
        raise ValueError(
            f"The run in {folder} has retrained nothing ({QUANTIZED_FILE} is missing), so there is "
            "no accuracy to reproduce."
        )
    if result.report is None:
        raise ValueError(
            f"The run in {folder} has tested nothing on a report split: its data had none, or none "
            "was asked for (report=False). So there is no accuracy to reproduce; the network is in "
            f"{path}."
        )
    if (metric is None) != (result.metric is None):
        raise ValueError(
            f"The run in {folder} measured "
            + ("top-1 accuracy; leave metric= out." if metric else _needs_metric(result, folder))
        )
    header = read_header(path)
    held = header["bitwidths"]
    reported = result.report.chosen
    if not result.bitwidths == reported.bitwidths == tuple(map(held.get, result.layers)):
        raise ValueError(
            f"{path} holds another assignment than {folder / RESULT_FILE} tells of "
            f"({' '.join(map(str, held.values()))} bits, not "
            f"{' '.join(map(str, result.bitwidths))}): these files are not of one run."
        )
    module = load_quantized(path, net)
    network = resolve_network(result.net if net is None else net)
    named = result.data if data is None else data
    tested = header.get("data", network.dataset)
    if named is None and network.dataset and tested != network.dataset:
        raise ValueError(
            f"The run in {folder} tested {tested!r}, data of its own; pass data=Splits(...), or "
            "where they lie."
        )
    if not network.dataset and named is None:
        raise ValueError(
            f"Nothing says which data {network.name} is for: pass data= a file, a folder or a name."
        )
    splits = load_splits(network.dataset, named)
    mean, std = header.get("mean", network.mean), header.get("std", network.std)
    normalise = Normalise(tuple(mean), tuple(std))
    right = right_answers(module, splits.report, resolve_device("auto"), normalise, metric or top1)
    return Reproduction(
        result.bitwidths,
        _mean(right),
        reported.accuracy,
        len(right),
        result.report.images,
        result.metric,
    )


def _needs_metric(result: Result, folder: Path) -> str:
    return (
        f"by the metric {result.metric!r}, a function that the folder does not hold. From Python: "
        f"releq_gym.report.evaluate_run({str(folder)!r}, data=..., net=..., metric=...)"
    )


def right_answers(
    module: nn.Module,
    split: Split,
    device: torch.device,
    normalise: Normalise,
    score: Score = top1,
) -> Tensor:
    """Which images a network classifies correctly, bool ``[images]`` on the CPU.

    Args:
        module: Is moved to the device.
        split: Its images and labels.
        device: Where it runs.
        normalise: From images to what the network sees.
        score: What one output is worth, where that is not top-1; then that, ``[images]``.
    """
    place(module, device, split.images.shape[1:])
    images, labels = split.images.to(device), split.labels.to(device)
    return each_score(module, images, labels, normalise, score).cpu()


def _describe(recipe: str | Recipe) -> str:
    if isinstance(recipe, str):
        return f"retrained by the {recipe} recipe"
    return "retrained as in the search" if recipe.images else "quantized without retraining"


def _compare(bitwidths: tuple[int, ...] | None, right: Tensor, reference: Tensor) -> OnReport:
    """Pairs the images: what both get right or wrong says nothing about the difference."""
    lost = 100.0 * float((reference.double() - right.double()).mean())
    return OnReport(bitwidths, _mean(right), lost, margin_points(right, reference))


def margin_points(right: Tensor, reference: Tensor) -> float:
    """Half the 95 % interval of the points lost, paired image by image.

    Where images are right or wrong, two more are counted, half an image for each of what the two
    networks can answer: without them few images that happen to agree would leave no margin at all.

    Args:
        right: Which images are classified correctly, bool ``[images]``, or the score of each.
        reference: Likewise, in full precision.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24, 2005.
    """
    lost = reference.double() - right.double()
    if right.dtype == torch.bool:
        lost = torch.cat([lost, lost.new_tensor([math.sqrt(0.5), -math.sqrt(0.5)])])
    return 100.0 * NORMAL_QUANTILE * float(lost.std()) / math.sqrt(len(lost))


def _mean(right: Tensor) -> float:
    return float(right.double().sum()) / len(right)
