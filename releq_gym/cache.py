"""Where this package keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``$RELEQ_GYM_CACHE``, else the user's cache folder for this package."""
    named = os.environ.get("RELEQ_GYM_CACHE")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("releq_gym")
