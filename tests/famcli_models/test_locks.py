"""One writer at a time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from platform import node

import pytest

from famcli_models.errors import DataError
from famcli_models.locks import only_writer

OWNER = """
import os, sys, time
from pathlib import Path
from famcli_models.locks import only_writer
with only_writer(Path(sys.argv[1])):
    if sys.argv[2:] and not os.fork():
        os.close(1)
        time.sleep(5)  # a worker that outlives its run
    print(flush=True)
    time.sleep(60)
"""


@contextmanager
def owner(path: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes a path, for as long as it lives."""
    command = [sys.executable, "-c", OWNER, str(path), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process
        process.kill()


def test_the_second_is_refused(tmp_path: Path) -> None:
    """A second writer is refused with the id and the host of the first, under any name; other files are free."""
    (tmp_path / "link").symlink_to("new/out")
    with owner(tmp_path / "new" / "out") as first:
        for path in (tmp_path / "new" / "out", tmp_path / "link", tmp_path / "new" / ".." / "new" / "out"):
            words = f"process {first.pid} on {node()} is writing '{path}': wait for it, or choose another --to"
            with pytest.raises(DataError, match=re.escape(words)), only_writer(path, "--to"):
                pass
        with only_writer(tmp_path / "new" / "other"):
            pass


def test_the_same_process_is_refused(tmp_path: Path) -> None:
    """Two threads of a program do not write the same either."""
    with only_writer(tmp_path / "out"), pytest.raises(DataError, match="this very"), only_writer(tmp_path / "out"):
        pass
    with only_writer(tmp_path / "out"):
        pass


@pytest.mark.parametrize("more", [(), ("and its worker lives on",)], ids=["alone", "with a worker"])
def test_a_dead_owner_is_no_owner(tmp_path: Path, more: tuple[str, ...]) -> None:
    """The lock of a killed process is taken over at once, also while a process that it started lives on."""
    with owner(tmp_path / "out", *more) as first:
        first.kill()
        first.wait()
        assert len(list(tmp_path.iterdir())) == 1
        with only_writer(tmp_path / "out"):
            (lock,) = tmp_path.iterdir()
            assert lock.read_text() == f"process {os.getpid()} on {node()}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "a/b/out", "n" * 255])
def test_nothing_stays(tmp_path: Path, name: str) -> None:
    """The lock goes at the end, also of a run that fails, with the folders that were made for it and are empty."""
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyError), only_writer(tmp_path / "old" / name):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]
    with only_writer(tmp_path / name):
        (tmp_path / name).touch()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name.rpartition("/")[2]]


def test_streams_have_no_lock(tmp_path: Path) -> None:
    """A pipe may have several writers, and nothing lies beside it."""
    os.mkfifo(tmp_path / "pipe")
    with only_writer(tmp_path / "pipe"), only_writer(tmp_path / "pipe"):
        assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    """What is no folder is said before any work is done."""
    (tmp_path / "file").touch()
    words = re.escape(f"cannot write '{tmp_path / 'file' / 'out'}': ") + ".*; choose another --out"
    with pytest.raises(DataError, match=words), only_writer(tmp_path / "file" / "out"):
        pass
