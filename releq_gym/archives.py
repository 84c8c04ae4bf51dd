"""What may go wrong in ``.npz`` files."""

from __future__ import annotations

import zipfile
import zlib

DAMAGED = (
    ValueError,
    KeyError,
    OSError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that numpy raises of a file that is damaged, truncated or holds something else."""
