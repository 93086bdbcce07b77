"""Whether a prepared dataset is still that of its source: what makes a second preparation cheap."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from famcli_models.files import write_atomic

STAMP = ".fam-prepared.json"


def write_stamp(out: Path, arguments: dict[str, str], watched: Iterable[Path]) -> None:
    """Note the arguments, and the state of the watched files and folders and of the dataset's own files."""
    paths = [*watched, *_own(out)]
    text = json.dumps({"arguments": arguments, "state": {str(p.absolute()): _state(p) for p in paths}}, indent=0) + "\n"
    write_atomic(out / STAMP, lambda path: path.write_text(text, encoding="utf-8"))


def is_current(out: Path, arguments: dict[str, str]) -> bool:
    """Whether nothing that was noted has changed: a thousand calls of stat, no file is read."""
    try:
        noted = json.loads((out / STAMP).read_text(encoding="utf-8"))
        state = noted["state"]
        return noted["arguments"] == arguments and all(_state(Path(p)) == s for p, s in state.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _own(out: Path) -> list[Path]:
    return [out / "dataset.json", *sorted((out / "metadata").glob("*/*.txt"))]


def _state(path: Path) -> list[int]:
    """Of a folder the time when an entry came or went, of a file also its size; nothing if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return []
    return [state.st_mtime_ns] + ([] if path.is_dir() else [state.st_size])
