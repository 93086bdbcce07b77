"""Records as CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from famcli.records import Record

COLUMNS = ("file_name", "width", "height", "x0", "y0", "x1", "y1", "label", "score", "probability", "foreground")


def csv_lines(records: Iterable[Record]) -> Iterator[str]:
    """One row for each box and class, after a header; an image without a box has one row with empty corners."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")

    def line(row: Iterable[object]) -> str:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(row)
        return buffer.getvalue()

    yield line(COLUMNS)
    for record in records:
        if "error" in record:
            continue
        image = record["file_name"], record["width"], record["height"]
        for box in record["boxes"] or [None]:
            for i, chosen in enumerate(record["classes"]):
                name, probability = chosen["name"], chosen["probability"]
                corners = box["xyxy"] if box else [""] * 4
                score, foreground = (box["scores"][i], box["foreground"]) if box else ("", "")
                yield line([*image, *corners, name, score, probability, foreground])


def json_lines(records: Iterable[Record]) -> Iterator[str]:
    """One record a line, images without a box and those that failed included."""
    for record in records:
        yield json.dumps(record, ensure_ascii=False) + "\n"
