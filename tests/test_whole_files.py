"""Files that appear whole or not at all."""

import pytest

from releq_gym.whole_files import check_writable, written_whole


def test_the_file_appears_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "new" / "figures.csv"
    with written_whole(path) as partial:
        partial.write_text("complete")
        assert partial.suffix == ".csv" and not path.exists()
    assert path.read_text() == "complete"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "figures.csv"
    path.write_text("before")
    with pytest.raises(error), written_whole(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(OSError), written_whole(tmp_path / "folder") as partial:
        (tmp_path / "folder").mkdir()
        partial.write_text("complete")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_can_be_written_is_told_beforehand(tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_text("before")
    check_writable(kept)
    check_writable(tmp_path / "new" / "figures.csv")
    assert kept.read_text() == "before"
    assert list(tmp_path.iterdir()) == [kept]


def test_what_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for path, reason in ((tmp_path / "file" / "below", "file"), (tmp_path, "it is a folder")):
        with pytest.raises(ValueError, match=f"cannot be written in .*{reason}"):
            check_writable(path)
