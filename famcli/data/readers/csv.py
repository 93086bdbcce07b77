"""Reader of CSV files: a row for each image, or for each box of an image."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from famcli.data.readers import OwnData, Row, find_images, own_data, portable
from famcli.data.sample import SPLITS, bounded, find_split
from famcli.data.truth import area_fault
from famcli_models.errors import DataError, short, shown
from famcli_models.files import open_regular

CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "file", "path", "filename", "file_name"),
    "label": ("label", "class", "category"),
    "split": ("split", "subset"),
    "width": ("width",),
    "height": ("height",),
    **{c: (c, voc) for c, voc in zip(CORNERS, ("xmin", "ymin", "xmax", "ymax"), strict=True)},
}
SUFFIXES = (".csv", ".tsv")
MAX_HEADER = 4096  # characters
FORMULA = re.compile("'*[-=+@\t\r\n]")  # apostrophes in front are counted, so that none is lost


@dataclass(slots=True)
class _Image:
    """Rows of one image so far."""

    line: int
    split: str | None
    classes: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    size_hw: tuple[int, int] | None = None  # if stated


def detect(source: Path) -> bool:
    """A CSV file whose header has an image and a label, or a folder with just one such file."""
    return _file(source) is not None


def _file(source: Path) -> Path | None:
    if source.is_dir():
        found = [p for p in sorted(source.iterdir()) if p.is_file() and _file(p)]
        return found[0] if len(found) == 1 else None
    if source.suffix.lower() not in SUFFIXES:
        return None
    try:
        with _opened(source) as file:
            columns = _columns(file.readline(MAX_HEADER))[1]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    return source if {"image", "label"} <= set(columns) else None


def as_cell(text: str) -> str:
    """Untrusted text, after an apostrophe if a spreadsheet would take it for a formula; this reader takes it away."""
    return f"'{text}" if FORMULA.match(text) else text


def _from_cell(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def _opened(path: Path) -> TextIO:
    return io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="")


def _columns(header: str) -> tuple[str, dict[str, int]]:
    """The delimiter of a header line that gives most known columns, and their places."""
    best: tuple[str, dict[str, int]] = (",", {})
    for delimiter in (",", ";", "\t"):
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
        known = ((column, alias) for column, aliases in COLUMNS.items() for alias in aliases[::-1])
        places = {column: names.index(alias) for column, alias in known if alias in names}
        if len(places) > len(best[1]):
            best = delimiter, places
    return best


def read(source: Path, images: Path | None, split: str | None) -> OwnData:
    """Read a CSV file with a header: image, label, perhaps x0, y0, x1, y1 (half-open pixels), width, height and split.

    Several rows of an image are several boxes. Images are beside the file, or in ``images`` there, if not given.
    """
    path = _file(source) or source
    found: dict[str, _Image] = {}
    for line, row in _rows(path):
        _add(found, f"{path}, line {line}", line, row)
    if not found:
        raise DataError(f"{path}: no line after the header")
    root, names = _names(path, list(found), images)
    rows = [Row(name, i.split, i.classes, i.boxes, i.size_hw) for name, i in zip(names, found.values(), strict=True)]
    return own_data("csv", rows, root, split, str(path))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and known columns of each line."""
    line = 1
    try:
        with _opened(path) as file:
            delimiter, places = _columns(file.readline(MAX_HEADER))
            missing = [c for c in ("image", "label") if c not in places]
            if missing or sum(c in places for c in CORNERS) not in {0, 4}:
                need = f"a column {missing[0]} ({', '.join(COLUMNS[missing[0]])})" if missing else f"all of {CORNERS}"
                raise DataError(f"{path}, line 1: the header needs {need}")
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for cells in filter(any, ([_from_cell(cell) for cell in cells] for cells in reader)):
                line = reader.line_num + 1
                if len(cells) <= max(places.values()):
                    raise DataError(f"{path}, line {line}: {len(cells)} fields, but the header has more")
                row = {column: cells[place] for column, place in places.items()}
                if not row["image"] or not row["label"]:
                    raise DataError(f"{path}, line {line}: no {'image' if not row['image'] else 'label'}")
                yield line, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}, after line {line}: {error}") from error


def _add(images: dict[str, _Image], where: str, line: int, row: dict[str, str]) -> None:
    """Take one line into the rows of its image."""
    name, split = portable(row["image"]), find_split(row.get("split", ""))
    if row.get("split") and split is None:
        known = f"known: {', '.join(SPLITS)}; train, val, test"
        raise DataError(f"{where}: unknown split '{short(row['split'])}' ({known})")
    image = images.setdefault(name, _Image(line, split))
    if image.split != split:
        raise DataError(f"{where}: '{short(name)}' has another split than on line {image.line}")
    image.size_hw = _size(row, where) or image.size_hw
    texts = [row.get(corner, "") for corner in CORNERS]
    if any(texts):
        try:
            box = [bounded(text) for text in texts]
        except ValueError as error:
            what = f"the box is {shown(','.join(texts))}, not four numbers x0,y0,x1,y1: {error}"
            raise DataError(f"{where}: {what}") from error
        if fault := area_fault(*box):
            raise DataError(f"{where}: the box is {shown(','.join(texts))}, {fault}")
        if len(image.boxes) < len(image.classes):
            raise DataError(f"{where}: '{short(name)}' has a box here and none on line {image.line}")
        image.boxes.append(box)
    elif image.boxes:
        raise DataError(f"{where}: '{short(name)}' has no box here and one on line {image.line}")
    elif image.classes:
        other = "" if image.classes[0] == row["label"] else ", with another label"
        raise DataError(f"{where}: '{short(name)}' was on line {image.line} already{other}")
    image.classes.append(row["label"])


def _size(row: Mapping[str, str], where: str) -> tuple[int, int] | None:
    """``(h, w)`` of a line that states both."""
    texts = [row.get(side, "") for side in ("height", "width")]
    if not all(texts):
        return None
    try:
        height, width = map(bounded, texts)
    except ValueError as error:
        raise DataError(f"{where}: the size is {shown(','.join(texts[::-1]))}, not two numbers: {error}") from error
    return round(height), round(width)


def _names(path: Path, names: list[str], images: Path | None) -> tuple[Path, list[str]]:
    """The folder of the images, and their names relative to it."""
    if any(os.path.isabs(name) for name in names):
        full = [os.path.abspath(path.parent / name) for name in names]
        root = images.absolute() if images else Path(os.path.commonpath([os.path.dirname(f) for f in full]))
        return root, [Path(os.path.relpath(f, root)).as_posix() for f in full]
    folders = [path.parent, path.parent / "images", path.parent.parent]
    return images or find_images(names, folders) or path.parent, names
