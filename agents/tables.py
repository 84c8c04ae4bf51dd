"""The answer and its report, as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from releq_gym.problem import Problem
from releq_gym.result import OnReport, Report, Result, describe_figures
from releq_gym.rewards.accuracy_floor import AccuracyFloor


def print_answer(console: Console, problem: Problem, result: Result) -> None:
    """Layers with their bitwidths, and what the search knows of the whole."""
    table = Table(title=f"{result.net}: best of {result.evaluations} assignments measured")
    for heading in ("layer", "kind"):
        table.add_column(heading)
    for heading in ("weights", "MACs", "bits"):
        table.add_column(heading, justify="right")
    for layer, bitwidth in zip(problem.layers, result.bitwidths, strict=True):
        table.add_row(
            layer.name, layer.kind, f"{layer.weights:,}", f"{layer.macs:,}", f"{bitwidth}"
        )
    console.print(table)
    full = problem.evaluator.full_precision_accuracy
    console.print(
        f"bits per weight {result.weighted_bitwidth:.2f}, plain average "
        f"{result.average_bitwidth:.2f}, {describe_figures(result)}\n"
        f"search accuracy {100 * result.accuracy:.2f} % (full precision {100 * full:.2f} %): loss "
        f"{result.loss_points:+.2f} points, {result.max_loss_points:g} may be lost, objective "
        f"{result.objective:.4f}",
        highlight=False,
    )
    if result.loss_points > result.max_loss_points + 1e-9:
        if isinstance(problem.reward, AccuracyFloor):
            advice = (
                f"Raise --evaluation-budget{', --cost-budget' if result.cost_budget else ''} or "
                "offer more bits."
            )
        else:
            advice = "Of the rewards only accuracy_floor insists on that."
        console.print(
            Text("Warning:", "bold yellow"),
            f"the best assignment found loses {result.loss_points:.2f} points, more than the "
            f"{result.max_loss_points:.2f} that may be lost. {advice}",
            highlight=False,
        )


def print_report(console: Console, report: Report) -> None:
    """The networks on the report split, losses with their paired 95 % interval."""
    caption = report.source
    if report.chosen.margin_points is not None:
        trained = report.full_precision.accuracy != report.checkpoint.accuracy
        likewise = " trained on likewise" if trained else ""
        caption += f"; loss against full precision{likewise}, ± 95 %"
    table = Table(title=f"report split, {report.images:,} images", caption=caption)
    table.add_column("network")
    for heading in ("accuracy", "loss in points"):
        table.add_column(heading, justify="right")
    uniform = report.uniform.bitwidths or ()
    rows = {
        "full precision": report.full_precision,
        "full precision, the checkpoint": report.checkpoint,
        f"uniform {max(uniform, default=0)} bits": report.uniform,
        "chosen bitwidths": report.chosen,
    }
    for label, measured in rows.items():
        table.add_row(label, f"{100 * measured.accuracy:.2f} %", _loss(measured))
    console.print(table)


def _loss(measured: OnReport) -> str:
    if measured.margin_points is None:
        return "" if measured.bitwidths is None else f"{measured.loss_points:+.2f}"
    return f"{measured.loss_points:+.2f} ± {measured.margin_points:.2f}"
