"""Where an image is: a file, a URL of a file system that fsspec knows, or a place in a tar, which is one of these."""

from __future__ import annotations

import errno
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO

from famcli_models.errors import DataError, shown
from famcli_models.files import open_regular

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MAX_BYTES = 1 << 30  # of an image that is read whole; the largest picture that may be decoded has half of that
TAR = ".tar"
MAX_EXTENSION = 1 << 20
# Headers that stand before another one, and hold what has no place in it.
EXTENSIONS = frozenset(
    (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
)
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # two letters at least: C: is a drive
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # also of a path, which has lost a slash
_HOME = re.compile(r"~[^/]*/")


@dataclass(frozen=True, slots=True)
class Member:
    """An image in a tar: so many bytes from a place in it. Small, so that it may travel to a worker process."""

    tar: str  # path or URL
    offset: int
    size: int


def scheme_of(place: object) -> str:
    """``s3`` of ``s3://bucket/photo.jpg``; empty of a local path, and of what is no text."""
    match = _SCHEME.match(place) if isinstance(place, str) else None
    return match[1].lower() if match else ""


def why_unread(path: str | Path, error: OSError) -> str:
    """Why a local file or folder cannot be read, in a few words, with what was probably meant."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return f"no such file{missing_hint(path)}"
    return error.strerror or type(error).__name__


def missing_hint(path: str | Path) -> str:
    """What was probably meant by a path that is not there, behind a semicolon; empty if nothing is known."""
    text, here = str(path), os.path.relpath(path)  # as it was typed below the working directory
    if _URL.match(text) or _URL.match(here):
        return "; it is a URL and no path: download it first"
    if _HOME.match(text) or _HOME.match(here):
        return "; only the shell knows what ~ is, and only without quotes: write the path out, or $HOME"
    if not os.path.lexists(path):
        return ""
    try:
        os.stat(path)
    except OSError as error:
        return f"; its symbolic links lead {'in a circle' if error.errno == errno.ELOOP else 'to nothing'}"
    return ""


def open_local(path: str | Path) -> BinaryIO:
    """Open a regular file to read its bytes; of a ``DataError`` the message is the reason alone."""
    try:
        return open_regular(path)
    except OSError as error:
        raise DataError(why_unread(path, error)) from error


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system that a URL is of, and the path there.

    Raises:
        DataError: Nothing that is installed reads such URLs.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    scheme = scheme_of(url)
    if "::" in url:
        raise DataError(f"{shown(url)} is a chain of URLs, which is not read: give one, for example of a tar")
    try:
        # Without its cache of listings, which would keep a thousand bytes an image.
        fs, path = url_to_fs(scheme + url[len(scheme) :], use_listings_cache=False)
    except ImportError as error:
        package = known_implementations[scheme]["class"].partition(".")[0]
        needs = f"pip install {package}" if package != "fsspec" else str(error)
        raise DataError(f"{scheme}:// URLs need a package that is not installed here: {needs}") from error
    except Exception as error:  # each file system has errors of its own, such as missing credentials
        raise DataError(f"{shown(url)} cannot be opened: {_reason(error)}") from error
    return fs, str(path)


def read_bytes(source: str | Path | Member) -> bytes:
    """The bytes of an image file, at a URL or in a tar; of a ``DataError`` the message is the reason alone."""
    try:
        if isinstance(source, Member):
            return _read_member(source)
        if isinstance(source, str) and scheme_of(source):
            return _read_url(source)
        with open_local(source) as file:
            return file.read()
    except (DataError, FileNotFoundError, PermissionError, IsADirectoryError):  # of URLs
        raise
    except Exception as error:  # each file system has errors of its own
        raise DataError(f"it cannot be read ({_reason(error)})") from error


def _read_url(url: str) -> bytes:
    fs, path = file_system(url)
    content = bytes(fs.cat_file(path, start=0, end=MAX_BYTES + 1))  # one request: to ask for the size is another
    _check_size(len(content))
    return content


def _read_member(member: Member) -> bytes:
    _check_size(member.size)
    if scheme_of(member.tar):
        fs, path = file_system(member.tar)
        content = bytes(fs.cat_file(path, start=member.offset, end=member.offset + member.size))
    else:
        with open_local(member.tar) as file:
            file.seek(member.offset)
            content = file.read(member.size)
    if len(content) < member.size:
        raise DataError("its tar has changed, or is cut short")
    return content


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"too large (more than {MAX_BYTES} bytes)")


class BoundedHeader(tarfile.TarInfo):
    """A header that refuses names and attributes of more than :data:`MAX_EXTENSION` bytes, before it reads them."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in EXTENSIONS and self.size > MAX_EXTENSION:
            raise tarfile.ReadError(f"a header has {self.size:,} bytes of names or attributes")
        header: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return header


def read_tar(place: str) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file in a tar, in its order.

    Raises:
        DataError: The rest cannot be read, or has a name that leaves the tar; the message is the reason alone.
    """
    try:
        with _open(place) as file, tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedHeader) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                name = _checked_name(member)
                if member.isreg() and not member.issparse():
                    yield name, member.offset_data, member.size
            file.seek(tar.offset)  # tarfile takes a damaged header for the end
            _check_end(file.read(tarfile.BLOCKSIZE))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except Exception as error:
        raise DataError(f"not a tar that can be read ({_reason(error)})") from error


def _checked_name(member: tarfile.TarInfo) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or member.size < 0:
        raise DataError(f"a member's name leaves the tar, or its size is negative: {shown(member.name)}")
    return str(path)


def _check_end(block: bytes) -> None:
    if block != tarfile.NUL * tarfile.BLOCKSIZE:
        raise DataError("the tar is damaged or cut short")


def _open(place: str) -> IO[bytes]:
    if not scheme_of(place):
        return open_local(place)
    fs, path = file_system(place)
    file: IO[bytes] = fs.open(path, "rb", cache_type="readahead")
    return file


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
