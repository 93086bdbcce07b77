"""Files that are whole or not there, and their hashes; needs no torch.

What a user names may also be a link, a device or a pipe. A link is written through. A device, a pipe and ``-``, which
is standard output, are written to as they are: nothing takes their place, and nothing lies beside them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from famcli_models.errors import escaped

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

STDOUT = Path("-")
LFS_POINTER, GIT_LFS = b"version https://git-lfs.github.com/", "a Git LFS pointer: run 'git lfs pull'"
PREFIX, TEMPORARY = ".fam.", ".tmp"  # of the names of what is there while something is written
MAX_LINKS = 40  # on the way to a file, as in Linux
KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}  # and devices


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, to read its bytes.

    Raises:
        OSError: It cannot be opened; or it is a pipe, a socket or a device, of which reading may never end.
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is a {KINDS.get(kind, 'device')} and no regular file", os.fspath(path))
    return open(path, "rb")


def sha256_file(path: Path) -> str:
    """SHA-256 of a regular file's bytes, in hexadecimal; raises as :func:`open_regular`."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a regular file that has at most so many; raises as :func:`open_regular`, and where it has more."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB, which none needs to be", os.fspath(path))
        return file.read()


def real_path(path: Path) -> Path:
    """Where a path leads through all links, there or not."""
    return Path(os.path.realpath(path))


def _descriptor(path: Path) -> int | None:
    """The number of the open file that a path such as ``/dev/stdout`` or ``/dev/fd/3`` names."""
    for _ in range(MAX_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in {f"/proc/{os.getpid()}/fd", "/dev/fd"}:
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


def is_stdout(path: Path) -> bool:
    """Whether what is written to a path goes to standard output."""
    return path == STDOUT or _descriptor(path) == 1


def is_stream(path: Path) -> bool:
    """Whether a path is ``-``, a character device, a pipe or an open file: it is written to, and never replaced."""
    if path == STDOUT or _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def check_target(path: Path) -> None:
    """Make sure that a file may be written here, before the work is done that it is for.

    Folders on the way to it need not be there yet.

    Raises:
        OSError: A folder, a disk or a socket has this name, its links lead in a circle, it may not be written to, or
            its folder cannot be made or written to.
    """
    if not is_stream(path):
        _check_file(path, real_path(path))
    elif path != STDOUT and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it may not be written to", str(path))


def _check_file(path: Path, target: Path) -> None:
    """Make sure that the target may be replaced; errors name the path."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is no regular file and is not replaced", str(path))
    if target.is_symlink() and target == real_path(path):
        raise OSError(errno.ELOOP, "its symbolic links lead in a circle", str(path))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it may not be written to", str(path))
    folder = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"'{folder}' is no folder", str(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"the folder '{folder}' may not be written to", str(path))


def write_pieces(path: Path, pieces: Iterable[str | bytes]) -> None:
    """Write text, as UTF-8, and bytes as they come: to a file that is whole or not there, or to a stream.

    Raises:
        OSError: See :func:`check_target`; or the disk refuses.
    """

    def write(to: Path) -> None:
        with to.open("wb") as file:
            file.writelines(encoded(pieces))

    if not is_stream(path):
        write_atomic(path, write)
        return
    with _opened(path) as file:
        if file.isatty():
            pieces = (escaped(piece) if isinstance(piece, str) else piece for piece in pieces)
        file.writelines(encoded(pieces))
        file.flush()


def encoded(pieces: Iterable[str | bytes]) -> Iterator[bytes]:
    """Text as UTF-8, and bytes as they are; odd bytes of a file name that is no Unicode become JSON escapes."""
    for piece in pieces:
        yield piece.encode("utf-8", "backslashreplace") if isinstance(piece, str) else piece


def _opened(path: Path) -> BinaryIO | nullcontext[BinaryIO]:
    """A stream: an open file from where it stands, anything else without making or emptying it."""
    if is_stdout(path):
        if sys.stdout is None:
            raise OSError(errno.EBADF, "standard output is closed", str(path))
        sys.stdout.flush()
        return nullcontext(sys.stdout.buffer)
    number = _descriptor(path)
    return os.fdopen(os.dup(number) if number is not None else os.open(path, os.O_WRONLY | os.O_NOCTTY), "wb")


def write_atomic(path: Path, write: Callable[[Path], object], *, one_of_many: bool = False) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it, so that no half file is ever there.

    A link is followed, and mode and owner of an existing file are kept. The content is on the disk before the name.

    Args:
        path: The file, in folders that need not be there.
        write: Called with the temporary file, which has the same name.
        one_of_many: One of the files that images get, named after them: a link that is in the way is replaced and not
            followed, and no time is spent on waiting for the disk.

    Raises:
        OSError: See :func:`check_target`; it is a stream; or the disk refuses. It names ``path``, not the temporary
            file.
    """
    if is_stream(path):
        raise OSError(errno.EINVAL, "it is no regular file and is not replaced", str(path))
    target = path if one_of_many else real_path(path)
    _check_file(path, target)
    folder = None
    try:
        with scratch(target.parent) as folder:
            temporary = folder / target.name
            temporary.touch()
            allowed = stat.S_IMODE(temporary.stat().st_mode)  # by the umask, or by the folder's own rules
            write(temporary)
            _keep_rights(temporary, target, allowed)
            if not one_of_many:
                _sync(temporary)
            temporary.replace(target)
    except OSError as error:
        ours = error.filename is None or (folder is not None and os.fsdecode(error.filename).startswith(str(folder)))
        if error.errno is None or not (ours or folder is None):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _keep_rights(temporary: Path, target: Path, allowed: int) -> None:
    """Give a file the mode and the owner of the one that it replaces, or a new one the mode that is allowed."""
    try:
        old = target.stat()
    except OSError:
        temporary.chmod(allowed)
        return
    with suppress(OSError):  # only root may give a file to somebody else
        shutil.chown(temporary, old.st_uid, old.st_gid)
    temporary.chmod(old.st_mode & 0o777)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder and those around it that are not there; by no recursion, as pathlib does it: there may be 2,000."""
    missing = [folder]
    while not missing[-1].is_dir() and missing[-1] != missing[-1].parent:
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        path.mkdir(exist_ok=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A new folder in a folder, for what is renamed when it is whole; it goes at the end with what is still in it.

    One that a killed process has left goes when the next process writes to the same folder.
    """
    make_folders(folder)
    _sweep(folder.absolute())
    while True:
        made = tempfile.mkdtemp(dir=folder, prefix=PREFIX, suffix=TEMPORARY)
        # Another process may take it for a left one in this very moment.
        try:
            held = os.open(made, os.O_RDONLY) if fcntl else None
        except FileNotFoundError:
            continue
        if held is None or (_lock(held) and os.fstat(held).st_nlink):
            break
        os.close(held)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if held is not None:
            os.close(held)


@lru_cache(maxsize=4096)  # once a process
def _sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder."""
    with os.scandir(folder) as entries:
        left = [e for e in entries if e.name.startswith(PREFIX) and e.name.endswith(TEMPORARY)]
    for entry in left if fcntl else ():
        if not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
            continue
        with suppress(OSError):
            held = os.open(entry.path, os.O_RDONLY)
            try:
                if _lock(held, without=False):
                    (shutil.rmtree if entry.is_dir() else os.unlink)(entry.path)
            finally:
                os.close(held)


def _lock(descriptor: int, *, without: bool = True) -> bool:
    """Lock an open folder or file until it is closed; ``without`` is what is given where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without
    return True
