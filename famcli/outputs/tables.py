"""Records as CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from famcli.outputs.prediction import Record

COLUMNS = ("file_name", "width", "height", "x0", "y0", "x1", "y1", "label", "score", "probability", "foreground")


def csv_lines(records: Iterable[Record], parts: int = 0) -> Iterator[str]:
    """One row for each box and class, after a header; an image without a box has one row with empty corners.

    Args:
        records: With the image's parts, if there are columns for them.
        parts: Number of parts; each has a column for its weight, after one for their mean cosine.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")

    def line(row: Iterable[object]) -> str:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(row)
        return buffer.getvalue()

    yield line([*COLUMNS, *part_columns(parts)])
    for record in records:
        if "error" in record:
            continue
        image = record["file_name"], record["width"], record["height"]
        of_parts = [record["parts"]["mean_cosine"], *record["parts"]["weights"]] if parts else []
        for box in record["boxes"] or [None]:
            for i, chosen in enumerate(record["classes"]):
                name, probability = chosen["name"], chosen["probability"]
                corners = box["xyxy"] if box else [""] * 4
                score, foreground = (box["scores"][i], box["foreground"]) if box else ("", "")
                yield line([*image, *corners, name, score, probability, foreground, *of_parts])


def part_columns(parts: int) -> list[str]:
    """Names of the columns of K parts: ``mean_cosine``, then ``part_1`` and so on."""
    return ["mean_cosine", *(f"part_{k}" for k in range(1, parts + 1))] if parts else []


def json_lines(records: Iterable[Record]) -> Iterator[str]:
    """One record a line, images without a box and those that failed included."""
    for record in records:
        yield json.dumps(record, ensure_ascii=False) + "\n"
