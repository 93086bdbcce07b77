"""Archives from elsewhere to files in one folder, and nowhere else.

Only plain files are taken. Absolute names, ``..``, links, devices, encrypted members and absurd sizes are refused
before a byte of the member is written. Each file is written under a temporary name and renamed, and a file that is
there with the member's size is passed over, so that an interrupted extraction goes on where it was.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from famcli_models.errors import DataError

BLOCK = 1 << 20
TEMPORARY = ".fam-extracting"  # one name a folder: what a killed run left behind is written over
LEDGER = ".fam-extracted"
SMALL = 64 << 20  # text may shrink a lot; what unpacks to less than this is no bomb
Place = Callable[[str], "str | None"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        size: Bytes of all members together.
        files: Members.
        ratio: Bytes out of a byte in; photographs hardly shrink at all.
    """

    size: int = 400 * 10**9
    files: int = 3_000_000
    ratio: int = 200


@dataclass(slots=True)
class Extracted:
    """What an extraction did: files that are there now, those of them that were written, and bytes seen."""

    files: int = 0
    written: int = 0
    size: int = 0
    members: int = 0


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    refused: str  # why it may not be extracted, or empty
    open: Callable[[], IO[bytes]]


def extract(
    archive: Path,
    out: Path,
    place: Place,
    limits: Limits | None = None,
    step: Callable[[], object] = lambda: None,
) -> Extracted:
    """Extract a tar (plain, gz, bz2 or xz, whatever its name says) or a zip.

    Args:
        archive: The file.
        out: The folder that nothing leaves.
        place: Member name to the relative path to write it to, or ``None`` to leave it out. Names come without
            a leading ``./``.
        limits: Sizes beyond which it is refused.
        step: Called after each file.

    Raises:
        DataError: A member may not be extracted, the archive is damaged or cut off, or the disk is full. The files
            before are whole and stay.
    """
    done = Extracted()
    with _damage_said(archive):
        if zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive):
            with zipfile.ZipFile(archive) as file:
                _extract_members(_of_zip(file), archive, out, place, limits or Limits(), done, step)
        else:
            with tarfile.open(archive) as tar:
                _extract_members(_of_tar(tar), archive, out, place, limits or Limits(), done, step)
    return done


def extract_nested(
    archive: Path,
    out: Path,
    place: Place,
    limits: Limits | None = None,
    step: Callable[[int], object] = lambda _: None,
) -> Extracted:
    """Extract a tar of tars, as ILSVRC's training images are, without writing the inner ones to disk.

    A finished inner tar is noted with its number of files; while that many are there it is passed over unread.

    Args:
        archive: The outer tar.
        out: The folder that nothing leaves.
        place: Name of an inner tar to the folder of its files, or ``None`` to leave it out.
        limits: For all inner tars together.
        step: Called after each inner tar with its number of files.

    Raises:
        DataError: As :func:`extract`.
    """
    done, ledger = Extracted(), _Ledger(archive, out)
    with _damage_said(archive), tarfile.open(archive) as outer:
        for member in _of_tar(outer):
            folder = place(_checked(member, archive))
            if folder is None:
                continue
            known = ledger.count(member)
            if known is not None and known <= _files_in(out / folder):
                done.files += known
                step(known)
                continue
            before, inner_archive = done.files, Path(f"{archive}:{member.name}")
            inside = f"{folder}/{{}}".format
            with member.open() as file, tarfile.open(fileobj=file, mode="r:") as inner:
                _extract_members(_of_tar(inner), inner_archive, out, inside, limits or Limits(), done, lambda: None)
            ledger.note(member, done.files - before)
            step(done.files - before)
    return done


def read_members(archive: Path, wanted: Callable[[str], bool], limits: Limits) -> Iterator[tuple[str, bytes]]:
    """Content of the wanted members of a tar, without writing anything.

    Args:
        archive: The file.
        wanted: Whether a member, by its name without a leading ``./``, should be read.
        limits: Sizes beyond which it is refused; ``limits.size`` is also the most that one member may have.

    Raises:
        DataError: As :func:`extract`.
    """
    done, packed = Extracted(), archive.stat().st_size
    with _damage_said(archive), tarfile.open(archive) as tar:
        for member in _of_tar(tar):
            name = _checked(member, archive)
            done.members += 1
            done.size += member.size
            _check_limits(archive, done, packed, limits)
            if wanted(name):
                with member.open() as file:
                    yield name, file.read()


class _Ledger:
    """Inner tars that were extracted, a line each: their name, size and number of files."""

    def __init__(self, archive: Path, out: Path) -> None:
        self.path = out / f"{LEDGER}-{archive.name}.txt"
        self.done: dict[tuple[str, int], int] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                name, _, numbers = line.partition("\t")
                size, _, count = numbers.partition("\t")
                if size.isdecimal() and count.isdecimal():
                    self.done[name, int(size)] = int(count)

    def count(self, member: _Member) -> int | None:
        return self.done.get((member.name, member.size))

    def note(self, member: _Member, count: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{member.name}\t{member.size}\t{count}\n")


def _files_in(folder: Path) -> int:
    return sum(not name.startswith(".") for name in os.listdir(folder)) if folder.is_dir() else 0


def _extract_members(
    members: Iterator[_Member],
    archive: Path,
    out: Path,
    place: Place,
    limits: Limits,
    done: Extracted,
    step: Callable[[], object],
) -> None:
    packed = archive.stat().st_size if archive.is_file() else None  # an inner tar is not compressed
    for member in members:
        name = _checked(member, archive)
        done.members += 1
        done.size += member.size
        _check_limits(archive, done, packed, limits)
        relative = place(name)
        if relative is None:
            continue
        target = out / _safe(relative, archive)
        if not (target.is_file() and not target.is_symlink() and target.stat().st_size == member.size):
            _write(member, target, archive)
            done.written += 1
        done.files += 1
        step()


def _write(member: _Member, target: Path, archive: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / TEMPORARY
    temporary.unlink(missing_ok=True)  # "x" below would stop at it, "w" would follow it if it were a link
    left = member.size
    try:
        with member.open() as source, temporary.open("xb") as file:
            while left and (block := source.read(min(BLOCK, left))):
                file.write(block)
                left -= len(block)
        if left:
            msg = f"'{archive}' is cut off inside '{member.name}'"
            raise EOFError(msg)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _checked(member: _Member, archive: Path) -> str:
    if member.refused:
        msg = f"'{archive}' is refused: its member '{member.name}' is {member.refused}; only plain files are extracted"
        raise DataError(msg)
    return _safe(member.name, archive)


def _safe(name: str, archive: Path) -> str:
    """A relative path below the folder, on every system.

    Raises:
        DataError: It is none.
    """
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)
    if name.startswith("/") or windows.drive or windows.root or "\\" in name or ".." in parts or "\0" in name:
        msg = f"'{archive}' is refused: its member '{name}' would be written outside of the folder"
        raise DataError(msg)
    if not parts:
        msg = f"'{archive}' is refused: a member has no name"
        raise DataError(msg)
    return "/".join(parts)


def _check_limits(archive: Path, done: Extracted, packed: int | None, limits: Limits) -> None:
    wrong = ""
    if done.members > limits.files:
        wrong = f"more than {limits.files:,} files"
    elif done.size > limits.size:
        wrong = f"more than {limits.size / 1e9:.1f} GB"
    elif packed is not None and done.size > max(SMALL, limits.ratio * packed):
        wrong = f"more than {limits.ratio} times its own size"
    if wrong:
        msg = f"'{archive}' is refused: it unpacks to {wrong}, which no such dataset does"
        raise DataError(msg)


def _of_tar(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if info.isdir():
            continue
        kind = (
            "a link" if info.issym() or info.islnk() else "a sparse file" if info.issparse() else "a device or the like"
        )
        yield _Member(info.name, info.size, "" if info.isreg() and not info.issparse() else kind, _opener(tar, info))


def _opener(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def open_it() -> IO[bytes]:
        file = tar.extractfile(info)
        if file is None:
            msg = f"'{info.name}' has no content"
            raise tarfile.ReadError(msg)
        return file

    return open_it


def _of_zip(file: zipfile.ZipFile) -> Iterator[_Member]:
    for info in file.infolist():
        if info.is_dir():
            continue
        mode = stat.S_IFMT(info.external_attr >> 16)  # 0 in archives made on Windows
        refused = "encrypted" if info.flag_bits & 1 else "" if mode in {0, stat.S_IFREG} else "a link or a device"
        # orig_filename: zipfile has already cut the other name at a NUL and turned separators around.
        yield _Member(info.orig_filename, info.file_size, refused, lambda info=info: file.open(info))  # type: ignore[misc]


@contextmanager
def _damage_said(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        msg = f"'{archive}' is damaged or cut off ({error}): get it again; what was extracted is kept"
        raise DataError(msg) from error
    except OSError as error:
        msg = f"cannot extract '{archive}': {error.strerror or error}; the same command goes on once that is put right"
        raise DataError(msg) from error
