"""Hashes of logs: they vouch for those that take too much room to be kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from releq_gym.replay import read_content
from releq_gym.whole_files import written_whole


def log_name(log: Path) -> str:
    """``TASK/SEARCHER/SEED.jsonl``, the end of a log's path, compressed or not."""
    return "/".join(log.parts[-3:]).removesuffix(".gz")


def content_sha256(content: bytes) -> str:
    """Of what a log says, by `read_content`."""
    return hashlib.sha256(content).hexdigest()


def read_digests(path: Path) -> dict[str, str]:
    """Hashes by `log_name`; none where there is no file yet.

    Raises:
        ValueError: Where a line is none of ``sha256sum``.
    """
    held = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    digests = {}
    for number, line in enumerate(held, 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise ValueError(f"{path}, line {number}, has to read SHA256  TASK/SEARCHER/SEED.jsonl")
        digests[name] = digest
    return digests


def add_digests(logs: Iterable[Path], path: Path) -> None:
    """Adds hashes of the logs that a file does not know yet, in the form of ``sha256sum``.

    Args:
        logs: Named as `log_name` says.
        path: The file; its own hashes stay.
    """
    digests = read_digests(path)
    new = {log_name(log): log for log in logs if log_name(log) not in digests}
    if new:
        digests |= {name: content_sha256(read_content(log)) for name, log in new.items()}
        with written_whole(path) as partial:
            lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
            partial.write_text("".join(lines), encoding="utf-8")
