import contextlib
import multiprocessing
import pickle
import sqlite3
import subprocess
import sys
import threading

import pytest

from releq_gym.evaluators.memo import Memo, hash_fields

KEYS_PER_WRITER = 50


def _write(path, writer):
    memo = Memo(path)
    for key in range(KEYS_PER_WRITER):
        memo.put({"writer": writer, "key": key}, [writer, key])


def test_value_comes_back_for_equal_fields_in_any_order(tmp_path):
    memo = Memo(tmp_path / "memo.sqlite3")
    memo.put({"bitwidths": [8, 4], "seed": 1}, [97, 100, 1.5, False])
    assert memo.get({"seed": 1, "bitwidths": [8, 4]}) == [97, 100, 1.5, False]


@pytest.mark.parametrize(
    "other",
    [
        {"bitwidths": [8, 4], "seed": 2},
        {"bitwidths": [4, 8], "seed": 1},
        {"bitwidths": [8, 4]},
        {"bitwidths": [8, 4], "seed": 1, "more": None},
    ],
)
def test_any_different_field_is_another_key(tmp_path, other):
    memo = Memo(tmp_path / "memo.sqlite3")
    memo.put({"bitwidths": [8, 4], "seed": 1}, 1)
    assert memo.get(other) is None


def test_hash_is_that_of_the_canonical_json():
    # printf '{"a":[1,2],"b":null}' | sha256sum
    expected = "f25109c4111335e4a32d49373585e7a788ff5b10e70023f7004b170e7f84716a"
    assert hash_fields({"b": None, "a": [1, 2]}).hex() == expected


def test_nan_is_refused_as_a_field(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Memo(tmp_path / "memo.sqlite3").get({"learning_rate": float("nan")})


def test_environment_variable_moves_the_default_file(own_cache):
    memo = Memo()
    assert memo.path == own_cache / "memo.sqlite3"
    assert memo.path.exists()


def test_four_processes_write_at_once(tmp_path):
    path = tmp_path / "memo.sqlite3"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    memo = Memo(path)
    for writer in range(4):
        for key in range(KEYS_PER_WRITER):
            assert memo.get({"writer": writer, "key": key}) == [writer, key]


def test_a_file_that_another_process_is_just_beginning_is_waited_for(tmp_path):
    path = tmp_path / "memo.sqlite3"
    other = sqlite3.connect(path, check_same_thread=False)
    other.execute("CREATE TABLE other (value INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO other VALUES (1)")
    release = threading.Timer(0.3, other.commit)
    release.start()
    memo = Memo(path)
    memo.put({"seed": 0}, 5)
    release.join()
    other.close()
    assert memo.get({"seed": 0}) == 5


def test_pickled_memo_reads_the_same_file(tmp_path):
    memo = Memo(tmp_path / "memo.sqlite3")
    memo.put({"seed": 0}, 5)
    assert pickle.loads(pickle.dumps(memo)).get({"seed": 0}) == 5


def test_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path):
    path = tmp_path / "memo.sqlite3"
    for number in (1, 2):
        path.write_bytes(b"this is no database" * 100)
        with pytest.warns(UserWarning, match=rf"damaged.*memo.sqlite3.corrupt-{number}"):
            memo = Memo(path)
        memo.put({"seed": 0}, number)
        assert memo.get({"seed": 0}) == number
    assert (tmp_path / "memo.sqlite3.corrupt-1").read_bytes().startswith(b"this is no database")


def test_file_damaged_while_in_use_is_set_aside_too(tmp_path):
    memo = Memo(tmp_path / "memo.sqlite3")
    memo.put({"seed": 0}, 1)
    memo.path.write_bytes(b"overwritten by something else" * 100)
    with pytest.warns(UserWarning, match="damaged"):
        assert memo.get({"seed": 0}) is None


@pytest.mark.parametrize("value", ["'[97, 10'", "x'ff5d'", "CAST(x'ff5d' AS TEXT)", "''"])
def test_value_that_cannot_be_decoded_is_a_miss(tmp_path, value):
    memo = Memo(tmp_path / "memo.sqlite3")
    memo.put({"seed": 0}, 1)
    with contextlib.closing(sqlite3.connect(memo.path)) as database, database:
        database.execute(f"UPDATE results SET value = {value}")
    assert memo.get({"seed": 0}) is None
    memo.put({"seed": 0}, 2)
    assert memo.get({"seed": 0}) == 2


def test_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"RELEQ_GYM_CACHE.*memo=False"):
        Memo(tmp_path / "file" / "memo.sqlite3")


def test_memo_imports_no_torch():
    code = "import releq_gym.evaluators.memo, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
