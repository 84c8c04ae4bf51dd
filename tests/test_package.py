import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import releq_gym

ROOT = Path(__file__).parents[1]

IMPORT_IS_QUIET = """
import sys
opened = []
def watch(event, args):
    path = str(args[0]) if args else ""
    if event == "open" and "releq_gym" in path and not path.endswith((".py", ".pyc")):
        opened.append(path)
sys.addaudithook(watch)
import releq_gym
assert "torch" not in sys.modules and "matplotlib" not in sys.modules
assert not opened, opened
"""

EPISODE_WITHOUT_TORCH = """
import sys
import gymnasium as gym
import releq_gym
for name in ("releq/DigitsWRPN-v0", "releq/Synthetic20-v0"):
    env = gym.make(name)
    env.reset(seed=0)
    over = False
    while not over:
        _, reward, over, _, info = env.step(3)
    assert info["evaluated"]
assert "torch" not in sys.modules
print("episode done")
"""


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_import_reads_no_file_prints_nothing_and_loads_no_torch():
    done = run(sys.executable, "-c", IMPORT_IS_QUIET)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_episode_on_a_shipped_task_needs_no_torch():
    done = run(sys.executable, "-c", EPISODE_WITHOUT_TORCH)
    assert done.stdout == "episode done\n", done.stderr


def test_a_search_in_a_task_needs_no_torch():
    script = "import sys; sys.modules['torch'] = None; from releq_gym.cli import main; main()"
    words = ("task", "search", "synthetic-5-1", "--searcher", "greedy", "--evaluation-budget", "9")
    done = run(sys.executable, "-c", script, *words)
    assert "9 different assignments" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_wheel_alone_runs_an_episode(tmp_path):
    built = run(sys.executable, "-m", "build", "--wheel", "-o", str(tmp_path), str(ROOT))
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("search.npz") for name in names)
    assert any(name.endswith("digits.safetensors") for name in names)
    assert not any(name.startswith(("agents/", "benchmarks/", "tests/")) for name in names)
    assert not any(".partial" in name for name in names)
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    installed = run(python, "-m", "pip", "install", "-q", str(wheel))
    assert installed.returncode == 0, installed.stderr
    done = run(python, "-c", EPISODE_WITHOUT_TORCH, cwd=tmp_path)
    assert done.stdout == "episode done\n", done.stderr


def test_completion_knows_what_is_imported_late():
    assert set(releq_gym.__all__) <= set(dir(releq_gym))


def test_parts_of_the_package_are_there_by_name():
    code = (
        "import releq_gym; print(releq_gym.networks.Network.__name__, hasattr(releq_gym, 'nets'))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["Network", "False"]
