"""Whether a file is the publisher's, bit for bit, and a memory of files that were found to be.

Hashing the 138 GB of ILSVRC takes minutes, so a file that passed is remembered by its size and time of change in a
small JSON beside the data; a file that was touched since is hashed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from famcli.data.public.catalog import Archive
from famcli_models.errors import DataError
from famcli_models.files import write_atomic

BLOCK = 1 << 20
MEMORY = ".fam-verified.json"


def _nothing(_: int) -> None:
    pass


def digest_file(path: Path, algorithm: str = "sha256", step: Callable[[int], object] = _nothing) -> str:
    """Hash of a file's bytes in hexadecimal.

    Args:
        path: The file.
        algorithm: ``sha256`` or ``md5``; the latter is what the publishers of older data give, and tells a broken
            transfer as well as any.
        step: Called with the bytes of each block.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            step(len(block))
    return digest.hexdigest()


def compare(path: Path, archive: Archive, step: Callable[[int], object] = _nothing) -> tuple[str, str]:
    """Compare a file with its row.

    Returns:
        What is wrong in one sentence, or an empty text, and the hash that was seen, such as ``sha256 0c68…``.
    """
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        return f"it has {size:,} bytes, the publisher's has {archive.size:,}", ""
    algorithm = "sha256" if archive.sha256 or not archive.md5 else "md5"
    expected = archive.sha256 or archive.md5
    seen = digest_file(path, algorithm, step)
    if expected is not None and seen != expected:
        return f"its {algorithm} is {seen}, the publisher's is {expected}", f"{algorithm} {seen}"
    return "", f"{algorithm} {seen}"


def verify(path: Path, archive: Archive, memory: Path, step: Callable[[int], object] = _nothing) -> str:
    """Make sure that a file is the publisher's, from memory if it has not changed since it was hashed.

    Args:
        path: The file.
        archive: Its row.
        memory: Folder where to remember the result; a folder that cannot be written is no error.
        step: Called with the bytes of each block hashed.

    Returns:
        The hash, for example ``md5 1d67…``.

    Raises:
        DataError: The file differs from the row, or cannot be read.
    """
    known = _recall(memory)
    try:
        state = path.stat()
        stamp = [state.st_size, state.st_mtime_ns, archive.sha256 or archive.md5 or ""]
        entry = known.get(str(path.resolve()))
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            return str(entry.get("hash"))
        wrong, seen = compare(path, archive, step)
    except OSError as error:
        msg = f"cannot read '{path}': {error.strerror}"
        raise DataError(msg) from error
    if wrong:
        msg = f"'{path}' is not the publisher's file: {wrong}; download it again from {archive.page}"
        raise DataError(msg)
    remember(path, archive, memory, seen)
    return seen


def remember(path: Path, archive: Archive, memory: Path, seen: str) -> None:
    """Note that a file was verified."""
    state = path.stat()
    known = _recall(memory)
    stamp = [state.st_size, state.st_mtime_ns, archive.sha256 or archive.md5 or ""]
    known[str(path.resolve())] = {"stamp": stamp, "hash": seen}
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    with suppress(OSError):  # shared storage is often read-only: then the next run hashes again
        write_atomic(memory / MEMORY, lambda p: p.write_text(text, encoding="utf-8"))


def _recall(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads((memory / MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
