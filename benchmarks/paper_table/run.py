"""Long retrainings and tests: one at a time, each kept as soon as it is there."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from torch import nn

import releq_gym
from benchmarks.paper_table import search
from benchmarks.paper_table.sweep import Plan
from benchmarks.rows import append_rows, read_rows
from releq_gym.evaluators.live import REPORT_SEED, LiveEvaluator
from releq_gym.networks import Recipe
from releq_gym.progress import ProgressBars
from releq_gym.quantized import bake
from releq_gym.report import right_answers
from releq_gym.whole_files import written_whole

Bitwidths = tuple[int, ...] | None
"""One per layer; None is full precision."""

TESTS = (
    *("net", "quantizer", "bitwidths", "seed", "correct", "images", "accuracy"),
    *("weighted_bitwidth", "average_bitwidth", "mac_bitwidth", "seconds", "version", "command"),
    "made_with",
)

CANDIDATES = (
    *("net", "quantizer", "family", "bitwidths", "weighted_bitwidth", "long_loss_points"),
    *("keeps", "seconds", "made_with"),
)


class Candidate(NamedTuple):
    """An assignment that a family of them offers; that family is a searcher or a shape."""

    family: str
    bitwidths: tuple[int, ...]


class Bench:
    """The rows of one network under one quantizer.

    Args:
        net: By name.
        plan: What to run.
        results: Folder of the rows.
        networks: Folder of the retrained networks.
        data: Where the data set lies.
        console: Where progress goes.
        weights: Checkpoint; None means the shipped or public one.
    """

    def __init__(
        self,
        net: str,
        plan: Plan,
        results: Path,
        networks: Path,
        data: str | None,
        console: Console,
        weights: str | None = None,
    ):
        self.net, self.plan, self.console = net, plan, console
        self.results, self.networks = results, networks
        self.data, self.weights = data, weights

    @cached_property
    def evaluator(self) -> LiveEvaluator:
        """What retrains and tests."""
        return LiveEvaluator(
            self.net,
            data=self.data,
            weights=self.weights,
            quantizer=self.plan.quantizer,
            quantizer_kwargs={"per_channel": True} if self.plan.per_channel else None,
            bitwidths=self.plan.bitwidths,
            recipe="short" if self.plan.recipe == "long" else self.plan.recipe,
            repeats=1,
        )

    @cached_property
    def recipe(self) -> Recipe:
        """What every row is retrained by."""
        return dataclasses.replace(self.evaluator.recipes[self.plan.recipe], **self.plan.long)

    @cached_property
    def made_with(self) -> str:
        """Digest of what a row depends on beside its bitwidths and seed.

        But for the report images, which are not opened to learn whether something is missing.
        """
        evaluator = self.evaluator
        splits = evaluator.splits.train, evaluator.splits.search
        told = [
            dataclasses.asdict(self.recipe),
            [evaluator.quantizer.name, dataclasses.asdict(evaluator.quantizer)],
            evaluator.weights_sha256,
            [None if split is None else split.sha256 for split in splits],
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    def run(self) -> None:
        """Does what is missing.

        Raises:
            ValueError: Where rows of this network were made with something else.
        """
        for name in ("rows.csv", "candidates.csv"):
            for row in self._rows(name):
                if row.get("made_with") != self.made_with:
                    raise ValueError(
                        f"{self.results / name} holds rows of {self.net}, {self.plan.quantizer}, "
                        "that were made with another recipe, checkpoint, or images; remove them, "
                        "or take what they were made with."
                    )
        chosen = [self._choose(family) for family in self._families()]
        done = {(row["bitwidths"], int(row["seed"])) for row in self._rows("rows.csv")}
        tested = list(dict.fromkeys(self._tested(chosen)))
        for seed in self.plan.retraining_seeds:
            for bitwidths in tested:
                if (spaced(bitwidths), seed) not in done:
                    self._test(bitwidths, seed)
        for _ in self._answers(self.plan.compared):
            pass

    def _rows(self, name: str) -> list[dict[str, str]]:
        return rows_of(self.results / name, self.net, self.plan.quantizer)

    def _answers(self, searchers: Sequence[str]) -> Iterator[dict[str, str]]:
        live = None if self.plan.task else self.evaluator
        return search.answers(self.net, self.plan, searchers, live, self.results, self.console)

    def _families(self) -> Iterator[list[Candidate]]:
        """What each family offers, fewest bits per weight first."""
        best: dict[tuple[str, str], dict[str, str]] = {}
        for row in self._answers(self.plan.searchers):
            key = row["searcher"], row["floor"]
            if key not in best or float(row["objective"]) > float(best[key]["objective"]):
                best[key] = row
        depth = len(self.evaluator.layers)
        offers = [Candidate(one["searcher"], unspaced(one["bitwidths"])) for one in best.values()]
        offers += [Candidate("uniform", (bits,) * depth) for bits in self.plan.uniform]
        offers += [
            Candidate("ends_at_8", (8, *(bits,) * (depth - 2), 8)) for bits in self.plan.ends_at_8
        ]
        for family in dict.fromkeys(offer.family for offer in offers):
            offered = {offer for offer in offers if offer.family == family}
            yield sorted(offered, key=lambda offer: (self._weighted(offer.bitwidths), offer))

    def _choose(self, family: Sequence[Candidate]) -> tuple[int, ...]:
        """The candidate that `chosen` chooses, found by bisection: few are retrained.

        More bits per weight are taken to lose no more, which by and large is so.
        """
        rows: list[Mapping[str, str]] = []
        first, last = 0, len(family)
        while first < last:
            middle = (first + last) // 2
            rows.append(self._retrained(family[middle]))
            if rows[-1]["keeps"] == "True":
                last = middle
            else:
                first = middle + 1
        return unspaced(chosen(rows)["bitwidths"])

    def _retrained(self, candidate: Candidate) -> Mapping[str, str]:
        """Its row, with the loss against full precision trained on by the same recipe."""
        bitwidths = spaced(candidate.bitwidths)
        known = [row for row in self._rows("candidates.csv") if row["bitwidths"] == bitwidths]
        for row in known:
            if row["family"] == candidate.family:
                return row
        if known:  # another family offers it, too
            row = {**known[0], "family": candidate.family}
        else:
            started = time.perf_counter()
            first = self.plan.retraining_seeds[0]
            lost = 100 * (self._full_precision - self._searched(candidate.bitwidths, first))
            loss, doubt = lost.mean(), lost.std(ddof=1) / np.sqrt(len(lost))
            row = {
                "net": self.net,
                "quantizer": self.plan.quantizer,
                "family": candidate.family,
                "bitwidths": bitwidths,
                "weighted_bitwidth": str(self._weighted(candidate.bitwidths)),
                "long_loss_points": str(round(float(loss), 3)),
                "keeps": str(
                    loss + self.plan.caution * doubt <= self.evaluator.max_loss_points + 1e-9
                ),
                "seconds": str(round(time.perf_counter() - started, 1)),
                "made_with": self.made_with,
            }
        append_rows(self.results / "candidates.csv", [row], CANDIDATES)
        return row

    @cached_property
    def _full_precision(self) -> NDArray[np.float64]:
        """`_searched` of full precision, trained on: the mean of all seeds.

        All of them are trained for the test anyway, and a lucky one would make everybody look bad.
        """
        each = [self._searched(None, seed) for seed in self.plan.retraining_seeds]
        return np.mean(each, axis=0)

    def _searched(self, bitwidths: Bitwidths, seed: int) -> NDArray[np.float64]:
        """Which search images are right after long retraining: 1 or 0, float64 ``[images]``."""
        network = self._network(bitwidths, seed)
        evaluator = self.evaluator
        right = right_answers(
            network, evaluator.splits.search, evaluator.device, evaluator.normalise
        )
        return right.double().numpy()

    def _tested(self, chosen: Sequence[tuple[int, ...]]) -> Iterator[Bitwidths]:
        depth = len(self.evaluator.layers)
        yield None
        yield from chosen
        for bits in self.plan.shown:
            yield (bits,) * depth
        yield from self.plan.published.values()
        yield from self.plan.further

    def _network(self, bitwidths: Bitwidths, seed: int) -> nn.Module:
        """Retrained for long, with plain weights; trained once."""
        name = f"{self.net}-{self.plan.quantizer}-{spaced(bitwidths).replace(' ', '')}-{seed}"
        path = self.networks / f"{name}-{self.made_with}.safetensors"
        if not path.is_file():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:.0f} %"),
                TimeRemainingColumn(),
            )
            with ProgressBars(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task(f"retraining {name}", total=1.0)
                module = self.evaluator.train(
                    bitwidths,
                    REPORT_SEED + seed,
                    self.recipe,
                    lambda share: bar.update(task, completed=share),
                )
            with written_whole(path) as partial:
                safetensors.torch.save_model(bake(module), str(partial))
        network = copy.deepcopy(self.evaluator.module)
        safetensors.torch.load_model(network, path)
        return network.eval()

    def _test(self, bitwidths: Bitwidths, seed: int) -> None:
        started = time.perf_counter()
        evaluator = self.evaluator
        network = self._network(bitwidths, seed)
        right = right_answers(
            network, evaluator.splits.report, evaluator.device, evaluator.normalise
        ).numpy()
        key = self.net, self.plan.quantizer, spaced(bitwidths), seed
        np.save(answers_path(self.results, *key), np.packbits(right))
        layers = evaluator.layers
        bits = bitwidths or (32,) * len(layers)
        row: dict[str, Any] = {
            **dict(zip(TESTS, key, strict=False)),
            "correct": int(right.sum()),
            "images": len(right),
            "accuracy": float(right.mean()),
            "weighted_bitwidth": self._weighted(bits),
            "average_bitwidth": np.mean(bits),
            "mac_bitwidth": np.average(bits, weights=[layer.macs for layer in layers]),
            "seconds": round(time.perf_counter() - started, 1),
            "version": releq_gym.__version__,
            "command": shlex.join(
                f"python -m benchmarks.paper_table --net {self.net} "
                f"--quantizer {self.plan.quantizer}".split()
            ),
            "made_with": self.made_with,
        }
        append_rows(self.results / "rows.csv", [row], TESTS)

    def _weighted(self, bitwidths: Sequence[int]) -> float:
        weights = [layer.weights for layer in self.evaluator.layers]
        return float(np.average(bitwidths, weights=weights))


def rows_of(path: Path, net: str, quantizer: str) -> list[dict[str, str]]:
    """Those rows of a file that are about a network under a quantizer."""
    return [row for row in read_rows(path) if (row["net"], row["quantizer"]) == (net, quantizer)]


def chosen(family: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """The row with the fewest bits per weight that keeps the tolerated loss on search images.

    Where none does, the one that loses least.

    Args:
        family: Rows of ``candidates.csv``, at least one.
    """
    keeping = [row for row in family if row["keeps"] == "True"]
    if keeping:
        return min(keeping, key=lambda row: float(row["weighted_bitwidth"]))
    return min(family, key=lambda row: float(row["long_loss_points"]))


def answers_path(results: Path, net: str, quantizer: str, bitwidths: str, seed: int) -> Path:
    """Which images a row classifies correctly, as packed bits."""
    folder = results / "right"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{net}-{quantizer}-{bitwidths.replace(' ', '')}-{seed}.npy"


def spaced(bitwidths: Bitwidths) -> str:
    """As files have them."""
    return "full" if bitwidths is None else " ".join(map(str, bitwidths))


def unspaced(text: str) -> tuple[int, ...]:
    """The inverse for an assignment."""
    return tuple(map(int, text.split()))
