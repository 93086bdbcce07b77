"""Files, folders, tars, URLs and patterns that a user typed, as a sorted list of images with names below one place."""

from __future__ import annotations

import bisect
import glob
import hashlib
import heapq
import os
import posixpath
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple, overload

from famcli.data.images import EXTENSIONS, is_image
from famcli.data.sources import COMPRESSED, TAR, Member, file_system, read_tar, scheme_of
from famcli_models.errors import DataError, shown

STDIN = "-"
# What a run writes an image:
OVERLAY_SUFFIX, PARTS_SUFFIX, MASK_SUFFIX = ".overlay.jpg", ".parts.overlay.jpg", ".mask.png"


class Names(Sequence[str]):
    """Sorted names, each once: packed, a name takes its bytes and 8 more, where a string in a tuple takes 57 more."""

    def __init__(self, in_order: Iterable[str] = ()) -> None:
        self._text, self._ends = bytearray(), array("Q", [0])
        self._range = range(0)
        last = None
        for name in in_order:
            if name != last:
                self._text += name.encode("utf-8", "surrogatepass")  # whose order is that of strings
                self._ends.append(len(self._text))
                last = name
        self._range = range(len(self._ends) - 1)

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Names: ...

    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            part = Names()
            part._text, part._ends, part._range = self._text, self._ends, self._range[index]
            return part
        i = self._range[index]
        return self._text[self._ends[i] : self._ends[i + 1]].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def find(self, name: str) -> int | None:
        """The place of a name, or ``None``."""
        i = bisect.bisect_left(self, name)
        return i if i < len(self) and self[i] == name else None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def sha256(self) -> str:
        """A digest of all the names, in hexadecimal."""
        digest = hashlib.sha256()
        for name in self:
            digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()


class Tar(NamedTuple):
    """The images of one tar in a listing."""

    name: str  # of the tar
    first: int  # the place of its first image among the names
    offsets: array[int]
    sizes: array[int]


@dataclass(frozen=True, slots=True)
class Listing:
    """Images in a fixed order.

    Attributes:
        root: What the names are relative to: the folder or URL that was given, or the deepest that holds all inputs.
        names: Sorted relative POSIX paths, each once; those of the images in a tar begin with the tar's. Before
            :meth:`with_members` a tar is a name that ends with ``/``.
        tars: Where the images are that lie in tars.
        refused: Why something is no image that can be read, by name: a tar that is damaged.
    """

    root: Path | str  # a string is a URL
    names: Names
    tars: Sequence[Tar] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_tars(self) -> bool:
        """Whether some of the images lie in tars, opened or not."""
        return bool(self.tars) or any(name.endswith("/") for name in self.names)

    @property
    def is_local(self) -> bool:
        """Whether every image is a file that other programs can open."""
        return isinstance(self.root, Path) and not self.has_tars

    def path(self, name: str) -> Path:
        """The file behind a name; of images that are local files only."""
        return Path(self.root) / name

    def source(self, place: int) -> Path | str | Member:
        """What an image is read from, by the place of its name."""
        i = bisect.bisect_right(self.tars, place, key=lambda tar: tar.first) - 1
        if i >= 0 and place - self.tars[i].first < len(self.tars[i].offsets):
            tar = self.tars[i]
            at = place - tar.first
            return Member(str(self._place(tar.name)), tar.offsets[at], tar.sizes[at])
        return self._place(self.names[place])

    def _place(self, name: str) -> Path | str:
        if isinstance(self.root, Path):
            return self.root / name
        return self.root + name if self.root.endswith("/") else f"{self.root}/{name}"

    def share(self, part: slice) -> Listing:
        """A part of the names, before tars are opened: a tar is in one part, with all of its images."""
        return replace(self, names=self.names[part])

    def with_members(self) -> Listing:
        """The listing with the images of each tar in its place; this reads the headers of the tars.

        A tar that is damaged has the images up to there, and is refused under its own name.
        """
        if not any(name.endswith("/") for name in self.names):
            return self
        tars: list[Tar] = []
        refused: dict[str, str] = {}

        def names() -> Iterator[str]:
            place = 0
            for name in self.names:
                if not name.endswith("/"):
                    yield name
                    place += 1
                    continue
                members: dict[str, tuple[int, int]] = {}
                try:
                    for member, *extent in read_tar(str(self._place(name[:-1]))):
                        if _is_input(member):
                            members[member] = extent[0], extent[1]  # the last of a name, as when it is unpacked
                except DataError as error:
                    refused[name] = str(error)
                    yield name
                    place += 1
                in_order = sorted(members)
                offsets, sizes = (array("Q", (members[m][k] for m in in_order)) for k in (0, 1))
                tars.append(Tar(name[:-1], place, offsets, sizes))
                yield from (name + member for member in in_order)
                place += len(in_order)

        return replace(self, names=Names(names()), tars=tars, refused=refused)


def list_images(
    inputs: Sequence[str], stdin: Iterable[str] = (), exclude: Sequence[Path] = (), *, follow_links: bool = False
) -> Listing:
    """Expand files, folders, glob patterns, each also as a URL of fsspec, and ``-`` (one of them a line on stdin).

    Folders are searched recursively for the extensions of the supported formats; hidden files and folders, the
    pictures and masks of earlier runs, and the folders in ``exclude`` are left out. Folders that are symbolic links are
    searched if ``follow_links``, but none that holds the link itself. A file named by itself is taken whatever its
    extension, even if it does not exist: reading it will say so. Tars are taken where they are named, or match a
    pattern.
    """
    lines = (line for line in (raw.rstrip("\r\n") for raw in stdin) if line) if STDIN in inputs else ()
    skipped = {os.path.abspath(folder) for folder in exclude}
    folders: list[str] = []
    files: list[str] = []
    parents: set[str] = set()
    schemes: set[str] = set()
    for item in chain((i for i in inputs if i not in ("", STDIN)), lines):
        schemes.add(scheme := scheme_of(item))
        searched, found = _find_url(item) if scheme else _find_local(item, skipped)
        folders += searched
        for file in found:
            if file.lower().endswith(COMPRESSED):
                raise DataError(
                    f"'{file}' is compressed, and no image can be read by its place in it: unpack it to .tar"
                )
            files.append(file)
            parents.add(os.path.dirname(file))
    if len(schemes) > 1:
        kinds = ", ".join(f"{scheme}://" if scheme else "local files" for scheme in sorted(schemes))
        raise DataError(f"the images of one run lie in one file system, and these are in {len(schemes)}: {kinds}")
    scheme = schemes.pop() if schemes else ""
    root = _common([*folders, *parents], scheme)
    prefix = root if root.endswith("/") or not root else root + ("/" if scheme else os.sep)
    for i, file in enumerate(files):  # in place: there may be millions
        name = file.removeprefix(prefix).replace(os.sep, "/")
        files[i] = name + "/" if name.lower().endswith(TAR) else name
    walks = [_in_order(files)]
    for folder in dict.fromkeys(folders):
        scan = _url_scanner(scheme) if scheme else _local_scanner(folder, skipped, follow_links)
        below = f"{folder}/".removeprefix(prefix).replace(os.sep, "/")
        walks.append(_walk(scan, folder, "" if folder == root else below))
    names = Names(heapq.merge(*walks))
    if not names:
        given = ", ".join(f"'{i}'" for i in inputs)
        raise DataError(
            f"no images in {given}; folders are searched for {', '.join(sorted(EXTENSIONS))}, and tars are given by "
            f"their own names"
        )
    return Listing(f"{scheme}://{root}" if scheme else Path(root), names)


def _common(places: Sequence[str], scheme: str) -> str:
    """The deepest folder that holds all of these."""
    if not places:
        return ""
    try:
        return posixpath.commonpath(places) if scheme else os.path.commonpath(places)
    except ValueError:  # Windows: two drives
        return Path(places[0]).anchor


def _find_local(item: str, skipped: set[str]) -> tuple[list[str], Iterable[str]]:
    """The folder that an input is, or the files."""
    path = os.path.abspath(item)
    if os.path.isdir(path):
        return [path], ()
    if not os.path.lexists(path) and glob.has_magic(item):
        matches = (os.path.abspath(p) for p in glob.iglob(item, recursive=True) if not os.path.isdir(p))
        return [], (m for m in matches if not any(m.startswith(folder + os.sep) for folder in skipped))
    return [], (path,)


def _find_url(item: str) -> tuple[list[str], Iterable[str]]:
    """The folder that a URL is, or the files, without their scheme."""
    fs, path = file_system(item)
    scheme = scheme_of(item)

    def plain(name: str) -> str:
        return str(name).removeprefix(f"{scheme}://").rstrip("/")

    pattern = glob.has_magic(item) and not scheme.startswith("http")  # whose ? is none
    if not pattern and (is_image(posixpath.basename(item)) or item.lower().endswith((TAR, *COMPRESSED))):
        return [], (plain(path),)  # without asking: there may be millions
    try:
        if pattern and not fs.exists(path):
            matches = fs.glob(path, detail=True)
            return [], (plain(name) for name, info in matches.items() if info["type"] != "directory")
        return ([plain(path)], ()) if fs.isdir(path) else ([], (plain(path),))
    except Exception as error:  # each file system has errors of its own
        raise DataError(f"{shown(item)} cannot be listed: {str(error) or type(error).__name__}") from error


def _in_order(names: list[str]) -> Iterator[str]:
    """A list sorted and emptied, so that each name is free when it is packed."""
    names.sort(reverse=True)
    while names:
        yield names.pop()


Scan = Callable[[str], Iterable[tuple[str, bool]]]  # of a folder: the names in it, and which of them are folders


def _walk(scan: Scan, folder: str, prefix: str) -> Iterator[str]:
    """Names of the images below a folder, sorted as strings."""
    # With a slash behind them, folders come among the files as the names of what is in them do.
    entries = [
        f"{name}/" if is_folder else name
        for name, is_folder in scan(folder)
        if (is_folder and not name.startswith(".")) or _is_input(name)
    ]
    for entry in _in_order(entries):
        if entry.endswith("/"):
            yield from _walk(scan, f"{folder.rstrip('/')}/{entry[:-1]}", prefix + entry)
        else:
            yield prefix + entry


def _is_input(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return is_image(posixpath.basename(name)) and not hidden and not name.endswith((OVERLAY_SUFFIX, MASK_SUFFIX))


def _local_scanner(top: str, skipped: set[str], follow_links: bool) -> Scan:
    def scan(folder: str) -> Iterator[tuple[str, bool]]:
        try:
            entries = os.scandir(folder)
        except OSError:  # such as lost+found at the top of a disk
            return
        with entries:
            for entry in entries:
                if not os.path.isdir(entry):
                    yield entry.name, False
                elif os.path.abspath(entry.path) not in skipped and (
                    not entry.is_symlink() or (follow_links and not _is_loop(entry.path, top))
                ):
                    yield entry.name, True

    return scan


def _is_loop(link: str, top: str) -> bool:
    """Whether a link to a folder leads to one that holds it, itself by way of links or not."""
    target, above = os.path.realpath(link), os.path.dirname(link)
    while os.path.realpath(above) != target:
        if above == top or above == os.path.dirname(above):
            return False
        above = os.path.dirname(above)
    return True


def _url_scanner(scheme: str) -> Scan:
    def scan(folder: str) -> Iterator[tuple[str, bool]]:
        fs, path = file_system(f"{scheme}://{folder}")
        try:
            entries = fs.ls(path, detail=True)
        except Exception as error:  # each file system has errors of its own
            where = f"{scheme}://{folder}"
            raise DataError(f"'{where}' cannot be listed: {str(error) or type(error).__name__}") from error
        for entry in entries:
            name = str(entry["name"]).rstrip("/")
            if name != path.rstrip("/"):  # some list the folder itself
                yield posixpath.basename(name), entry["type"] == "directory"

    return scan
