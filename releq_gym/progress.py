"""Progress bars of whatever lasts; where no terminal shows them, a line now and then."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn

LINE_SECONDS = 60.0


class ProgressBars(Progress):
    """rich's `Progress`, which also writes lines where nothing can be drawn anew.

    The log of a batch job, say, gets a line a minute at most, as soon as something moves on.

    Args:
        *columns: See `Progress`.
        console: Where; None means standard error, so that standard output has results alone.
        **options: See `Progress`.
    """

    def __init__(
        self, *columns: str | ProgressColumn, console: Console | None = None, **options: Any
    ):
        super().__init__(*columns, console=console or Console(stderr=True), **options)
        self._written = time.monotonic()

    def update(self, *arguments: Any, **fields: Any) -> None:
        """As `Progress.update`."""
        super().update(*arguments, **fields)
        self._write_line()

    def advance(self, *arguments: Any, **fields: Any) -> None:
        """As `Progress.advance`."""
        super().advance(*arguments, **fields)
        self._write_line()

    def _write_line(self) -> None:
        console = self.console
        drawn = console.is_interactive or console.is_jupyter or self.disable
        if not drawn and time.monotonic() - self._written >= LINE_SECONDS:
            console.print(self.get_renderable())
            self._written = time.monotonic()
