"""CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from famcli.data.listing import Listing
from famcli.data.readers import read_own
from famcli.outputs import Run
from famcli.outputs.coco import CocoIds
from famcli.outputs.tables import COLUMNS, csv_lines, json_lines

CHOSEN = [{"index": 0, "name": "cat, tabby", "probability": 0.5}, {"index": 1, "name": "dog", "probability": 0.25}]
BOX = {"xyxy": [1.0, 2.0, 3.0, 4.0], "area": 4, "foreground": 0.8, "scores": [0.4, 0.2]}
RECORDS: list[dict[str, Any]] = [
    {"file_name": "a,b.jpg", "width": 10, "height": 20, "classes": CHOSEN, "boxes": [BOX]},
    {"file_name": "bad.jpg", "error": "the file is empty"},
    {"file_name": "none.jpg", "width": 5, "height": 6, "classes": CHOSEN[:1], "boxes": []},
]


RUN = Run(Listing(Path(), ()), (), CocoIds({}, {}, {}), {})


def test_csv() -> None:
    """One row for each box and class under a header; commas are quoted; failures are left out."""
    rows = list(csv.DictReader("".join(csv_lines(lambda: RECORDS, RUN)).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [r["file_name"] for r in rows] == ["a,b.jpg", "a,b.jpg", "none.jpg"]
    assert [r["label"] for r in rows] == ["cat, tabby", "dog", "cat, tabby"]
    assert [rows[0][k] for k in ("x0", "y0", "x1", "y1")] == ["1.0", "2.0", "3.0", "4.0"]
    assert [(r["score"], r["probability"]) for r in rows] == [("0.4", "0.5"), ("0.2", "0.25"), ("", "0.5")]


def test_csv_of_an_image_without_a_box() -> None:
    """An image in which nothing was found has a row with empty corners, so that it is not mistaken for missing."""
    row = next(csv.DictReader("".join(csv_lines(lambda: RECORDS[2:], RUN)).splitlines()))
    assert [row[k] for k in ("x0", "y0", "x1", "y1", "score", "foreground")] == [""] * 6
    assert (row["width"], row["height"], row["label"]) == ("5", "6", "cat, tabby")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'=", "''@"])
def test_csv_has_no_formulas(tmp_path: Path, start: str) -> None:
    """A name that a spreadsheet would compute has an apostrophe in front, which reading the file as data takes away."""
    name = f"{start}cmd.jpg"
    chosen = [{"index": 0, "name": f"{start}1+1", "probability": 0.5}]
    record = {"file_name": name, "width": 9, "height": 9, "classes": chosen, "boxes": [{**BOX, "scores": [-0.5]}]}
    text = "".join(csv_lines(lambda: [record], RUN))
    row = next(csv.DictReader(io.StringIO(text, newline="")))
    assert (row["file_name"], row["label"], row["score"]) == (f"'{name}", f"'{start}1+1", "-0.5")
    (tmp_path / "data.csv").write_text(text, newline="")
    own = read_own(tmp_path / "data.csv")
    assert own.class_names == (f"{start}1+1",)
    assert own.splits["test"][0].name == name


def test_csv_of_nothing() -> None:
    """No images is a header alone."""
    assert list(csv_lines(list, RUN)) == [",".join(COLUMNS) + "\n"]


def test_json_lines() -> None:
    """One record a line, failures included."""
    assert [json.loads(line) for line in json_lines(lambda: RECORDS, RUN)] == RECORDS
