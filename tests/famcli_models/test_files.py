"""Where files may be written, and what is said where they may not."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli_models.files import check_target, is_stream, open_regular, write_atomic, write_pieces


def write(path: Path) -> None:
    """Write a letter."""
    write_atomic(path, lambda temporary: temporary.write_bytes(b"x"))


def test_good_targets(tmp_path: Path) -> None:
    """A new file, an old one, and a file in folders that are not there may be written; links are written through."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("hop")
    (tmp_path / "hop").symlink_to(tmp_path / "old")
    (tmp_path / "loose").symlink_to("nothing")
    for name in ("new", "old", "link", "loose", "a/b/c"):
        check_target(tmp_path / name)
        assert not (tmp_path / "a").exists()
    for name, target in (("new", "new"), ("link", "old"), ("loose", "nothing"), ("a/b/c", "a/b/c")):
        write(tmp_path / name)
        assert (tmp_path / target).read_bytes() == b"x"
        assert not (tmp_path / target).is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "loose").is_symlink()


def test_one_of_many_replaces_a_link(tmp_path: Path) -> None:
    """A link in the place of a file that is named after an input is replaced: what it leads to stays as it is."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("old")
    write_atomic(tmp_path / "link", lambda temporary: temporary.write_bytes(b"x"), one_of_many=True)
    assert ((tmp_path / "old").read_text(), (tmp_path / "link").read_text()) == ("old", "x")
    assert not (tmp_path / "link").is_symlink()


def _below_a_file(path: Path) -> Path:
    path.write_text("")
    return path / "a" / "b"


def _socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return path


def _circle(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda path: path.mkdir() or path, IsADirectoryError, "is a folder"),
        (_socket, OSError, "no regular file"),
        (_circle, OSError, "lead in a circle"),
        (_below_a_file, NotADirectoryError, "is no folder"),
    ],
    ids=["folder", "socket", "circle", "below a file"],
)
def test_bad_targets(tmp_path: Path, make: Callable[[Path], Path], kind: type[OSError], words: str) -> None:
    """What is no file is neither replaced nor written to; the error names it and the reason."""
    path = make(tmp_path / "target")
    before = path.lstat().st_ino if os.path.lexists(path) else None
    for refuse in (check_target, write, lambda path: write_pieces(path, ["x"])):
        with pytest.raises(kind, match=words) as error:
            refuse(path)
        assert error.value.filename == str(path)
        assert str(path) in str(error.value)
    assert before is None or path.lstat().st_ino == before
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _link_to_pipe(path: Path) -> Path:
    path.symlink_to("pipe")
    os.mkfifo(path.with_name("pipe"))
    return path


def _open_file(path: Path) -> Path:
    path.write_text("before ")
    return Path("/dev/fd") / str(os.open(path, os.O_WRONLY | os.O_APPEND))


@pytest.mark.parametrize("make", [_pipe, _link_to_pipe], ids=["pipe", "link to one"])
def test_streams_are_written_to(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """A pipe gets the pieces, is a pipe afterwards, and has nothing beside it; it is no place for an atomic file."""
    path = make(tmp_path / "target")
    before = sorted(p.name for p in tmp_path.iterdir())
    check_target(path)
    assert is_stream(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_pieces(path, ["h\u00e4", b"\xff", "\udc80"])
    assert os.read(reader, 99) == b"h\xc3\xa4\xff\\udc80"
    os.close(reader)
    with pytest.raises(OSError, match="no regular file"):
        write(path)
    assert path.is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root makes devices")
def test_devices_are_written_to(tmp_path: Path) -> None:
    """A device of the kind of /dev/null and /dev/full stays one, and one that is full says so."""
    for minor, name in ((3, "null"), (7, "full")):
        os.mknod(tmp_path / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    write_pieces(tmp_path / "null", ["x"])
    with pytest.raises(OSError, match="No space left"):
        write_pieces(tmp_path / "full", ["x"])
    assert (
        {path.name for path in tmp_path.iterdir() if path.is_char_device()}
        == {"null", "full"}
        == {path.name for path in tmp_path.iterdir()}
    )


def test_open_files_are_appended_to(tmp_path: Path) -> None:
    """A descriptor that the shell opened on a file, as in 3>>file, goes on from where it stands."""
    path = _open_file(tmp_path / "file")
    write_pieces(path, ["x"])
    os.close(int(path.name))
    assert (tmp_path / "file").read_text() == "before x"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "link"])
def test_standard_output(tmp_path: Path, name: str) -> None:
    """Standard output in a file, under any of its names, keeps what is there already, and what comes behind."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = f"""
from pathlib import Path
from famcli_models.files import write_pieces
print("before")
write_pieces(Path({name!r}), ["x\\n"])
print("behind")
"""
    with (tmp_path / "file").open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True, cwd=tmp_path)
    assert (tmp_path / "file").read_text() == "before\nx\nbehind\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_rights(tmp_path: Path, umask: int) -> None:
    """A new file has the mode that the umask leaves, and a replaced one that of the old, with its owner."""
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o640)
    owner = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(tmp_path / "old", *owner)
    before = os.umask(umask)
    try:
        for name in ("old", "new"):
            write(tmp_path / name)
    finally:
        os.umask(before)
    old, new = (tmp_path / name for name in ("old", "new"))
    assert (stat.S_IMODE(old.stat().st_mode), old.stat().st_uid, old.stat().st_gid) == (0o640, *owner)
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~umask


def test_the_disk_has_it_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is forced to the disk before the file gets its name."""
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("sync"))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: calls.append("rename") or replace(self, to))
    write(tmp_path / "new")
    assert calls == ["sync", "rename"]


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    """The next process that writes to a folder removes what a killed one left there, and nothing of one at work."""
    code = """
import sys, time
from pathlib import Path
from famcli_models.files import write_atomic
def write(to):
    to.write_text("half")
    print(flush=True)
    time.sleep(60)
write_atomic(Path(sys.argv[1]), write)
"""
    (tmp_path / ".fam.old.tmp").touch()  # of a version before
    (tmp_path / ".fam.of-yours").touch()
    dead, alive = (
        subprocess.Popen([sys.executable, "-c", code, tmp_path / name], stdout=subprocess.PIPE)
        for name in ("dead", "alive")
    )
    try:
        for process in (dead, alive):
            process.stdout.read(1)
        dead.kill()
        dead.wait()
        write(tmp_path / "new")
        (left,) = tmp_path.glob(".fam.*.tmp")
        assert [path.name for path in left.iterdir()] == ["alive"]
    finally:
        for process in (dead, alive):
            process.kill()
            process.wait()
            process.stdout.close()
    assert sorted(p.name for p in tmp_path.iterdir() if p != left) == [".fam.of-yours", "new"]


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


def test_a_folder_that_another_process_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written though another process takes the new folder for it away before it is locked."""
    made: list[str] = []
    make = tempfile.mkdtemp

    def make_and_lose(**where: Any) -> str:
        made.append(make(**where))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    write(tmp_path / "file")
    assert ([path.name for path in tmp_path.iterdir()], len(made)) == (["file"], 2)
