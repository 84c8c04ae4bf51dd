"""The leaderboard as one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader

import releq_gym
from benchmarks.tables import Table

HERE = Path(__file__).parent


class Picture(NamedTuple):
    """One figure.

    Attributes:
        title: Instead of it, where it cannot be seen.
        source: A ``data:`` address.
    """

    title: str
    source: str


class Section(NamedTuple):
    """What is shown of a track."""

    tables: Sequence[Table]
    pictures: Sequence[Picture]


def render(tracks: Sequence[Section], command: str) -> str:
    """The page.

    Args:
        tracks: In this order.
        command: That made the rows.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("page.html")
    return template.render(tracks=tracks, command=command, version=releq_gym.__version__)
