"""Files over HTTP that survive a bad line: resumed, verified, locked, and never half there.

A file is written to ``NAME.part`` and renamed when its size and hash are right. ``NAME.part.json`` says which
version of the file the part is of, so that a file that changed at the publisher's is never stitched together.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from filelock import FileLock, Timeout

from famcli.data.public.catalog import Archive
from famcli.data.public.digests import compare, remember, verify
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

BLOCK = 1 << 15  # urllib3 throws away the block in which a connection breaks
PASSING = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524}  # worth another try
REASONS = {
    401: "the server asks for a login",
    403: "the server refuses it: it may want a login, or refuse this network",
    404: "the server has no such file: the publisher may have moved it",
    410: "the publisher has removed it",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on with a bad line.

    Attributes:
        tries: In a row that bring nothing, before giving up.
        enough: Bytes that make a try count as progress, after which the tries are counted anew.
        wait: Seconds before the second try; doubled each time.
        longest: Seconds waited at most.
        timeout: Seconds without an answer or a byte after which a connection is given up.
        sleep: How to wait.
    """

    tries: int = 6
    enough: int = 1 << 20
    wait: float = 1.0
    longest: float = 60.0
    timeout: float = 30.0
    sleep: Callable[[float], object] = time.sleep


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how it goes.

    Attributes:
        step: Called with the number of bytes after each block; negative when bytes are thrown away.
        say: Called with a sentence when something is out of the ordinary.
    """

    step: Callable[[int], object] = field(default=lambda _: None)
    say: Callable[[str], object] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is there and right: its path, its hash as ``sha256 …``, and whether it came just now."""

    path: Path
    seen: str
    fresh: bool


class _BrokenError(Exception):
    """The line broke: worth another try. ``after`` is what the server asked to wait, in seconds."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


def part_of(target: Path) -> Path:
    """Where a file is while it is incomplete."""
    return target.with_name(f"{target.name}.part")


def fetch(archive: Archive, folder: Path, watcher: Watcher | None = None, patience: Patience | None = None) -> Fetched:
    """Have a file in a folder, verified; downloaded only as far as it is not there yet.

    Args:
        archive: The row; its ``url`` must be set.
        folder: The download folder; made if needed.
        watcher: Progress and remarks.
        patience: Tries and waiting times.

    Raises:
        DataError: The file cannot be had, is not the publisher's after a second download, does not fit on the disk,
            or is being downloaded by another process. What came so far is kept in ``NAME.part``.
    """
    watcher, patience = watcher or Watcher(), patience or Patience()
    if archive.url is None:
        msg = f"{archive.name} cannot be downloaded by a program; get it at {archive.page} and put it into '{folder}'"
        raise DataError(msg)
    target = folder / archive.name
    with _only_one(target):
        if target.is_file():
            try:
                return Fetched(target, verify(target, archive, folder), fresh=False)
            except DataError as error:
                watcher.say(f"{error}; it is kept as {_set_aside(target, target).name} and downloaded again")
        for first in (True, False):
            _download(archive, target, watcher, patience)
            part = part_of(target)
            wrong, seen = compare(part, archive)
            if not wrong:
                part.replace(target)
                _version_file(part).unlink(missing_ok=True)
                remember(target, archive, folder, seen)
                return Fetched(target, seen, fresh=True)
            bad = _set_aside(part, target)
            if first:
                watcher.step(-bad.stat().st_size)
                watcher.say(
                    f"{archive.name} is not the publisher's file ({wrong}); kept as {bad.name}, trying once more"
                )
    msg = (
        f"{archive.name} from {archive.url} is not the publisher's file, twice: {wrong}. The last one is kept as "
        f"'{bad}'; get the file at {archive.page} by hand, or report that the publisher has changed it"
    )
    raise DataError(msg)


def _set_aside(path: Path, target: Path) -> Path:
    bad = target.with_name(f"{target.name}.bad")
    path.replace(bad)
    _version_file(part_of(target)).unlink(missing_ok=True)
    return bad


@contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Two processes must not write one part; the lock goes with its process, however that ends."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        lock.acquire(timeout=0)
    except Timeout as error:
        msg = f"another process is downloading '{target}': wait for it, or give --to another folder"
        raise DataError(msg) from error
    except OSError as error:
        msg = f"cannot write to '{target.parent}': {error.strerror}; give --to another folder"
        raise DataError(msg) from error
    try:
        yield
    finally:
        lock.release()


def _download(archive: Archive, target: Path, watcher: Watcher, patience: Patience) -> None:
    """Bring ``NAME.part`` to the end of the file, over as many connections as it takes."""
    part, failures, wait = part_of(target), 0, patience.wait
    watcher.step(part.stat().st_size if part.is_file() else 0)
    with requests.Session() as session:
        while True:
            before = part.stat().st_size if part.is_file() else 0
            try:
                _one_connection(session, archive, part, watcher, patience)
            except (_BrokenError, requests.RequestException) as error:
                reason, after = _reason(error), getattr(error, "after", 0.0)
            except OSError as error:
                what = "the disk is full" if error.errno == errno.ENOSPC else f"cannot write '{part}': {error.strerror}"
                msg = f"{what}; what came so far is kept, and the same command continues once there is room"
                raise DataError(msg) from error
            else:
                return
            now = part.stat().st_size if part.is_file() else 0
            if now - before >= patience.enough:
                failures, wait = 0, patience.wait
            failures += 1
            if failures >= patience.tries:
                msg = (
                    f"{archive.name} from {archive.url}: {reason}, {failures} times in a row. The {now:,} bytes that "
                    "came are kept; the same command continues from there"
                )
                raise DataError(msg)
            pause = min(max(wait, after), patience.longest)
            watcher.say(f"{archive.name}: {reason}; going on from {now:,} bytes in {pause:g} s")
            patience.sleep(pause)
            wait *= 2


def _reason(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "no safe connection (TLS) to the server"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    return str(error)


def _one_connection(
    session: requests.Session, archive: Archive, part: Path, watcher: Watcher, patience: Patience
) -> None:
    """One request, from where the part ends.

    Raises:
        _BrokenError: The file is not complete yet.
        DataError: Another try would not help.
    """
    have = part.stat().st_size if part.is_file() else 0
    version = _version(part, archive)
    if have and not version and not archive.pinned:
        have = _restart(part, have, watcher)  # nothing could tell whether the two halves are of one file
    # Compressed on the way, a byte range would mean something else.
    headers = {"Accept-Encoding": "identity", "User-Agent": "fam"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
    with session.get(str(archive.url), headers=headers, stream=True, timeout=patience.timeout) as response:
        code = response.status_code
        if code == requests.codes.requested_range_not_satisfiable:
            if have and response.headers.get("Content-Range") == f"bytes */{have}":
                return  # the part was complete
            _restart(part, have, watcher)
            reason = "the file at the server is shorter than the part here, so it has changed"
            raise _BrokenError(reason)
        if code in PASSING:
            reason = f"the server answers {code}"
            raise _BrokenError(reason, _retry_after(response))
        if code not in {200, 206}:
            msg = f"cannot get {archive.url}: {REASONS.get(code, 'the server refuses it')} ({code}); see {archive.page}"
            raise DataError(msg)
        if have and (code == requests.codes.ok or not _continues(response, have)):
            if code == requests.codes.partial_content:
                _restart(part, have, watcher)
                reason = "the server sent another part of the file than was asked for"
                raise _BrokenError(reason)
            watcher.say(
                f"{archive.name} starts from the beginning: it has changed, or its server cannot continue files"
            )
            have = _restart(part, have, watcher)
        _write_version(part, response, str(archive.url))
        _receive(response, part, have, archive, watcher)


def _receive(response: requests.Response, part: Path, have: int, archive: Archive, watcher: Watcher) -> None:
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    with part.open("ab") as file:
        for block in response.iter_content(BLOCK):
            file.write(block)
            have += len(block)
            watcher.step(len(block))
            if archive.size is not None and have > archive.size:
                return  # too long to be the file: the comparison says so
    if total is not None and have < total:
        reason = "the connection was cut"
        raise _BrokenError(reason)
    if total is None and archive.size is not None and have < archive.size:
        reason = "the connection ended before the file did"
        raise _BrokenError(reason)


def _restart(part: Path, have: int, watcher: Watcher) -> int:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)
    watcher.step(-have)
    return 0


def _continues(response: requests.Response, have: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _retry_after(response: requests.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else 0.0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _version(part: Path, archive: Archive) -> str:
    """The server's name for the version that the part is of: an ETag or a date; empty if none is known."""
    try:
        noted = json.loads(_version_file(part).read_text(encoding="utf-8"))
        return str(noted["version"]) if noted["url"] == archive.url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_version(part: Path, response: requests.Response, url: str) -> None:
    etag = response.headers.get("ETag", "")
    # A weak ETag promises the same meaning, not the same bytes, and may not be used with If-Range (RFC 9110, 13.1.5).
    version = response.headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
    text = json.dumps({"url": url, "version": version})
    write_atomic(_version_file(part), lambda path: path.write_text(text, encoding="utf-8"))
