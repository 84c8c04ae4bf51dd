"""Ctrl-C waits, and is not lost."""

import signal
import threading

import pytest

from releq_gym.interrupts import Uninterrupted


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_comes_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt), Uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append("all")
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch):
    module = "releq_gym.interrupts"
    monkeypatch.setattr(f"{module}.getsignal", lambda number: None)
    monkeypatch.setattr(f"{module}.signal", lambda *arguments: pytest.fail("it was replaced"))
    with Uninterrupted():
        pass


def test_another_thread_changes_nothing():
    found = []

    def enter():
        with Uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]
