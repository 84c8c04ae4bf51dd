import multiprocessing
from functools import partial

import pytest

from benchmarks.parts import Part, run, table
from benchmarks.rows import append_rows, read_rows, replace_rows

COLUMNS = ("name", "value")


def row(name, value):
    return {"name": name, "value": value}


@pytest.mark.parametrize("left", ["", "name,va", "name,value\n", "name,value\na,1\n"])
@pytest.mark.parametrize("torn", ["", "b,", "b,2"])
def test_what_a_lost_process_left_does_no_harm(tmp_path, left, torn):
    path = tmp_path / "rows.csv"
    path.write_text(left + (torn if left.endswith("\n") else ""))
    before = [row("a", "1")] if "a,1" in left else []
    assert read_rows(path) == before
    append_rows(path, [row("c", 3), row("d", 4)], COLUMNS)
    assert read_rows(path) == [*before, row("c", "3"), row("d", "4")]


def test_rows_are_replaced_as_a_whole(tmp_path):
    path = tmp_path / "rows.csv"
    append_rows(path, [row("a", 1)], COLUMNS)

    def broken():
        yield row("b", 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_rows(path, broken(), COLUMNS)
    assert read_rows(path) == [row("a", "1")]
    replace_rows(path, [row("c", 3)], COLUMNS)
    assert read_rows(path) == [row("c", "3")] and len(list(tmp_path.iterdir())) == 1


def test_what_is_worked_out_from_other_rows_is_worked_out_anew(tmp_path):
    class Options:
        part, again = None, False

    made = Part(COLUMNS, ("name",), {("a",): lambda: [row("a", 1)]})

    calls = []

    def double():
        calls.append(1)
        return [row("a", 2 * int(one["value"])) for one in read_rows(tmp_path / "made.csv")]

    parts = {"twice": Part(COLUMNS, ("name",), {("a",): double}, derived=True), "made": made}
    for value in ("1", "5"):
        replace_rows(tmp_path / "made.csv", [row("a", value)], COLUMNS)
        assert run(parts, {"made": "Made", "twice": "Twice"}, tmp_path, Options) == 0
        assert read_rows(tmp_path / "twice.csv") == [row("a", str(2 * int(value)))]
    assert len(calls) == 2  # once each time


class Again:
    part, again = ["made"], True


def test_rows_that_are_measured_again_stay_until_new_ones_are_there(tmp_path, capsys):
    value = "1"

    def measure(name):
        if name == "c" and value == "2":
            raise KeyboardInterrupt
        if name == "b" and value == "2":
            raise ValueError("it cannot be measured today")
        return [row(name, value)]

    jobs = {(name,): partial(measure, name) for name in "abc"}
    parts = {"made": Part(COLUMNS, ("name",), jobs)}
    assert run(parts, {"made": "Made"}, tmp_path, Again) == 0
    value = "2"
    assert run(parts, {"made": "Made"}, tmp_path, Again) == 130
    assert "other rows are the old ones" in capsys.readouterr().err
    found = {one["name"]: one["value"] for one in read_rows(tmp_path / "made.csv")}
    assert found == {"a": "2", "b": "1", "c": "1"}


def test_rows_of_other_columns_are_not_mixed(tmp_path):
    path = tmp_path / "rows.csv"
    append_rows(path, [row("a", 1)], COLUMNS)
    with pytest.raises(
        ValueError, match=r"has the columns name, value, but rows of now have value"
    ):
        append_rows(path, [row("b", 2)], COLUMNS[::-1])
    assert read_rows(path) == [row("a", "1")]


def append_many(path, name):
    for number in range(300):
        append_rows(path, [row(name, number)], COLUMNS)


def test_two_processes_may_add_to_one_file(tmp_path):
    path = tmp_path / "rows.csv"
    append_rows(path, [row("first", 0)], COLUMNS)
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=append_many, args=(path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert len(read_rows(path)) == 601


def test_a_full_disk_leaves_no_part_of_the_rows(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    append_rows(path, [row("a", 1)], COLUMNS)
    monkeypatch.setattr("benchmarks.rows._write", lambda stream, content: stream.write(b"b,2\nc"))
    with pytest.raises(OSError, match="No space left"):
        append_rows(path, [row("b", 2), row("c", 3)], COLUMNS)
    assert path.read_text() == "name,value\na,1\n"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_shown_as_it_stands(value):
    assert table([row("a", value)]).endswith(f"| a | {value} |")
