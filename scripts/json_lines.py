"""Results of scripts: a file with a line of JSON for each run that has ended."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def read_lines(path: Path, kind: type[Result]) -> list[Result]:
    """The runs of a file, in its order; none if there is no file."""
    if not path.is_file():
        return []
    return [kind(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def append(path: Path, result: Any) -> None:
    """Add a finished run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
