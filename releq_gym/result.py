"""What a run found, as a file that others read: ``result.json`` of a run folder."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import releq_gym
from releq_gym.ledger import Answer, Ledger
from releq_gym.plain_numbers import as_json, is_real, is_whole
from releq_gym.problem import Problem
from releq_gym.whole_files import written_whole

RESULT_FILE = "result.json"

LOG_FILE = "log.jsonl"
"""The action log that a result was found by, beside it."""


@dataclass(frozen=True)
class OnReport:
    """One network on the report split.

    Attributes:
        bitwidths: One per layer; None for full precision.
        accuracy: Fraction classified correctly.
        loss_points: Full precision minus this, in percentage points.
        margin_points: Half the width of the 95 % interval of ``loss_points``, paired image by
            image; None where only accuracies are at hand.
    """

    bitwidths: tuple[int, ...] | None
    accuracy: float
    loss_points: float = 0.0
    margin_points: float | None = None


@dataclass(frozen=True)
class Report:
    """An assignment beside full precision and a uniform bitwidth, on the report split.

    Attributes:
        source: How the accuracies came about.
        images: Size of the report split.
        full_precision: What losses are against: trained on by the recipe that ``chosen`` was
            retrained by, so that training longer does not count as a merit of quantization.
        checkpoint: Full precision as the search began with it.
        uniform: All layers at the most bits there are, within the cost budget or not, retrained as
            ``chosen`` was.
        chosen: What the search chose.
    """

    source: str
    images: int
    full_precision: OnReport
    checkpoint: OnReport
    uniform: OnReport
    chosen: OnReport


@dataclass(frozen=True)
class Result:
    """``result.json`` of a run folder; every figure but those in ``report`` is of search data.

    Attributes:
        finished: Whether the run came to its end.
        task: Name of the evaluator.
        net: Name of the network.
        data: What the user named as data.
        searcher: What chose the bitwidths.
        seed: Of the searcher.
        layers: Names of the quantized layers.
        bitwidths: The answer, one per layer.
        objective: Its reward at its mean revealed accuracy.
        accuracy: That accuracy.
        loss_points: Full precision minus it, in percentage points.
        max_loss_points: What may be lost.
        cost: Under the active cost model, all layers at 8 bits = 1.
        weighted_bitwidth: Bits per weight.
        average_bitwidth: Plain mean over the layers.
        evaluations: Different assignments revealed.
        fresh: Accuracies revealed, repeats included.
        seconds: Wall time of the search.
        version: Of this package.
        command: What was typed.
        report: Where one was asked for and there is a report split.
        margin_points: Half the width of the 95 % interval of ``loss_points``, paired image by
            image; None where there are 5,000 search images or nobody has looked.
        metric: Name of what was measured instead of top-1 accuracy; None means that. All
            accuracies are then mean scores.
        cost_model: By name, with its parameters.
        figures: What the answer costs by it, the headline first.
        cost_budget: What may not be exceeded.
        full_precision_accuracy: Of the unquantized network on the search split; None in results of
            versions that did not write it.
        unquantized: Parameters of two or more axes that stay in full precision.
        provenance: What the accuracies were measured by: quantizer, recipe, and what else the
            evaluator states.
    """

    finished: bool
    task: str
    net: str
    data: str | None
    searcher: str
    seed: int
    layers: tuple[str, ...]
    bitwidths: tuple[int, ...]
    objective: float
    accuracy: float
    loss_points: float
    max_loss_points: float
    cost: float
    weighted_bitwidth: float
    average_bitwidth: float
    evaluations: int
    fresh: int
    seconds: float
    version: str
    command: str
    report: Report | None = None
    margin_points: float | None = None
    metric: str | None = None
    cost_model: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    cost_budget: dict[str, float] = field(default_factory=dict)
    full_precision_accuracy: float | None = None
    unquantized: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, ledger: Ledger, answer: Answer, **run: Any) -> Result:
        """The result of a search.

        Args:
            problem: What was searched.
            ledger: What was revealed.
            answer: Of the search, by `Ledger.best`.
            **run: Fields that say how it was run.
        """
        evaluator, about = problem.evaluator, problem.describe()
        known = problem.transition(answer.bitwidths, answer.accuracy)
        return cls(
            task=evaluator.name,
            net=evaluator.net,
            layers=tuple(layer.name for layer in problem.layers),
            bitwidths=answer.bitwidths,
            objective=answer.objective,
            accuracy=answer.accuracy,
            loss_points=known.loss_points,
            max_loss_points=known.max_loss_points,
            cost=known.cost,
            weighted_bitwidth=known.weighted_bitwidth,
            average_bitwidth=known.average_bitwidth,
            evaluations=ledger.distinct,
            fresh=ledger.fresh,
            version=releq_gym.__version__,
            cost_model=about["cost"],
            figures=problem.figures_of(answer.bitwidths),
            cost_budget=about["cost_budget"],
            full_precision_accuracy=evaluator.full_precision_accuracy,
            provenance=dict(getattr(evaluator, "provenance", {})),
            **run,
        )


def describe_figures(result: Result) -> str:
    """The physical figures of an answer, and what a budget allows of them, in words."""
    parts = []
    for name, value in {"cost": result.cost, **result.figures}.items():
        limit = result.cost_budget.get(name)
        allowed = "" if limit is None else f" of at most {limit:,.6g}"
        parts.append(f"{name} {value:,.4g}{allowed}")
    return f"{', '.join(parts)} ({result.cost_model}; cost: all layers at 8 bits = 1)"


def write_result(folder: str | os.PathLike, result: Result) -> None:
    """Writes ``result.json``; it appears whole or not at all."""
    text = json.dumps(dataclasses.asdict(result), indent=1, default=as_json) + "\n"
    with written_whole(Path(folder) / RESULT_FILE) as partial:
        partial.write_text(text, encoding="utf-8")


def read_result(folder: str | os.PathLike) -> Result:
    """Reads ``result.json``.

    Raises:
        ValueError: Where there is none, or it is damaged.
    """
    path = Path(folder) / RESULT_FILE
    if not path.is_file():
        raise ValueError(f"{Path(folder)} is no run folder: it has no {RESULT_FILE}.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if (report := record["report"]) is not None:
            measured = {
                name: OnReport(**_tuples(report[name]))
                for name in ("full_precision", "checkpoint", "uniform", "chosen")
            }
            record["report"] = Report(**{**report, **measured})
        unknown = record.keys() - {field.name for field in dataclasses.fields(Result)}
        if unknown:
            raise ValueError(
                f"it has {', '.join(sorted(unknown))}, which this version of releq_gym does not "
                f"know; it was written by {record.get('version')}"
            )
        return _checked(Result(**_tuples(record)))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error!r}.") from None


def _checked(result: Result) -> Result:
    """Refuses what no run writes, lest it is shown, or compared, as if it were one's."""
    bitwidths = [result.bitwidths]
    if result.report is not None:
        bitwidths.append(result.report.chosen.bitwidths or ())
        if not is_whole(result.report.images) or not is_real(result.report.chosen.accuracy):
            raise ValueError("images and accuracy of its report have to be numbers")
    for one in bitwidths:
        if len(one) != len(result.layers) or not all(map(is_whole, one)):
            raise ValueError(f"bitwidths={one!r} have to be a whole number for each layer")
    return result


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
