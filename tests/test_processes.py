import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from releq_gym.processes import process_pool


def note(folder):
    (folder / "started").touch()


def sleep(folder):
    (folder / f"{os.getpid()}.begun").touch()
    time.sleep(60)


def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


def gone(pid):
    """Whether a process has ended, waiting for that."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_processes_end_where_the_block_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), process_pool(2) as pool:
        for _ in range(8):
            pool.submit(sleep, tmp_path)
        while len(begun := list(tmp_path.glob("*.begun"))) < 2:
            time.sleep(0.01)
        raise ZeroDivisionError
    assert all(gone(int(path.stem)) for path in begun)
    assert len(list(tmp_path.glob("*.begun"))) == 2


def test_each_process_starts_as_it_is_told_and_leaves_interruptions_to_the_first(tmp_path):
    from functools import partial

    with process_pool(1, partial(note, tmp_path)) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN
    assert (tmp_path / "started").exists()


def test_a_failure_ends_the_processes_of_the_pool_alone():
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    with pytest.raises(ZeroDivisionError), process_pool(1):
        raise ZeroDivisionError
    other.join(1)
    assert other.is_alive()
    other.terminate()
    other.join()


def test_processes_end_with_a_first_one_that_is_killed(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_processes import process_pool, sleep\n"
        "if __name__ == '__main__':\n"
        "    with process_pool(1) as pool:\n"
        "        pool.submit(sleep, Path(sys.argv[1]))\n"
    )
    here = Path(__file__).parent
    first = subprocess.Popen([sys.executable, "-c", script, tmp_path, here])
    while not (begun := list(tmp_path.glob("*.begun"))):
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert gone(int(begun[0].stem))


def test_a_killed_process_is_a_sentence():
    with (
        pytest.raises(ValueError, match="A process ended before its work did"),
        process_pool(1) as pool,
    ):
        pool.submit(killed, 0).result()


def test_a_pool_is_made_in_any_thread():
    found = []

    def run():
        with process_pool(1) as pool:
            found.extend(pool.map(abs, [-1, -2]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [1, 2]
