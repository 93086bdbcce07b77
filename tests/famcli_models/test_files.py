"""Where files may be written, and what is said where they may not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from famcli_models.files import check_target, open_regular, write_atomic


def write(path: Path) -> None:
    """Write a letter."""
    write_atomic(path, lambda temporary: temporary.write_bytes(b"x"))


def test_good_targets(tmp_path: Path) -> None:
    """A new file, an old one, a link to one or to nothing, and a file in folders that are not there may be written."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "old")
    (tmp_path / "loose").symlink_to(tmp_path / "nothing")
    for name in ("new", "old", "link", "loose", "a/b/c"):
        check_target(tmp_path / name)
        assert not (tmp_path / "a").exists()
    for name in ("new", "link", "loose", "a/b/c"):
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"x"
    assert (tmp_path / "old").read_text() == "old"


def _below_a_file(path: Path) -> Path:
    path.write_text("")
    return path / "a" / "b"


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda path: path.mkdir() or path, IsADirectoryError, "is a folder"),
        (lambda path: os.mkfifo(path) or path, OSError, "no regular file"),
        (lambda path: path.symlink_to(os.devnull) or path, OSError, "no regular file"),
        (lambda _: Path(os.devnull), OSError, "no regular file"),
        (_below_a_file, NotADirectoryError, "is no folder"),
    ],
    ids=["folder", "pipe", "link to a device", "device", "below a file"],
)
def test_bad_targets(
    tmp_path: Path, make: Callable[[Path], Path], kind: type[OSError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no file is neither replaced nor written to; the error names it and the reason."""
    path = make(tmp_path / "target")
    before = path.lstat().st_ino if path.exists() else None
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("it was replaced"))
    for refuse in (check_target, write):
        with pytest.raises(kind, match=words) as error:
            refuse(path)
        assert error.value.filename == str(path)
        assert str(path) in str(error.value)
    assert before is None or path.lstat().st_ino == before
    assert [p.name for p in tmp_path.iterdir()] in (["target"], [])


def test_folders_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without the right to write is noticed before the work, even if it is further up than the file."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may be run by somebody who may write everywhere
    with pytest.raises(PermissionError, match="may not be written to") as error:
        check_target(tmp_path / "new" / "file")
    assert error.value.filename == str(tmp_path / "new" / "file")


@pytest.mark.parametrize("named", [False, True])
def test_errors_name_the_target(tmp_path: Path, named: bool) -> None:
    """The disk's refusal is told of the file that was asked for, and not of a temporary one."""

    def fail(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *([str(temporary)] if named else []))

    with pytest.raises(OSError, match="No space left on device") as error:
        write_atomic(tmp_path / "out", fail)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    """A file that the writer itself cannot read is the one that is named."""
    with pytest.raises(FileNotFoundError) as error:
        write_atomic(tmp_path / "out", lambda _: (tmp_path / "source").read_bytes())
    assert error.value.filename in (tmp_path / "source", str(tmp_path / "source"))


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_interrupted_writes(tmp_path: Path, kind: type[BaseException], old: str | None) -> None:
    """A write that fails half-way leaves what was there before, or nothing, and no temporary file."""
    path = tmp_path / "out.json"
    if old:
        path.write_text(old)

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise kind

    with pytest.raises(kind):
        write_atomic(path, fail)
    assert [p.read_text() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A link to a file is read; a pipe, a device, a folder and links to them are refused by name, without a wait."""
    (tmp_path / "file").write_bytes(b"bytes")
    os.mkfifo(tmp_path / "pipe")
    for name, target in {"link": "file", "to-pipe": "pipe", "to-device": os.devnull, "to-folder": "."}.items():
        (tmp_path / name).symlink_to(target)
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"bytes"
    for name in ("pipe", "to-pipe", "to-device", "to-folder"):
        with pytest.raises(OSError, match=f"it is a {name.removeprefix('to-')} and no regular file.*{name}"):
            open_regular(tmp_path / name)
