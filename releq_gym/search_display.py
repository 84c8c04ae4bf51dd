"""What a search says on stderr while it runs: how long it takes, how far it is, what it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from rich.console import Console
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Answer
from releq_gym.progress import ProgressBars

if TYPE_CHECKING:  # searches in tasks need no torch
    from torch import nn

    from releq_gym.evaluators.live import LiveEvaluator


class Watched(gym.Wrapper):
    """Shows how far a search is, and the best so far as `Ledger.best` ranks.

    Args:
        env: What is searched.
        bar: Where.
    """

    def __init__(self, env: QuantizeNetEnv, bar: ProgressBars):
        super().__init__(env)
        budget = (env.ledger.evaluation_budget or {}).get("distinct")
        self._ledger, self._problem = env.ledger, env.problem
        self._best: Answer | None = None
        self._bar, self._task = bar, bar.add_task("searching", total=budget)

    def step(self, action: Any) -> Any:
        """As the environment's."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if info["evaluated"]:
            self._bar.update(self._task, completed=self._ledger.distinct)
            # All are ranked anew only where the first place may have changed.
            if self._best is None or self._may_lead(info["bitwidths"]):
                self._best = best = self._ledger.best(self._problem)
                if best is not None:
                    found = f"cost {best.cost:.3f} loses {best.loss_points:.2f}"
                    self._bar.update(self._task, description=found)
        return observation, reward, terminated, truncated, info

    def finish(self) -> None:
        """The search is over, be it that it has asked for less than it might."""
        self._bar.update(self._task, total=self._ledger.distinct, completed=self._ledger.distinct)

    def _may_lead(self, bitwidths: tuple[int, ...]) -> bool:
        assert self._best is not None
        if bitwidths == self._best.bitwidths:
            return True
        rank, accuracy = self._problem.rank, self._ledger.cell(self._problem, bitwidths).accuracy
        return rank(bitwidths, accuracy) > rank(self._best.bitwidths, self._best.accuracy)


def progress_of_search(console: Console) -> ProgressBars:
    """The bar of `Watched`."""
    return ProgressBars(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} assignments"),
        TimeRemainingColumn(),
        console=console,
        disable=console.quiet,
    )


@contextmanager
def best_when_stopped(console: Console, env: QuantizeNetEnv) -> Iterator[None]:
    """Says what has been found when Ctrl-C ends a search, and how to have it written."""
    try:
        yield
    except KeyboardInterrupt:
        ledger, best = env.ledger, env.ledger.best(env.problem)
        if best is not None:
            console.print(
                f"best of {ledger.distinct} assignments: {' '.join(map(str, best.bitwidths))}, "
                f"cost {best.cost:.3f}, loses {best.loss_points:.2f} points; a search with "
                f"evaluation_budget={ledger.distinct} (--evaluation-budget) goes no further",
                soft_wrap=True,
            )
        raise


def announce(
    console: Console,
    evaluator: LiveEvaluator,
    env: QuantizeNetEnv,
    unquantized: Sequence[str],
    retrainings: float,
) -> None:
    """Says what is searched and how long it takes, from a measurement or two.

    Args:
        console: Where.
        evaluator: Of the network.
        env: What is searched.
        unquantized: Names of parameters that are not.
        retrainings: How many of the search's measurements the last retraining is worth.
    """
    if console.quiet:
        return
    weights = sum(layer.weights for layer in evaluator.layers)
    lines = [f"{evaluator.name}: {len(evaluator.layers)} layers, {weights:,} weights"]
    lines.append(str(evaluator.splits))
    if unquantized:
        left = described_unquantized(evaluator.module, unquantized)
        lines.append(f"not quantized: {left}, of {', '.join(unquantized)}")
    first = [env.problem.start]
    if evaluator.shares(evaluator.recipe):
        # The very first measurement of a process takes much longer.
        first.append((evaluator.bitwidths[0],) * len(evaluator.layers))
    seconds = min(evaluator.evaluate(each, 0).milliseconds for each in first) / 1e3
    budget = (env.ledger.evaluation_budget or {})["distinct"]
    lasts = f"up to {budget} assignments at {seconds:.2g} s: about {_duration(budget * seconds)}"
    if not evaluator.forgets:
        lasts += ", less where they have been measured before"
    if retrainings:
        lasts += f"; retraining the answer: about {_duration(retrainings * seconds)} more"
    lines.append(lasts)
    lines.append(
        f"nothing is kept: {evaluator.forgets}"
        if evaluator.forgets
        else "what is measured is kept: the same search takes it up again after Ctrl-C"
    )
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def described_unquantized(module: nn.Module, names: Sequence[str]) -> str:
    """How many numbers `unquantized_parameters` are, in words.

    Args:
        module: The network.
        names: Of its parameters.
    """
    numbers = sum(module.get_parameter(name).numel() for name in names)
    return f"{numbers:,} weights, {4 * numbers:,} bytes in float32, which no figure counts"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Retrainings:
    """Shows which network a final report is at; a context that takes what each is called.

    Args:
        console: Where.
        verb: What is done with them, such as ``"retraining"``.
        total: How many there are.
    """

    def __init__(self, console: Console, verb: str, total: int):
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} networks"),
            TimeElapsedColumn(),
        )
        self._bar = ProgressBars(*columns, console=console, disable=console.quiet)
        self._verb, self._total, self._begun = verb, total, 0
        self._task = self._bar.add_task(f"{verb} the answer", total=total)

    def __enter__(self) -> Retrainings:
        self._bar.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._show("is done", self._total)
        self._bar.stop()

    def __call__(self, what: str) -> None:
        """The next network begins; those before it are done."""
        self._show(what, self._begun)
        self._begun += 1

    def _show(self, what: str, completed: int) -> None:
        self._bar.update(self._task, description=f"{self._verb} {what}", completed=completed)
