"""Files, folders, tars, URLs and patterns that a user typed, as a sorted list of images with names below one place."""

from __future__ import annotations

import bisect
import hashlib
import heapq
import os
import posixpath
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, overload

from famcli.data.images import EXTENSIONS
from famcli.data.search import LocalSearch, Omissions, Search, UrlSearch, is_input
from famcli.data.sources import COMPRESSED, TAR, Member, read_tar, scheme_of
from famcli_models.errors import DataError, listed, short

STDIN = "-"
SHOWN_LOST = 3  # inputs, in a message


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
        refused: Why something is no image that can be read, by name: a tar that is damaged, or has no image.
        lost: Why an input could not be searched or matches nothing, by its name; such an input has no image.
        remarks: Sentences on what was left out by a rule, such as files of other types.
        typed: What was typed before the names of images that were given one by one.
    """

    root: Path | str  # a string is a URL
    names: Names
    tars: Sequence[Tar] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    typed: str = ""

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

    def as_typed(self, name: str) -> str:
        """The name of an image in a message: as it was typed, or below the folder that was given."""
        if name in self.lost:
            return name
        return (f"{self.typed.rstrip('/')}/{name}" if self.typed else name).rstrip("/")  # which a tar's name ends with

    def check_whole(self) -> Listing:
        """The listing itself, if every input could be searched; else a ``DataError`` says which could not."""
        for name, why in self.lost.items():
            raise DataError(f"'{short(name)}': {why}")
        return self

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
        omissions = Omissions()

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
                        if is_input(member):
                            members[member] = extent[0], extent[1]  # the last of a name, as when it is unpacked
                        else:
                            omissions.count(member)
                except DataError as error:
                    refused[name] = str(error)
                if not members:
                    refused.setdefault(name, "no image is in it")
                if name in refused:
                    yield name
                    place += 1
                ordered = sorted(members)
                offsets, sizes = (array("Q", (members[m][k] for m in ordered)) for k in (0, 1))
                tars.append(Tar(name[:-1], place, offsets, sizes))
                yield from (name + member for member in ordered)
                place += len(ordered)

        in_order = Names(names())
        remarks = (*self.remarks, *(f"in tars, {remark}" for remark in omissions.remarks()))
        return replace(self, names=in_order, tars=tars, refused=refused, remarks=remarks)


def list_images(
    inputs: Sequence[str], stdin: Iterable[str] = (), exclude: Sequence[Path] = (), *, follow_links: bool = False
) -> Listing:
    """Expand files, folders, glob patterns, each also as a URL of fsspec, and ``-`` (those on stdin, never patterns).

    Folders are searched recursively for the extensions of the supported formats; hidden files and folders, the
    pictures and masks of earlier runs, and folders in ``exclude`` that hold no input are left out. Folders that are
    symbolic links are searched if ``follow_links``, but none that holds the link itself. A file named by itself is
    taken whatever its extension, even if it does not exist: reading it will say so. Tars are taken where they are
    named, or match a pattern. What is left out is in the listing's ``remarks`` and ``lost``.
    """
    files: list[str] = []
    folders: list[str] = []
    parents: set[str] = set()
    local = LocalSearch(exclude, follow_links=follow_links)
    searches: dict[str, Search] = {}
    here = True  # every input is a file with a relative path
    typed = ((item, False) for item in inputs if item != STDIN)
    read = ((name, True) for name in (stdin if STDIN in inputs else ()) if name)
    for item, literal in chain(typed, read):
        if not item:
            local.omissions.lost["''"] = "the name is empty"
            continue
        if (scheme := scheme_of(item)) not in searches:
            searches[scheme] = UrlSearch(scheme) if scheme else local
        searched, found = searches[scheme].find(item, literal=literal)
        folders += searched
        here = here and not os.path.isabs(item)
        for file in found:
            if file.lower().endswith(COMPRESSED):
                raise DataError(
                    f"'{file}' is compressed, and no image can be read by its place in it: unpack it to .tar"
                )
            files.append(file)
            parents.add(os.path.dirname(file))
    if len(searches) > 1:
        kinds = ", ".join(f"{scheme}://" if scheme else "local files" for scheme in sorted(searches))
        raise DataError(f"the images of one run lie in one file system, and these are in {len(searches)}: {kinds}")
    scheme, search = next(iter(searches.items()), ("", local))
    root = _common([*folders, *parents], scheme)
    prefix = root if root.endswith("/") or not root else root + ("/" if scheme else os.sep)
    for i, file in enumerate(files):  # in place: there may be millions
        name = file.removeprefix(prefix).replace(os.sep, "/")
        files[i] = name + "/" if name.lower().endswith(TAR) else name
    walks = [_in_order(files)]
    for folder in dict.fromkeys(folders):
        below = f"{folder}/".removeprefix(prefix).replace(os.sep, "/")
        walks.append(search.walk(folder, "" if folder == root else below))
    names = Names(heapq.merge(*walks))
    lost, remarks = {**local.omissions.lost, **search.omissions.lost}, search.omissions.remarks()
    if not names:
        raise _no_images(inputs, lost, remarks)
    place = f"{scheme}://{root}" if scheme else root
    typed_root = os.path.relpath(root) if here and not scheme else place
    before = "" if folders or typed_root == os.curdir else typed_root
    return Listing(place if scheme else Path(root), names, lost=lost, remarks=remarks, typed=before)


def _no_images(inputs: Sequence[str], lost: Mapping[str, str], remarks: Iterable[str]) -> DataError:
    why = "; ".join([*(f"{short(name)}: {why}" for name, why in islice(lost.items(), SHOWN_LOST)), *remarks])
    return DataError(
        f"no images in {listed([repr(item) for item in inputs])}{f' ({why})' if why else ''}; folders are searched "
        f"for {', '.join(sorted(EXTENSIONS))}, and tars are given by their own names"
    )


def _common(places: Sequence[str], scheme: str) -> str:
    """The deepest folder that holds all of these."""
    if not places:
        return ""
    try:
        return posixpath.commonpath(places) if scheme else os.path.commonpath(places)
    except ValueError:  # Windows: two drives
        return Path(places[0]).anchor


def _in_order(names: list[str]) -> Iterator[str]:
    """A list sorted and emptied, so that each name is free when it is packed."""
    names.sort(reverse=True)
    while names:
        yield names.pop()
