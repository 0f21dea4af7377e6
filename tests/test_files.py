"""Files that appear whole or not at all."""

import pytest

from gated_c.files import replacing


@pytest.fixture
def never():
    """Fails if it is called: what must not begin."""
    return lambda: pytest.fail("began to fill a file that could not take its place")


def test_a_directory_is_refused_before_anything_is_written(tmp_path, never):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError) as error, replacing(tmp_path / "taken"):
        never()
    assert error.value.filename == str(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_link_to_a_directory_is_refused_by_its_own_name(tmp_path, never):
    (tmp_path / "taken").mkdir()
    (tmp_path / "link").symlink_to("taken")
    with pytest.raises(IsADirectoryError) as error, replacing(tmp_path / "link"):
        never()
    assert error.value.filename == str(tmp_path / "link")


def test_a_missing_folder_is_found_before_anything_is_computed(tmp_path, never):
    with pytest.raises(FileNotFoundError) as error, replacing(tmp_path / "none" / "file"):
        never()
    assert error.value.filename == str(tmp_path / "none" / "file")


def test_a_failure_keeps_what_was_there(tmp_path):
    (tmp_path / "file").write_text("old")

    def fill_half():
        with replacing(tmp_path / "file") as unfinished:
            unfinished.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fill_half()
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_and_the_mode_of_a_file_stay(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    with replacing(tmp_path / "link") as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
