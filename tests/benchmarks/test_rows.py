import pytest

from benchmarks.parts import Part, run
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
