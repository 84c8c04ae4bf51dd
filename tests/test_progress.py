import io

import pytest
from rich.console import Console

from releq_gym import progress
from releq_gym.progress import ProgressBars


def written(seconds, monkeypatch, **options):
    """What three steps of a bar leave in a file, where lines are so many seconds apart."""
    now = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(progress, "LINE_SECONDS", seconds)
    console = Console(file=io.StringIO(), width=80)
    with ProgressBars(console=console, **options) as bars:
        bar = bars.add_task("things", total=3)
        for done in (1, 2):
            bars.update(bar, completed=done)
        bars.advance(bar)
    return console.file.getvalue()


@pytest.mark.parametrize(("seconds", "shown"), [(1, ["33%", "67%", "100%"]), (1e9, ["100%"])])
def test_a_file_gets_a_line_now_and_then(seconds, shown, monkeypatch):
    lines = written(seconds, monkeypatch).splitlines()
    assert [line for line in lines if line.strip()][-1].split()[0] == "things"
    assert [each for each in ("33%", "67%", "100%") if any(each in line for line in lines)] == shown


def test_a_bar_that_is_not_shown_writes_nothing(monkeypatch):
    assert written(1, monkeypatch, disable=True).strip() == ""


def test_progress_goes_to_standard_error(capsys):
    with ProgressBars() as bars:
        bars.advance(bars.add_task("things", total=1))
    out, error = capsys.readouterr()
    assert out == ""
    assert "things" in error
