"""What is run: data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SEEDS = tuple(range(100, 120))
"""None of them was used while tuning."""

BUDGETS = {
    "digits-digits-wrpn-short-w2to8": (60, 120, 240, 600),
    "synthetic-20-0": (100, 300, 1000),
    "lenet-mnist-wrpn-short-w2to8": (60, 120, 240, 600),
}
"""Different assignments revealed, per task; the last is where a run ends."""

ENUMERATION = "enumeration"
"""Measures every assignment, and takes the answer of a search."""

SINGLE = ("uniform", ENUMERATION)
"""Searchers of which one run says all."""

AGENT = "recurrent_ppo"

VARIANTS: dict[str, dict[str, Any]] = {
    AGENT: {},
    f"{AGENT}, reward at every step": {"reward_timing": "every_step"},
    f"{AGENT}, telescoped reward": {"reward_timing": "telescoped"},
    f"{AGENT}, the paper's observation": {"observation": "paper"},
    f"{AGENT}, critic with an LSTM": {"critic_lstm": True},
    f"{AGENT}, fixed entropy": {"novelty": 0.0},
    f"{AGENT}, 4 epochs": {"n_epochs": 4},
    f"{AGENT}, learning rate 1e-3": {"learning_rate": 1e-3},
}
"""The default settings of the agent, and one change of them at a time."""


@dataclass(frozen=True)
class Study:
    """Runs that are made and shown together.

    Attributes:
        tasks: By name.
        searchers: Of `VARIANTS`, or of ``releq_gym/searchers/``, or `ENUMERATION`.
        seeds: Of every run.
    """

    tasks: tuple[str, ...]
    searchers: tuple[str, ...]
    seeds: tuple[int, ...]


STUDIES = {
    "searchers": Study(
        ("digits-digits-wrpn-short-w2to8", "synthetic-20-0"),
        (AGENT, "random", "local_search", "uniform"),
        SEEDS,
    ),
    "lenet": Study(
        ("lenet-mnist-wrpn-short-w2to8",),
        (AGENT, "random", "local_search", "uniform", ENUMERATION),
        SEEDS,
    ),
    "settings": Study(("synthetic-20-0",), (*VARIANTS, "random"), SEEDS[:10]),
}
