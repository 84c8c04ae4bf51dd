"""Searches and retrainings: one row at a time, each kept as soon as it is there."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

import releq_gym
from agents.train import main as train_agent
from benchmarks.paper_table.sweep import Plan
from benchmarks.rows import append_rows, read_rows
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.quantized import bake
from releq_gym.report import RESULT_FILE, Result, read_result, right_answers

FULL_PRECISION = "full precision"
ANSWER = "ours"

COLUMNS = (
    *("net", "quantizer", "label", "bitwidths", "seed", "correct", "images", "accuracy"),
    *("weighted_bitwidth", "average_bitwidth", "mac_bitwidth", "seconds", "version", "command"),
)

FINALISTS = (
    *("net", "quantizer", "bitwidths", "weighted_bitwidth"),
    *("short_loss_points", "long_loss_points"),
)


class Row(NamedTuple):
    """What is retrained and tested."""

    label: str
    bitwidths: tuple[int, ...] | None
    seed: int


class Bench:
    """The rows of one network under one quantizer.

    Args:
        net: By name.
        plan: What to run.
        results: Folder of ``rows.csv`` and of the right answers of each row.
        runs: Folder of the searches.
        data: Where the data set lies.
        console: Where progress goes.
    """

    def __init__(
        self,
        net: str,
        plan: Plan,
        results: Path,
        runs: Path,
        data: str | None,
        console: Console,
    ):
        self.net, self.plan, self.console = net, plan, console
        self.results, self.runs, self.data = results, runs, data
        self.evaluator = LiveEvaluator(
            net, data=data, quantizer=plan.quantizer, bitwidths=plan.bitwidths, recipe="short"
        )

    def run(self) -> None:
        """Does what is missing."""
        answers = [self.search(floor) for floor in self.plan.search_floors]
        chosen = self._choose(answers)
        done = set(finished(self.results / "rows.csv"))
        rows = [row for row in self._rows(chosen) if self._key(row) not in done]
        for number, row in enumerate(rows, 1):
            where = f"{self.net} {self.plan.quantizer}: {row.label}, seed {row.seed}"
            with self.console.status(f"{where} ({number} of {len(rows)})"):
                self._measure(row)

    def search(self, floor: float | None) -> Result:
        """The answer with the best search value among the seeds; runs what is missing.

        Args:
            floor: Loss in points that is tolerated after short retraining; None is the net's own.
        """
        results = []
        for seed in self.plan.search_seeds:
            name = f"{self.net}-{self.plan.quantizer}-{seed}"
            folder = self.runs / (name if floor is None else f"{name}-floor{floor}")
            if not (folder / RESULT_FILE).is_file() or not read_result(folder).finished:
                resume = ["--resume"] if folder.is_dir() and any(folder.iterdir()) else []
                options = self._search_options(seed, folder, floor)
                code = train_agent([*options, *resume])
                if code == 130:
                    raise KeyboardInterrupt
                if code:
                    raise SystemExit(code)  # what was wrong has been said
            results.append(read_result(folder))
        return max(results, key=lambda result: (result.objective, -result.cost))

    def _search_options(self, seed: int, folder: Path, floor: float | None) -> list[str]:
        plan = self.plan
        tolerated = [] if floor is None else ["--max-loss-points", str(floor)]
        data = ["--data", self.data] if self.data else []
        return [
            *("--net", self.net, "--evaluator", "live", "--recipe", "short", *data),
            *("--quantizer", plan.quantizer, "--bitwidths", *map(str, plan.bitwidths)),
            *("--evaluation-budget", str(plan.evaluation_budget), "--seed", str(seed)),
            *("--folder", str(folder), "--no-report", *tolerated),
        ]

    def _choose(self, answers: Sequence[Result]) -> Result:
        """The cheapest answer whose loss after long retraining is tolerable on search images.

        Where none is, the one that loses least. ``finalists.csv`` has them all.
        """
        if len(answers) == 1:
            return answers[0]
        full = self.evaluator.full_precision_accuracy
        losses: dict[tuple[int, ...], float] = {}
        path = self.results / "finalists.csv"
        known = {(row["net"], row["quantizer"], row["bitwidths"]) for row in read_rows(path)}
        for answer in answers:
            measured = self.evaluator.measure(answer.bitwidths, seed=0, recipe="long")
            losses[answer.bitwidths] = 100 * (full - measured.accuracy)
            if (self.net, self.plan.quantizer, _spaced(answer.bitwidths)) in known:
                continue
            finalist = {
                "net": self.net,
                "quantizer": self.plan.quantizer,
                "bitwidths": _spaced(answer.bitwidths),
                "weighted_bitwidth": answer.weighted_bitwidth,
                "short_loss_points": round(answer.loss_points, 3),
                "long_loss_points": round(losses[answer.bitwidths], 3),
            }
            append_rows(path, [finalist], FINALISTS)
        floor = self.evaluator.max_loss_points
        kept = [answer for answer in answers if losses[answer.bitwidths] <= floor]
        if kept:
            return min(kept, key=lambda answer: answer.cost)
        return min(answers, key=lambda answer: losses[answer.bitwidths])

    def _rows(self, answer: Result) -> Iterator[Row]:
        depth = len(self.evaluator.layers)
        for seed in self.plan.retraining_seeds:
            yield Row(FULL_PRECISION, None, seed)
            yield Row(ANSWER, answer.bitwidths, seed)
            for bitwidth in self.plan.uniform:
                yield Row(f"uniform {bitwidth}", (bitwidth,) * depth, seed)
            for source, bitwidths in self.plan.published.items():
                yield Row(source, bitwidths, seed)

    def _key(self, row: Row) -> tuple[str, str, str, int]:
        return self.net, self.plan.quantizer, _spaced(row.bitwidths), row.seed

    def _measure(self, row: Row) -> None:
        started = time.perf_counter()
        evaluator, seed = self.evaluator, REPORT_SEED + row.seed
        module = evaluator.train(row.bitwidths, seed, "long")
        right = right_answers(
            bake(module), evaluator.splits.report, evaluator.device, evaluator.normalise
        ).numpy()
        np.save(answers_path(self.results, *self._key(row)), np.packbits(right))
        layers = evaluator.layers
        bits = row.bitwidths or (32,) * len(layers)
        measured = {
            "net": self.net,
            "quantizer": self.plan.quantizer,
            "label": row.label,
            "bitwidths": _spaced(row.bitwidths),
            "seed": row.seed,
            "correct": int(right.sum()),
            "images": len(right),
            "accuracy": float(right.mean()),
            "weighted_bitwidth": np.average(bits, weights=[x.weights for x in layers]),
            "average_bitwidth": np.mean(bits),
            "mac_bitwidth": np.average(bits, weights=[x.macs for x in layers]),
            "seconds": round(time.perf_counter() - started, 1),
            "version": releq_gym.__version__,
            "command": shlex.join(
                f"python -m benchmarks.paper_table --net {self.net} "
                f"--quantizer {self.plan.quantizer}".split()
            ),
        }
        append_rows(self.results / "rows.csv", [measured], COLUMNS)


def finished(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """Keys of the rows that are there."""
    for row in read_rows(path):
        yield row["net"], row["quantizer"], row["bitwidths"], int(row["seed"])


def answers_path(results: Path, net: str, quantizer: str, bitwidths: str, seed: int) -> Path:
    """Which images a row classifies correctly, as packed bits."""
    folder = results / "right"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{net}-{quantizer}-{bitwidths.replace(' ', '')}-{seed}.npy"


def _spaced(bitwidths: Sequence[int] | None) -> str:
    return "full" if bitwidths is None else " ".join(map(str, bitwidths))
