"""Downloads of the public datasets: what is there, what is to come, and files that are fetched, resumed and verified.

A file is written to ``NAME.part`` and gets its name when its size and hash are the published ones. A part of a file
with a published hash is continued by the next connection or process; one without is small, and starts again, because
nothing could tell whether its two halves are of one file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import requests

from famcli.data.dataset import DATASET_FILE
from famcli.data.public.catalog import CATALOG, Archive, DatasetFacts, human
from famcli_models.errors import DataError, UnknownNameError
from famcli_models.files import write_atomic
from famcli_models.locks import only_writer

DOWNLOADS = "downloads"  # in the folder of a dataset, unless --to names another
BLOCK = 1 << 15  # urllib3 throws away the block in which a connection breaks
TRIES, ENOUGH = 6, 1 << 20  # connections in a row that bring less than so many bytes, before giving up
LONGEST = 60.0  # seconds between two tries; the first wait is a second, and each the double of the one before
TIMEOUT = 30.0  # seconds without an answer or a byte, after which a connection is given up
PASSING = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524}  # answers worth another try
REFUSALS = {
    401: "the server asks for a login",
    403: "the server refuses it: it may want a login, or refuse this network",
    404: "the server has no such file: the publisher may have moved it",
    410: "the publisher has removed it",
}
BROKEN = (  # the first that fits
    (requests.Timeout, "the server does not answer"),
    (requests.exceptions.SSLError, "no safe connection (TLS) to the server"),
    (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    (requests.ConnectionError, "no connection to the server"),
)
MEMORY = ".fam-verified.json"
MARGIN = 64 << 20  # bytes of metadata and file system blocks beside what is extracted
Report = Callable[[Any], object]  # takes a number of bytes, or a sentence
Todo = Literal["there", "resume", "download", "by hand"]  # by hand where a login or a browser is needed


class Item(NamedTuple):
    """One file of a download."""

    archive: Archive
    path: Path
    have: int  # bytes that are there
    todo: Todo

    @property
    def left(self) -> int:
        """Bytes still to come, as far as the size is known."""
        return max(0, (self.archive.size or 0) - self.have) if self.todo in {"resume", "download"} else 0


def plan_download(facts: DatasetFacts, folder: Path, only: Sequence[str] = ()) -> list[Item]:
    """The files of a download to a folder: those of the names or topics in ``only``, or all required ones."""
    known = {word: a for a in facts.archives for word in (a.name, a.topic) if word}
    for word in only:
        if word not in known:
            raise UnknownNameError(f"file of {facts.name}", word, known)
    items = []
    for archive in [known[word] for word in only] or [archive for archive in facts.archives if archive.required]:
        path = folder / archive.name
        have = _size(path) or (_size(part_of(path)) if archive.url else 0)
        todo: Todo = "there" if path.is_file() else "by hand" if not archive.url else "resume" if have else "download"
        items.append(Item(archive, path, have, todo))
    return items


def refuse_unaccepted(facts: DatasetFacts, items: Sequence[Item], *, accepted: bool) -> None:
    """Make sure that the publisher's terms are accepted if anything is to be downloaded."""
    if facts.must_accept and not accepted and any(item.todo in {"resume", "download"} for item in items):
        raise DataError(
            f"{facts.title} has terms of use. In our words: {facts.terms} Read the publisher's at {facts.terms_page}, "
            "and add --accept-terms if you accept them"
        )


def refuse_by_hand(facts: DatasetFacts, items: Sequence[Item], folder: Path, again: str) -> None:
    """Name the files that a program cannot get, if there are some, and the command to run once they are there."""
    if by_hand := [item.archive for item in items if item.todo == "by hand"]:
        names = ", ".join(f"{a.name} ({a.holds})" for a in by_hand)
        pages = " and ".join(dict.fromkeys(a.page for a in by_hand))
        why = "after a login" if facts.must_accept else "with a browser"
        raise DataError(
            f"{facts.title} cannot be downloaded by a program. Get {names} {why} at {pages}, put them into '{folder}', "
            f"and run '{again}' again, or run 'fam data prepare {facts.name} --from DIR' on another folder"
        )


def state_of(name: str, home: Path) -> Literal["prepared", "downloaded", "partly downloaded", "absent"]:
    """How far a dataset of the catalogue is in the data home."""
    if (home / name / DATASET_FILE).is_file():
        return "prepared"
    items = plan_download(CATALOG[name], home / name / DOWNLOADS)
    if all(item.todo == "there" for item in items):
        return "downloaded"
    return "partly downloaded" if any(item.have for item in items) else "absent"


def check_space(*needs: tuple[Path, int, str]) -> None:
    """Make sure that the disks hold what will be written: folder, bytes, and what for; added up where a disk is one."""
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for folder, size, what in needs:
        if size:
            disks.setdefault(_existing(folder).stat().st_dev, []).append((folder, size, what))
    for group in disks.values():
        folder, total = group[0][0], sum(size for _, size, _ in group) + MARGIN
        if total > free_bytes(folder):
            parts = " and ".join(f"{human(size)} to {what}" for _, size, what in group)
            raise DataError(
                f"'{folder}' has {human(free_bytes(folder))} free, but {human(total)} are needed ({parts}): free some, "
                "or choose another disk with --to and --out, or with the environment variable FAM_DATA"
            )


def free_bytes(folder: Path) -> int:
    """Free bytes where a folder is or will be."""
    return shutil.disk_usage(_existing(folder)).free


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def verify(path: Path, archive: Archive, memory: Path, step: Report = lambda _: None) -> str:
    """Make sure that a file is the publisher's; gives its hash, such as ``md5 1d67...``.

    Hashing 148 GB takes minutes: the folder ``memory`` remembers a file that passed, by its size and time of change.
    """
    try:
        known = _recall(memory).get(str(path.resolve()))
        if isinstance(known, dict) and known.get("stamp") == _stamp(path, archive):
            return str(known.get("hash"))
        wrong, found = _compare(path, archive, step)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from error
    if wrong:
        raise DataError(f"'{path}' is not the publisher's file: {wrong}; download it again from {archive.page}")
    _remember(path, archive, memory, found)
    return found


def _compare(path: Path, archive: Archive, step: Report) -> tuple[str, str]:
    """What is wrong with a file in one sentence, or an empty text; and its hash as ``sha256 0c68...``."""
    if archive.size is not None and _size(path) != archive.size:
        return f"it has {_size(path):,} bytes, the publisher's has {archive.size:,}", ""
    algorithm, _, expected = (archive.hash or "sha256:").partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)  # MD5 tells a broken transfer as well as any
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            step(len(block))
    found = digest.hexdigest()
    wrong = f"its {algorithm} is {found}, the publisher's is {expected}" if expected and found != expected else ""
    return wrong, f"{algorithm} {found}"


def _stamp(path: Path, archive: Archive) -> list[Any]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, archive.hash]


def _recall(memory: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        known = json.loads((memory / MEMORY).read_text(encoding="utf-8"))
        return known if isinstance(known, dict) else {}
    return {}


def _remember(path: Path, archive: Archive, memory: Path, found: str) -> None:
    known = {**_recall(memory), str(path.resolve()): {"stamp": _stamp(path, archive), "hash": found}}
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    with suppress(OSError):  # shared storage is often read-only: then the next run hashes again
        write_atomic(memory / MEMORY, lambda p: p.write_text(text, encoding="utf-8"))


def part_of(target: Path) -> Path:
    """Where a file is while it is incomplete."""
    return target.with_name(f"{target.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def fetch(
    archive: Archive, folder: Path, step: Report = lambda _: None, say: Report = lambda _: None
) -> tuple[str, bool]:
    """Have a file in a folder, verified; gives its hash, as ``sha256 0c68...``, and whether it came just now.

    ``step`` is called with the number of bytes after each block, negative when bytes are thrown away.
    """
    target = folder / archive.name
    part, bad = part_of(target), target.with_name(f"{target.name}.bad")
    with only_writer(target, "--to"):
        if target.is_file():
            try:
                return verify(target, archive, folder), False
            except DataError as error:
                target.replace(bad)
                say(f"{error}; it is kept as {bad.name} and downloaded again")
        for first in (True, False):
            _download(archive, part, step, say)
            wrong, found = _compare(part, archive, lambda _: None)
            if not wrong:
                part.replace(target)
                _remember(target, archive, folder, found)
                return found, True
            part.replace(bad)
            if first:
                step(-_size(bad))
                say(f"{archive.name} is not the publisher's file ({wrong}); kept as {bad.name}, trying once more")
    raise DataError(
        f"{archive.name} from {archive.url} is not the publisher's file, twice: {wrong}. The last one is kept as "
        f"'{bad}'; get the file at {archive.page} by hand, or report that the publisher has changed it"
    )


def _download(archive: Archive, part: Path, step: Report, say: Report) -> None:
    """Bring ``NAME.part`` to the end of the file, over as many connections as it takes."""
    step(_size(part))
    failures = 0
    while True:
        before, asked = _size(part), ""
        try:
            return _continue(archive, part, step, say)
        except requests.RequestException as error:
            reason = next((words for kind, words in BROKEN if isinstance(error, kind)), str(error))
            asked = error.response.headers.get("Retry-After", "") if error.response is not None else ""
        except OSError as error:
            what = "the disk is full" if error.errno == errno.ENOSPC else f"cannot write '{part}': {error.strerror}"
            kept = "what came so far is kept, and the same command continues once there is space"
            raise DataError(f"{what}; {kept}") from error
        failures = 1 if _size(part) - before >= ENOUGH else failures + 1
        if failures >= TRIES:
            raise DataError(
                f"{archive.name} from {archive.url}: {reason}, {failures} times in a row. The {_size(part):,} bytes "
                "that came are kept; the same command continues from there"
            )
        pause = min(max(2.0 ** (failures - 1), float(asked) if asked.isdecimal() else 0.0), LONGEST)
        say(f"{archive.name}: {reason}; going on from {_size(part):,} bytes in {pause:g} s")
        time.sleep(pause)


def _continue(archive: Archive, part: Path, step: Report, say: Report) -> None:
    """One request, from where the part ends; a ``RequestException`` is worth another try, a ``DataError`` is not."""
    have = _size(part) if archive.hash else 0
    # Compressed on the way, a byte range would mean something else.
    headers = {"Accept-Encoding": "identity", "User-Agent": "fam", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.get(str(archive.url), headers=headers, stream=True, timeout=TIMEOUT) as response:
        code = response.status_code
        if have and code == requests.codes.requested_range_not_satisfiable:
            return  # the part is complete, or of an older file: the comparison says which
        if code in PASSING:
            raise requests.HTTPError(f"the server answers {code}", response=response)
        if code not in {200, 206}:
            why = REFUSALS.get(code, "the server refuses it")
            raise DataError(f"cannot get {archive.url}: {why} ({code}); see {archive.page}")
        if have and code == requests.codes.ok:
            say(f"{archive.name} starts from the beginning: its server cannot continue files")
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else archive.size or 0
        if not have:
            step(-_size(part))
        with part.open("ab" if have else "wb") as file:
            for block in response.iter_content(BLOCK):
                file.write(block)
                step(len(block))
                have += len(block)
                if archive.size is not None and have > archive.size:
                    return  # too long to be the file: the comparison says so
        if have < total:
            raise requests.exceptions.ChunkedEncodingError
