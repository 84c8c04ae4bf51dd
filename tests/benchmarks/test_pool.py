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
    assert "A run failed, the others go on" in capsys.readouterr().out
