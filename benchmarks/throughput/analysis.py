"""Headings of the tables that `benchmarks.parts` makes of the rows."""

from __future__ import annotations

TITLES = {
    "single": "One environment, beside CartPole",
    "vector": "Vector environments, beside CartPole's",
    "training": "The environment's part of training",
    "start": "From the start of Python to the first observation",
}
