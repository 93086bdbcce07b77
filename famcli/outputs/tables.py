"""Results as CSV and as JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from famcli.data.readers.csv import as_cell
from famcli.outputs import Records, Run

COLUMNS = ("file_name", "width", "height", "x0", "y0", "x1", "y1", "label", "score", "probability", "foreground")


def csv_lines(records: Records, run: Run) -> Iterator[str]:
    """One row for each box and class, after a header; an image without a box has rows with empty corners.

    Parts have a column each for their weight, after one for their mean cosine. Names that a spreadsheet would take for
    formulas have an apostrophe in front, which the reader of CSV data takes away.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # so that names with either character are quoted

    def line(row: Iterable[object]) -> str:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(row)
        return buffer.getvalue().removesuffix("\r\n") + "\n"

    part_columns = ["mean_cosine", *(f"part_{k}" for k in range(1, run.num_parts + 1))] if run.num_parts else []
    yield line([*COLUMNS, *part_columns])
    for record in records():
        if "error" in record:
            continue
        image = as_cell(record["file_name"]), record["width"], record["height"]
        parts = [record["parts"]["mean_cosine"], *record["parts"]["weights"]] if run.num_parts else []
        for box in record["boxes"] or [None]:
            for i, chosen in enumerate(record["classes"]):
                corners = box["xyxy"] if box else [""] * 4
                score, foreground = (box["scores"][i], box["foreground"]) if box else ("", "")
                scored = as_cell(chosen["name"]), score, chosen["probability"], foreground
                yield line([*image, *corners, *scored, *parts])


def json_lines(records: Records, _: Run) -> Iterator[str]:
    """One record a line, images without a box and those that failed included."""
    for record in records():
        yield json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
