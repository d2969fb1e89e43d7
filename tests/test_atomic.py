"""Files that are replaced in one step."""

import errno
import os
from pathlib import Path

import pytest

from arm_sr.atomic import replacing, write_bytes


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    """By the process's umask, which stays as it is."""
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a", b"1")
        assert umask == os.umask(umask)
    finally:
        os.umask(before)
    assert 0o666 & ~umask == (tmp_path / "a").stat().st_mode & 0o777


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    """Narrower or wider than those of a new one."""
    for mode in (0o600, 0o664):
        (tmp_path / "a").write_bytes(b"0")
        (tmp_path / "a").chmod(mode)
        write_bytes(tmp_path / "a", b"1")
        assert (b"1", mode) == ((tmp_path / "a").read_bytes(), (tmp_path / "a").stat().st_mode & 0o777)


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """Not the temporary one."""
    with pytest.raises(OSError) as error:
        write_bytes(tmp_path / "missing" / "a.json", b"")
    assert str(tmp_path / "missing" / "a.json") == error.value.filename


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_at_the_end_does_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Of the disk, which may be told last."""

    def failing(first: object, *_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), *([first] if call == "replace" else []))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError) as error:
        write_bytes(tmp_path / "a.json", b"")
    assert str(tmp_path / "a.json") == error.value.filename
    assert [] == list(tmp_path.iterdir())


def test_after_an_error_the_old_file_is_there_and_no_other(tmp_path: Path) -> None:
    """Half of the new one was written."""
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as stream:
        stream.write(b"ne")
        raise ZeroDivisionError
    assert [b"old"] == [path.read_bytes() for path in tmp_path.iterdir()]
