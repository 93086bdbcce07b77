"""Searches folders, here or at URLs, for images, and notes what it leaves out, so that nothing is lost in silence."""

from __future__ import annotations

import fnmatch
import os
import posixpath
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field

from famcli.data.images import is_image
from famcli.data.sources import COMPRESSED, TAR, file_system, why_unread
from famcli_models.errors import DataError, listed, shown

# What a run writes an image:
OVERLAY_SUFFIX, PARTS_SUFFIX, MASK_SUFFIX = ".overlay.jpg", ".parts.overlay.jpg", ".mask.png"
RESULTS = (OVERLAY_SUFFIX, MASK_SUFFIX)
ANY_DEPTH = "**"
MOST_LINKS = 16  # to one folder that are followed: of folders that all link to each other the paths are without number


def is_input(name: str) -> bool:
    """Whether a file is an image to search for, by its path: neither hidden nor a picture that a run has written."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return is_image(posixpath.basename(name)) and not hidden and not name.endswith(RESULTS)


def is_pattern(text: str) -> bool:
    """Whether a text may be a pattern; brackets alone are part of a name."""
    return "*" in text or "?" in text


@dataclass
class Omissions:
    """What was found and is no input.

    Attributes:
        lost: Why something could not be searched, or matches nothing, by its name.
        linked: Links to folders that were not followed.
        astray: Links that lead in a circle, or nowhere.
        others: How many files of other types there were, by suffix.
        results: How many pictures of earlier runs there were.
        written: Folders that the run writes to.
        folders: Folders that match a pattern, which takes files alone.
    """

    lost: dict[str, str] = field(default_factory=dict)
    linked: set[str] = field(default_factory=set)
    astray: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    results: int = 0
    written: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def count(self, path: str) -> None:
        """Note a file that is no input; hidden ones are not counted."""
        name = posixpath.basename(path)
        if name.endswith(RESULTS):
            self.results += 1
        elif not name.startswith("."):
            self.others[os.path.splitext(name)[1].lower() or "no suffix"] += 1

    def remarks(self) -> tuple[str, ...]:
        """A sentence on each kind of what was left out, but for what is lost."""
        kinds = [
            f"{suffix}: {count}" for suffix, count in sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
        ]
        linked, astray, written, folders = (
            listed(sorted(names)) for names in (self.linked, self.astray, self.written, self.folders)
        )
        rows = (
            ("links to folders not followed", len(self.linked), f" ({linked}); give a folder itself to search it"),
            ("links in a circle or to nothing", len(self.astray), f" ({astray})"),
            ("files of other types left out", sum(self.others.values()), f" ({listed(kinds)})"),
            ("overlays and masks of earlier runs left out", self.results, ""),
            ("folders that this run writes to left out", len(self.written), f" ({written})"),
            ("folders that match a pattern not searched", len(self.folders), f" ({folders})"),
        )
        return tuple(f"{what}: {number}{more}" for what, number, more in rows if number)


class Search(ABC):
    """A search in one file system; what it leaves out is in ``omissions`` as far as it has come."""

    def __init__(self) -> None:
        self.omissions = Omissions()

    @abstractmethod
    def find(self, item: str, *, literal: bool) -> tuple[list[str], Iterable[str]]:
        """The folder that an input is, or the files; an input that is ``literal`` is no pattern."""

    @abstractmethod
    def entries(self, folder: str, name: str, inside: Container[object]) -> Iterator[str]:
        """Names of the images in a folder, called ``name``, and with a slash behind them those of folders to search.

        ``inside`` are the folders on the way to it, itself too, as :meth:`identity` says which they are.
        """

    def identity(self, folder: str) -> object:
        """What is the same for a folder on every way to it."""
        return folder

    def walk(self, top: str, prefix: str) -> Iterator[str]:
        """Names of the images below a folder, sorted as strings, behind a prefix."""
        inside: dict[object, None] = {}  # in the order of the levels
        levels: list[tuple[str, str, list[str]]] = []

        def enter(folder: str, name: str) -> None:
            inside[self.identity(folder)] = None
            levels.append((folder, name, sorted(self.entries(folder, name, inside), reverse=True)))

        # No recursion: folders may be nested deeper than Python's stack. With a slash behind them, folders come among
        # the files as the names of what is in them do.
        enter(top, prefix)
        while levels:
            folder, name, left = levels[-1]
            if not left:
                levels.pop()
                inside.popitem()
            elif (entry := left.pop()).endswith("/"):
                enter(f"{folder.rstrip('/')}/{entry[:-1]}", name + entry)
            else:
                yield name + entry


class LocalSearch(Search):
    """A search in folders of this machine.

    Args:
        written: Folders that the run writes to: they are no inputs, unless they hold those.
        follow_links: Search folders behind links too, but none that holds the link itself.
    """

    def __init__(self, written: Iterable[str | os.PathLike[str]] = (), *, follow_links: bool = False) -> None:
        super().__init__()
        self.written, self.follow_links = {os.path.abspath(folder) for folder in written}, follow_links
        self._counted: set[str] = set()  # folders whose files were counted: one may be given twice
        self._followed: Counter[object] = Counter()  # links, by the folder that they lead to

    def find(self, item: str, *, literal: bool) -> tuple[list[str], Iterable[str]]:
        """See :meth:`Search.find`."""
        path = os.path.abspath(item)
        if os.path.isdir(path):
            return [path], ()
        if not literal and is_pattern(item) and not os.path.lexists(path):
            return [], self._matches(item)
        return [], (path,)

    def entries(self, folder: str, name: str, inside: Container[object]) -> Iterator[str]:
        """See :meth:`Search.entries`."""
        # Of a folder that was searched before nothing is noted again.
        omissions = Omissions() if folder in self._counted else self.omissions
        self._counted.add(folder)
        for entry in self._scan(folder, name):
            if _is_folder(entry):
                target = self.identity(entry.path)
                if entry.name.startswith("."):
                    continue
                if entry.path in self.written:
                    omissions.written.add(name + entry.name)
                elif target in inside:
                    omissions.astray.add(name + entry.name)
                elif not entry.is_symlink() or self._follows(target):
                    yield entry.name + "/"
                else:
                    omissions.linked.add(name + entry.name)
            elif is_input(entry.name):
                yield entry.name
            elif entry.is_symlink() and not os.path.exists(entry.path):
                omissions.astray.add(name + entry.name)
            else:
                omissions.count(entry.name)

    def identity(self, folder: str) -> object:
        """Device and number of a folder."""
        try:
            status = os.stat(folder)
        except OSError:  # which searching it will say
            return folder
        return status.st_dev, status.st_ino

    def _follows(self, target: object) -> bool:
        self._followed[target] += 1
        return self.follow_links and self._followed[target] <= MOST_LINKS

    def _scan(self, folder: str, name: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except OSError as error:
            self.omissions.lost[name or _from_here(folder)] = (
                f"the folder cannot be searched: {why_unread(folder, error)}"
            )

    def _matches(self, pattern: str) -> list[str]:
        """Paths of the files that match ``*``, ``?`` and, for folders of any depth, ``**``.

        Brackets are names before they are patterns: they are sets of characters in a part of the path that has ``*`` or
        ``?`` too, and where nothing matches them as they are. What begins with a dot is matched by a dot.
        """
        drive, path = os.path.splitdrive(os.path.abspath(pattern))
        *above, last = path.strip(os.sep).split(os.sep)
        if last == ANY_DEPTH:
            above, last = [*above, ANY_DEPTH], "*"
        places = [base := drive + os.sep]
        for part in above:
            places = list(dict.fromkeys(below for place in places for below in self._folders(place, part)))
            base = places[0] if places == [os.path.join(base, part)] else base
        written = [folder for folder in self.written if folder.startswith(base.rstrip(os.sep) + os.sep)]
        found, folders = [], set()
        for place in places:
            for entry in self._matching(place, last):
                if _is_folder(entry):
                    folders.add(_from_here(entry.path))
                elif entry.name.endswith(RESULTS):
                    self.omissions.count(entry.name)
                elif holding := {folder for folder in written if entry.path.startswith(folder + os.sep)}:
                    self.omissions.written |= set(map(_from_here, holding))
                else:
                    found.append(entry.path)
        if ANY_DEPTH not in above:  # else the files in them match too
            self.omissions.folders |= folders
        if not found:
            alone = f" but folders; for the images in them give '{pattern}/**/*'" if folders else ""
            self.omissions.lost.setdefault(pattern, f"it matches no file{alone}")
        return found

    def _folders(self, place: str, part: str) -> Iterator[str]:
        """The folders in a place that match a part of a pattern."""
        path = os.path.join(place, part)
        if part == ANY_DEPTH:
            left = [place]
            while left:
                yield (folder := left.pop())
                for entry in self._scan(folder, ""):
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                        left.append(entry.path)
                    elif entry.is_symlink() and _is_folder(entry):
                        self.omissions.linked.add(_from_here(entry.path))
        elif is_pattern(part) and not os.path.lexists(path):
            yield from (entry.path for entry in self._matching(place, part) if _is_folder(entry))
        elif os.path.isdir(path):
            yield path

    def _matching(self, place: str, part: str) -> list[os.DirEntry[str]]:
        """What in a place matches a part of a pattern."""
        entries = [entry for entry in self._scan(place, "") if part.startswith(".") or not entry.name.startswith(".")]
        names_first = [entry for entry in entries if fnmatch.fnmatch(entry.name, _names(part))]
        if names_first or not is_pattern(part):
            return names_first
        return [entry for entry in entries if fnmatch.fnmatch(entry.name, part)]


class UrlSearch(Search):
    """A search at URLs of one scheme of fsspec."""

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self.scheme = scheme

    def find(self, item: str, *, literal: bool) -> tuple[list[str], Iterable[str]]:
        """See :meth:`Search.find`; the paths are without their scheme."""
        fs, path = file_system(item)
        pattern = not literal and is_pattern(item) and not self.scheme.startswith("http")  # whose ? is none
        if not pattern and (is_image(posixpath.basename(item)) or item.lower().endswith((TAR, *COMPRESSED))):
            return [], (self._plain(path),)  # without asking: there may be millions
        try:
            if pattern and not fs.exists(path):
                names_first = fs.glob(_names(path), detail=True)
                sets = "/".join(part if is_pattern(part) else _names(part) for part in path.split("/"))
                return [], self._files(item, names_first or fs.glob(sets, detail=True))
            return ([self._plain(path)], ()) if fs.isdir(path) else ([], (self._plain(path),))
        except Exception as error:  # each file system has errors of its own
            raise DataError(f"{shown(item)} cannot be listed: {str(error) or type(error).__name__}") from error

    def _files(self, pattern: str, matches: dict[str, dict[str, object]]) -> list[str]:
        files = [self._plain(name) for name, info in matches.items() if info["type"] != "directory"]
        inputs = [name for name in files if not name.endswith(RESULTS)]
        self.omissions.results += len(files) - len(inputs)
        if not inputs:
            self.omissions.lost.setdefault(pattern, "it matches no file")
        return inputs

    def _plain(self, name: str) -> str:
        return str(name).removeprefix(f"{self.scheme}://").rstrip("/")

    def entries(self, folder: str, name: str, inside: Container[object]) -> Iterator[str]:
        """See :meth:`Search.entries`."""
        del name, inside
        fs, path = file_system(f"{self.scheme}://{folder}")
        try:
            found = fs.ls(path, detail=True)
        except Exception as error:  # each file system has errors of its own
            where = f"{self.scheme}://{folder}"
            raise DataError(f"'{where}' cannot be listed: {str(error) or type(error).__name__}") from error
        for entry in found:
            place = str(entry["name"]).rstrip("/")
            base = posixpath.basename(place)
            if place == path.rstrip("/"):  # some list the folder itself
                continue
            if entry["type"] == "directory":
                if not base.startswith("."):
                    yield base + "/"
            elif is_input(base):
                yield base
            else:
                self.omissions.count(base)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _names(pattern: str) -> str:
    """A pattern whose brackets are part of names."""
    return pattern.replace("[", "[[]")


def _from_here(path: str) -> str:
    """A path as one would type it."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative
