"""Annotations of a record, one for each of its boxes and classes, and what the formats of annotation tools share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np

from famcli.data.masks import decode
from famcli.data.readers.coco import Id
from famcli.outputs import Records, Run
from famcli.outputs.prediction import Record
from famcli_models.boxes import box_area, clip_boxes

# An outline may leave the edges of the pixels by this share of its length, and by a pixel at most.
TOLERANCE = 0.005
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML has no way to write, and \r


@dataclass(frozen=True, slots=True)
class Annotation:
    """One box of an image with one class.

    Attributes:
        category: Id of the class in the run.
        name: Its name there.
        xyxy: Half-open corners in the original image's pixels, inside of it.
        score: Confidence.
        area: Pixels of the region if masks were asked for, else of the box.
        segmentation: The region as COCO's packed run lengths, if masks were asked for.
    """

    category: Id
    name: str
    xyxy: tuple[float, float, float, float]
    score: float
    area: float
    segmentation: Mapping[str, Any] | None = None

    def outline(self) -> np.ndarray:
        """Corners ``(N, 2)`` of a polygon around the region, on the edges of its pixels; holes are filled."""
        if self.segmentation is None:
            raise ValueError("masks were not asked for")
        h, w = self.segmentation["size"]
        x0, y0, x1, y1 = (int(v) for v in self.xyxy)
        region = decode(self.segmentation, (h, w))[y0:y1, x0:x1]
        # OpenCV's outlines run through the centres of pixels. With four pixels for each, halves rounded up are edges.
        fine = region.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        (outline,), _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        edges = (np.asarray(outline) + 1) // 2
        simple = cv2.approxPolyDP(edges, min(1.0, TOLERANCE * cv2.arcLength(edges, True)), True)
        kept = np.asarray(simple) if len(simple) >= 3 else edges
        return kept.reshape(-1, 2) + np.array([x0, y0])


def read_annotations(record: Record, run: Run) -> Iterator[Annotation]:
    """All pairs of box and class in a record, boxes clipped to the image; classes without an id are left out."""
    for box in record.get("boxes", ()):
        clipped = clip_boxes(box["xyxy"], (record["height"], record["width"]))
        segmentation = box.get("segmentation")
        area = float(box_area(clipped)[0]) if segmentation is None else box["area"]
        for chosen, score in zip(record["classes"], box["scores"], strict=True):
            category = run.ids.categories.get(chosen["index"])
            if category is not None:
                corners = tuple(clipped[0].tolist())
                yield Annotation(category, run.ids.names[category], corners, score, area, segmentation)


def categories(records: Records, run: Run) -> dict[Id, str]:
    """Names of the categories that occur, or of all if those are asked for and any image was predicted, by id."""
    if run.all_categories and any("error" not in record for record in records()):
        return dict(run.ids.names)
    occurring = {a.category for record in records() for a in read_annotations(record, run)}
    return {number: name for number, name in run.ids.names.items() if number in occurring}


class Stems:
    """What a file beside each image is called: the image's name without suffix, or with it where two would be one.

    No table of names is kept, but a number for each.
    """

    def __init__(self, names: Iterable[str]) -> None:
        texts = (text for name in names for text in {name, _stem(name)})
        numbers = np.sort(np.fromiter((hash(text.casefold()) for text in texts), np.int64))
        self._shared = frozenset(numbers[1:][numbers[1:] == numbers[:-1]].tolist())

    def __getitem__(self, name: str) -> str:
        stem = _stem(name)
        return name if hash(stem.casefold()) in self._shared else stem  # some file systems do not tell A from a


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def xml_text(text: str) -> str:
    """Text as XML can carry it: other control characters become escapes, as in a Python string."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def number(value: float) -> str:
    """A number without a needless decimal point."""
    return str(int(value)) if value == int(value) else str(value)
