"""Predictions as COCO's JSON, piece by piece; what its keys mean is in :mod:`famcli.data.readers.coco`.

Boxes are ``[x, y, width, height]`` in 0-based float pixels, exclusive of the far edge. Ids start at 1, because
pycocotools takes an annotation with id 0 for unmatched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.data.readers.coco import CocoFile, annotation_entry, document, image_entry, joined
from famcli.outputs import Records, Run
from famcli_models.boxes import clip_boxes, xyxy_to_xywh
from famcli_models.errors import DataError


@dataclass(frozen=True, slots=True)
class CocoIds:
    """The numbers that images and classes go by."""

    images: Mapping[str, int]  # by file name
    categories: Mapping[int, int]  # by class index
    names: Mapping[int, str]  # of categories, by id

    @classmethod
    def numbered(cls, file_names: Sequence[str], class_names: Sequence[str]) -> CocoIds:
        """Images 1..n in the order given, categories class index + 1."""
        return cls(
            {name: i for i, name in enumerate(file_names, 1)},
            {i: i + 1 for i in range(len(class_names))},
            dict(enumerate(class_names, 1)),
        )

    @classmethod
    def from_file(cls, path: Path, class_names: Sequence[str]) -> CocoIds:
        """Ids of an existing COCO dataset file: images by file name, categories by name, up to case.

        A file with one category takes all boxes into it, whatever the class. Classes that the file does not have get no
        id, and their boxes are left out; if it has none of them, that is a mistake.
        """
        file = CocoFile.load(path)
        images, names = file.ids, file.categories
        if len(names) == 1:
            return cls(images, dict.fromkeys(range(len(class_names)), *names), names)
        by_name = {name.lower(): i for i, name in names.items()}
        categories = {i: by_name[n.lower()] for i, n in enumerate(class_names) if n.lower() in by_name}
        if not categories:
            msg = f"none of the {len(names)} categories of '{path}' is a class of the model; compare their names"
            raise DataError(msg)
        return cls(images, categories, names)


def results_json(records: Records, run: Run) -> Iterator[str]:
    """The list that ``pycocotools.coco.COCO.loadRes`` takes."""
    yield "["
    yield from joined(_detections(records, run.ids))
    yield "]\n"


def dataset_json(records: Records, run: Run) -> Iterator[str]:
    """A full dataset: info, licenses, images with their ``parts`` if any, annotations with a ``score``, categories."""
    images = (
        image_entry(
            run.ids.images[record["file_name"]],
            record["file_name"],
            (record["height"], record["width"]),
            {key: record[key] for key in ("parts",) if key in record},
        )
        for record in records()
        if "error" not in record
    )
    annotations = (
        annotation_entry(number, found["image_id"], found["category_id"], found["bbox"], {"score": found["score"]})
        for number, found in enumerate(_detections(records, run.ids), 1)
    )
    return document(run.info, images, annotations, run.ids.names.items())


def _detections(records: Records, ids: CocoIds) -> Iterator[dict[str, Any]]:
    """COCO's result entries: one for each box and class that has a number, boxes clipped to the image."""
    for record in records():
        for box in record.get("boxes", ()):
            xywh = xyxy_to_xywh(clip_boxes(box["xyxy"], (record["height"], record["width"])))[0].tolist()
            for chosen, score in zip(record["classes"], box["scores"], strict=True):
                if chosen["index"] in ids.categories:
                    image, category = ids.images[record["file_name"]], ids.categories[chosen["index"]]
                    yield {"image_id": image, "category_id": category, "bbox": xywh, "score": score}
