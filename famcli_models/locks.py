"""One writer at a time: a lock beside what is written, with the id and the host of its process."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from platform import node

from famcli_models.errors import DataError, short
from famcli_models.files import PREFIX, is_stream, real_path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".lock"
MAX_OWNER = 300  # bytes of a lock that are read

_written: set[Path] = set()  # by this process: the locks of a process do not keep itself out


@contextmanager
def only_writer(path: Path, option: str = "--out") -> Iterator[None]:
    """Keep other runs from writing the same while this one goes on; streams may have several writers.

    The lock is a file beside what is written, with the id and the host of its process. It ends with its process, also
    with one that is killed; where a file system has no locks, nothing is locked. Folders that are made for it go again
    if nothing is put into them.

    Args:
        path: What is written, a file or a folder.
        option: What to change if another run writes it.

    Raises:
        DataError: Another process is writing it, or its folder cannot be written to.
    """
    if is_stream(path) or fcntl is None:
        yield
        return
    target = real_path(path)
    name = f"{PREFIX}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}{SUFFIX}"
    lock, elsewhere = target.parent / name, f"wait for it, or choose another {option}"
    if target in _written:
        raise DataError(f"this very process is writing '{path}': {elsewhere}")
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = _taken(lock)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror or error}; choose another {option}") from error
    if file is None:
        raise DataError(f"{_owner(lock)} is writing '{path}': {elsewhere}")
    _written.add(target)
    try:
        yield
    finally:
        _written.discard(target)
        lock.unlink(missing_ok=True)
        file.close()
        for folder in made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _taken(lock: Path) -> FileIO | None:
    """The file of a lock, which is ours until it is closed; nothing if it is another process's."""
    while True:
        file = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b", buffering=0)
        try:
            # Not flock: workers that a killed run leaves would hold it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                file.close()
                return None
        if os.fstat(file.fileno()).st_nlink:
            with suppress(OSError):  # the disk is full: the lock holds nevertheless
                file.truncate(0)
                file.write(f"process {os.getpid()} on {node()}".encode())
            return file
        file.close()  # its owner has ended meanwhile, and has removed it


def _owner(lock: Path) -> str:
    try:
        with lock.open("rb") as file:
            return short(file.read(MAX_OWNER).decode("utf-8", "replace")) or "another process"
    except OSError:
        return "another process"
