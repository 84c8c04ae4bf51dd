import os
import signal
import threading
import time

import pytest

from benchmarks.pool import append_each
from benchmarks.rows import read_rows


def rows_of(number):
    if number == 0:
        raise ModuleNotFoundError("No module named 'nothing'")
    return [{"number": number}]


def test_where_one_run_fails_the_others_are_kept(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        append_each(rows_of, [(number,) for number in range(4)], path, ["number"], 1)
    assert {row["number"] for row in read_rows(path)} == {"1", "2", "3"}
    printed = capsys.readouterr().err
    assert "0 failed, the others go on" in printed and "Traceback" in printed


def slow_rows(number, begun):
    (begun / str(number)).touch()
    time.sleep(0 if number == 0 else 30)
    return [{"number": number}]


def interrupt(signal_, *awaited):
    while not all(path.exists() for path in awaited):
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(os.getpid(), signal_)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_what_has_not_ended_is_dropped_after_an_interruption(tmp_path, signal_):
    path, begun = tmp_path / "rows.csv", tmp_path / "begun"
    begun.mkdir()
    threading.Thread(target=interrupt, args=(signal_, begun / "1", path), daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        append_each(slow_rows, [(number, begun) for number in range(9)], path, ["number"], 1)
    assert time.monotonic() - started < 20
    assert {row["number"] for row in read_rows(path)} == {"0"}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    time.sleep(0.3)
    assert len(list(begun.iterdir())) == 2


def killed_rows(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"number": number}]


def test_a_killed_process_is_said_in_a_sentence(tmp_path):
    path = tmp_path / "rows.csv"
    with pytest.raises(ValueError, match="A process ended before its work did"):
        append_each(killed_rows, [(number,) for number in range(6)], path, ["number"], 1)
    assert {row["number"] for row in read_rows(path)} <= {"0"}
