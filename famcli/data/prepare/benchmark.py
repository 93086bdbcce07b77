"""The lists of the wsolevaluation repository, as far as a preparation takes boxes or labels from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from famcli_models.boxes import FloatArray
from famcli_models.errors import DataError


def read_boxes(path: Path) -> dict[str, FloatArray]:
    """``localization.txt``: name to ``(N, 4)`` half-open xyxy, all boxes of an image in the order of the file.

    Raises:
        DataError: A line is not a name and four whole numbers.
    """
    boxes: dict[str, list[list[float]]] = {}
    for name, (x0, y0, x1, y1) in _rows(path, 4):
        boxes.setdefault(name, []).append([x0, y0, x1 + 1, y1 + 1])
    return {name: np.array(rows, dtype=np.float64) for name, rows in boxes.items()}


def read_labels(path: Path) -> dict[str, int]:
    """``class_labels.txt``: name to label.

    Raises:
        DataError: A line is not a name and a whole number.
    """
    return {name: label for name, (label,) in _rows(path, 1)}


def _rows(path: Path, numbers: int) -> list[tuple[str, list[int]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read '{path}': {error}"
        raise DataError(msg) from error
    rows = []
    for number, line in enumerate(lines, 1):
        name, *values = line.rsplit(",", numbers)
        if not line.strip():
            continue
        try:
            rows.append((name, [int(value) for value in values]))
        except ValueError as error:
            msg = f"'{path}', line {number}: expected a name and {numbers} whole numbers, got '{line}'"
            raise DataError(msg) from error
        if len(values) != numbers:
            msg = f"'{path}', line {number}: expected a name and {numbers} whole numbers, got '{line}'"
            raise DataError(msg)
    return rows
