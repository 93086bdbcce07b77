"""Files of the repository that scripts generate: written, or compared with what is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(files: Mapping[Path, str], command: str, *, check: bool) -> int:
    """Write texts to files, or say which files have another one.

    Args:
        files: The text of each.
        command: Arguments of python that write them anew.
        check: Compare, and write nothing.

    Returns:
        1 if a file is out of date.
    """
    stale = 0
    for file, text in files.items():
        if not check:
            file.write_text(text, encoding="utf-8")
            print(f"wrote {file}")
        elif not file.is_file() or file.read_text(encoding="utf-8") != text:
            print(f"{file} is out of date: run python {command}", file=sys.stderr)
            stale = 1
    return stale
