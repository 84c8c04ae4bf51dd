"""What was measured once is not measured again: an on-disk store of results."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from releq_gym.cache import cache_folder
from releq_gym.plain_numbers import as_json

T = TypeVar("T")

BUSY_SECONDS = 60.0
"""How long one process waits for another that is writing."""


class Memo:
    """JSON values in SQLite, each under a hash of everything that can change it.

    `releq_gym.evaluators.live` keeps its measurements here, `releq_gym.evaluators.remembered` what
    else it takes to answer from them.

    Every operation opens the file anew (cheap beside any retraining), so that a memo can be
    pickled, forked, copied and shared by threads. A file that SQLite calls damaged is set aside as
    ``*.corrupt-N`` with a warning, and a new one begun.

    Args:
        path: The file; None means ``memo.sqlite3`` in ``$RELEQ_GYM_CACHE``, else in the user's
            cache folder.

    Raises:
        ValueError: Where the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        self.path = Path(path).expanduser() if path is not None else cache_folder() / "memo.sqlite3"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._attempt(lambda database: None)
        except (OSError, sqlite3.OperationalError) as error:
            raise ValueError(
                f"The memo {self.path} cannot be opened ({error}). Set RELEQ_GYM_CACHE to a folder "
                "that can be written, or pass memo=False."
            ) from error

    def get(self, fields: Mapping[str, Any]) -> Any:
        """The value stored for ``fields``; None where there is none, or none that can be read."""
        return self.get_many([fields])[0]

    def put(self, fields: Mapping[str, Any], value: Any) -> None:
        """Stores ``value`` for ``fields``; the last writer wins."""
        self.put_many([(fields, value)])

    def get_many(self, many: Sequence[Mapping[str, Any]]) -> list[Any]:
        """As `get`, in one transaction."""
        keys = [hash_fields(fields) for fields in many]

        def read(database: sqlite3.Connection) -> list[Any]:
            # As bytes: text that is no UTF-8 would make SQLite itself raise.
            query = "SELECT CAST(value AS BLOB) FROM results WHERE key = ?"
            return [database.execute(query, (key,)).fetchone() for key in keys]

        return [_decoded(row) for row in self._attempt(read)]

    def put_many(self, many: Sequence[tuple[Mapping[str, Any], Any]]) -> None:
        """As `put`, in one transaction."""
        rows = [(hash_fields(fields), json.dumps(value)) for fields, value in many]
        self._attempt(
            lambda database: database.executemany(
                "INSERT OR REPLACE INTO results VALUES (?, ?)", rows
            )
        )

    def _attempt(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Runs ``operation`` in a transaction; on a damaged file, once more on a new one."""
        try:
            with self._open() as database:
                return operation(database)
        except sqlite3.OperationalError:
            raise  # busy, full or forbidden, but not damaged
        except sqlite3.DatabaseError:
            self._set_aside()
        with self._open() as database:
            return operation(database)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
        try:
            _log_ahead(database)
            # A power cut may cost the newest results or the file: it is a cache, so be it.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(
                "CREATE TABLE IF NOT EXISTS results (key BLOB PRIMARY KEY, value TEXT NOT NULL) "
                "WITHOUT ROWID"
            )
            with database:
                yield database
        finally:
            database.close()

    def _set_aside(self) -> None:
        """Renames the damaged file, unless another process has done so meanwhile."""
        if self._is_sound():
            return
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.corrupt-{number}")).exists():
            number += 1
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        warnings.warn(
            f"The memo {self.path} was damaged; it is now {aside.name}, and a new one is begun.",
            stacklevel=4,
        )

    def _is_sound(self) -> bool:
        try:
            with self._open() as database:
                return database.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False


def _log_ahead(database: sqlite3.Connection) -> None:
    """Lets readers and a writer work at once; sqlite itself does not wait for a lock here."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def open_memo(memo: bool | str | os.PathLike | Memo) -> Memo | None:
    """The memo that ``memo=`` asks for: the user's, one at a path, or None for False."""
    if isinstance(memo, bool):
        return Memo() if memo else None
    if not isinstance(memo, str | os.PathLike | Memo):
        raise ValueError(f"memo={memo!r} has to be True, False, the path of a file, or a Memo.")
    return memo if isinstance(memo, Memo) else Memo(memo)


def _decoded(row: tuple[bytes] | None) -> Any:
    try:
        return None if row is None else json.loads(row[0])
    except ValueError:
        return None


def hash_fields(fields: Mapping[str, Any]) -> bytes:
    """The sha256 of ``fields`` as canonical JSON; the order of the keys does not matter."""
    text = json.dumps(
        fields, sort_keys=True, separators=(",", ":"), allow_nan=False, default=as_json
    )
    return hashlib.sha256(text.encode()).digest()
