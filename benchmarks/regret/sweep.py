"""What is run: data only."""

from __future__ import annotations

SEEDS = tuple(range(100, 120))
"""None of them was used while tuning."""

BUDGETS = {
    "digits-digits-wrpn-short-w2to8": (60, 120, 240, 600),
    "synthetic-20-0": (100, 300, 1000),
}
"""Different assignments revealed, per task; the last is where a run ends."""

SEARCHERS = ("recurrent_ppo", "random", "local_search", "uniform")
"""Agents by their name in ``agents/``, others by theirs in ``releq_gym/search/``."""

EPISODES_PER_EVALUATION = 20
"""A policy that has played this many episodes per assignment of its budget has converged."""
