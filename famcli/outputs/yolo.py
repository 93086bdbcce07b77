"""Predictions as a data set for YOLO: class numbers and relative boxes, a text file for each image.

Images are not copied. ``images`` has a symbolic link to each, since training programs find the labels of an image by
putting ``labels`` for ``images`` in its path. There is no place for scores: programs refuse a sixth column.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from famcli.outputs import Records, Run
from famcli.outputs.annotations import Annotation, Stems, categories, read_annotations

HEADER = """\
# Boxes found by fam. images/ holds the photographs, or links to them, which `cp -rL` copies as photographs.
# Training wants a split for validation: put other photographs there before you believe its numbers.
"""


def folder(records: Records, run: Run) -> Iterator[tuple[str, str | Path]]:
    """``data.yaml``, and for each image its link and its labels; an image without a box has an empty file."""
    names = categories(records, run)
    numbers = {category: i for i, category in enumerate(names)}  # training wants 0, 1, 2, ...
    listed = {"train": "images", "val": "images", "names": dict(enumerate(names.values()))}
    plain = all(map(str.isprintable, names.values()))  # others are escaped: YAML folds odd line ends to spaces
    yield "data.yaml", HEADER + yaml.safe_dump(listed, sort_keys=False, allow_unicode=plain)
    called = Stems(run.listing.names)
    for record in records():
        if "error" in record:
            continue
        name, size_wh = record["file_name"], (record["width"], record["height"])
        yield f"images/{called[name]}{PurePosixPath(name).suffix}", run.listing.path(name).absolute()
        lines = (f"{numbers[a.category]} {_shape(a, size_wh, run.polygons)}\n" for a in read_annotations(record, run))
        yield f"labels/{called[name]}.txt", "".join(lines)


def _shape(annotation: Annotation, size_wh: tuple[int, int], polygons: bool) -> str:
    """Centre, width and height of the box, or the corners of the polygon, as shares of the image's size."""
    if polygons:
        values = annotation.outline() / size_wh
    else:
        corners = np.reshape(annotation.xyxy, (2, 2)) / size_wh
        values = np.stack([corners.mean(axis=0), corners[1] - corners[0]])
    return " ".join(f"{value:.6f}" for value in values.ravel().tolist())
