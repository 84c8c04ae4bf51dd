"""What a search found: its figures as text, its files, its network."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from releq_gym.layers import Layer
from releq_gym.pareto import ParetoPoint, write_search
from releq_gym.quantized import QUANTIZED_FILE, load_quantized
from releq_gym.result import Result, describe_figures
from releq_gym.search_display import described_unquantized
from releq_gym.whole_files import written_whole


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What `releq_gym.search` found; ``print`` shows it as tables.

    Attributes:
        record: Everything about the chosen assignment as plain data, what ``result.json`` holds.
        chosen: The best assignment measured.
        pareto: The measured assignments that no other one beats in loss and cost, cheapest first.
        full_precision_accuracy: On the search split, in [0, 1].
        quantized_layers: The layers, in the order of all bitwidths.
        standard_error_points: Of the loss on the search split, in percentage points: how far from
            the limit an assignment has to stay to be preferred, see `Ledger.best`.
        retrained: Whether a retraining is behind every accuracy.
        untested: Why the answer was not tested on a report split; empty where it was.
    """

    record: Result
    chosen: ParetoPoint
    pareto: tuple[ParetoPoint, ...]
    full_precision_accuracy: float
    quantized_layers: tuple[Layer, ...]
    standard_error_points: float
    retrained: bool
    untested: str
    _content: bytes = field(repr=False)
    _module: nn.Module = field(repr=False)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the quantized layers, in the order of all bitwidths."""
        return self.record.layers

    @property
    def unquantized(self) -> tuple[str, ...]:
        """Parameters of two or more axes that stay in full precision."""
        return self.record.unquantized

    @property
    def tolerable(self) -> bool:
        """Whether the chosen assignment loses no more than may be lost, on the search split."""
        return self.chosen.loss_points <= self.record.max_loss_points + 1e-9

    @cached_property
    def network(self) -> nn.Module:
        """The quantized network of the chosen assignment.

        In evaluation mode, on the CPU, its weights plain float32 tensors that hold the quantized
        values; to the bit what `load_quantized` reads from the saved file.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / QUANTIZED_FILE
            path.write_bytes(self._content)
            network = load_quantized(path, self._module).cpu()
        # As one builds it; the search may have had it in the layout that is faster.
        return network.to(memory_format=torch.contiguous_format)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes ``pareto.csv``, ``pareto.png``, ``result.json`` and ``quantized.safetensors``.

        ``releq evaluate FOLDER`` reproduces the report from them, `load_quantized` reads the
        network. Each file appears whole or not at all, and replaces one of its name.

        Args:
            folder: Is made where it is missing.

        Raises:
            ValueError: Where it cannot be written.
        """
        folder = Path(folder)
        try:
            with written_whole(folder / QUANTIZED_FILE) as partial:
                partial.write_bytes(self._content)
            write_search(folder, self.record, self.pareto, self.chosen)
        except OSError as error:
            raise ValueError(f"The folder {folder} cannot be written: {error}.") from None

    def __str__(self) -> str:
        """Layers, figures and Pareto set, as plain text."""
        return "\n\n".join([self._layer_table(), self._figures(), self._pareto_table()])

    def _layer_table(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.quantized_layers))
        lines = [f"{'layer':<{width}}  {'kind':<10}  {'weights':>12}  bits"]
        for layer, bitwidth in zip(self.quantized_layers, self.chosen.bitwidths, strict=True):
            lines.append(
                f"{layer.name:<{width}}  {layer.kind:<10}  {layer.weights:>12,}  {bitwidth:>4}"
            )
        return "\n".join(lines)

    def _figures(self) -> str:
        record, chosen = self.record, self.chosen
        mean = "" if record.metric is None else "mean score "
        against = " against the checkpoint" if self.retrained else ""
        lines = [
            f"{record.task}: best of {record.evaluations} assignments, {record.seconds:.0f} s",
            describe_figures(record),
            f"bits per weight {chosen.weighted_bitwidth:.2f}, plain average "
            f"{chosen.average_bitwidth:.2f}",
            f"search split: {mean}{100 * chosen.accuracy:.2f} %, full precision "
            f"{100 * self.full_precision_accuracy:.2f} %: loses "
            f"{_points(chosen.loss_points, record.margin_points)}{against}",
            self._limit(),
        ]
        if self.unquantized:
            left = described_unquantized(self._module, self.unquantized)
            lines.insert(3, f"not quantized: {left}")
        means, stds = record.provenance["mean"], record.provenance["std"]
        if any(means) or any(std != 1 for std in stds):
            lines.insert(3, f"its inputs: (x - {means}) / {stds} for x in 0 to 1")
        if (report := record.report) is None:
            lines.append(f"report split: {self.untested}")
        else:
            held, full = report.chosen, report.full_precision
            likewise = " retrained likewise" if self.retrained else ""
            lines.append(
                f"report split: {mean}{100 * held.accuracy:.2f} % of {report.images:,} images, "
                f"full precision{likewise} {100 * full.accuracy:.2f} %: loses "
                f"{_points(held.loss_points, held.margin_points)} ({report.source})"
            )
            if self.tolerable and held.loss_points > record.max_loss_points + 1e-9:
                lines.append(
                    "That is more than may be lost: the search images did not tell it. Search on "
                    "more of them, or with a lower limit."
                )
        return "\n".join(lines)

    def _limit(self) -> str:
        """What may be lost, and how far the answer stays away from it."""
        limit, error = self.record.max_loss_points, self.standard_error_points
        allowed = f"{limit:.2f} points may be lost"
        if not self.tolerable:
            return (
                f"{allowed}. Nothing that was measured keeps the loss within that; this is the "
                f"best of it. Allow a higher loss, offer more bits, {self._budget_advice()}or "
                "retrain (recipe)."
            )
        away = f"a standard error or more below that ({error:.2f} points"
        away += ")" if self.record.metric is None else ", if scores were all 0 or 1)"
        if self.chosen.loss_points + error <= limit + 1e-9:
            return f"{allowed}; the answer stays {away}"
        return f"{allowed}; nothing that was measured stays {away}"

    def _budget_advice(self) -> str:
        """What else helps where a budget leaves too few bits."""
        if not self.record.cost_budget:
            return ""
        if "bytes" in self.record.figures and "per_channel" in self.record.task:
            return (
                "raise cost_budget, spend none of it on a step per channel "
                "(quantizer_kwargs={'per_channel': False}, --per-layer), "
            )
        return "raise cost_budget, "

    def _pareto_table(self) -> str:
        lines = ["    cost    loss  bits per weight  bitwidths"]
        for point in self.pareto:
            mark = "*" if point.bitwidths == self.chosen.bitwidths else " "
            lines.append(
                f"{mark} {point.cost:>6.3f}  {point.loss_points:>6.2f}  "
                f"{point.weighted_bitwidth:>15.2f}  {' '.join(map(str, point.bitwidths))}"
            )
        return "\n".join(lines)


def _points(loss: float, margin: float | None) -> str:
    """A loss, with half its 95 % interval where that is known."""
    return f"{loss:.2f} points" if margin is None else f"{loss:.2f} ± {margin:.2f} points (95 %)"
