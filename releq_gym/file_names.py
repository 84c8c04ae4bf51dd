"""File names of what users call their things."""

from __future__ import annotations

import re


def as_file_name(text: str) -> str:
    """``"package.module:factory"`` as ``"package.module_factory"``: no separator is left."""
    return re.sub(r"[^\w.-]+", "_", text)
