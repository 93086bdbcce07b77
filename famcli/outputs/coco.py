"""Predictions as COCO's JSON. What the keys of a dataset file mean is in :mod:`famcli.data.readers.coco`.

Boxes are ``[x, y, width, height]`` in 0-based float pixels, exclusive of the far edge. Annotation and
category ids start at 1, because pycocotools takes an annotation with id 0 for unmatched. Everything is
written piece by piece, so that memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.data.readers.coco import CocoFile, annotation_entry, document, image_entry, joined
from famcli.outputs.prediction import Record
from famcli_models.boxes import clip_boxes, xyxy_to_xywh
from famcli_models.errors import DataError

Records = Callable[[], Iterable[Record]]  # each call reads them from the beginning


@dataclass(frozen=True, slots=True)
class CocoIds:
    """The numbers that images and classes go by.

    Attributes:
        images: Image id by file name.
        categories: Category id by class index.
        names: Category name by category id, for the ``categories`` list.
    """

    images: Mapping[str, int]
    categories: Mapping[int, int]
    names: Mapping[int, str]

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

        A file with one category takes all boxes into it, whatever the class. Classes that the file does
        not have get no id; their boxes are left out.

        Raises:
            DataError: The file is no COCO dataset, or none of its categories is a class of the model.
        """
        file = CocoFile.load(path)
        images, names = file.ids, file.categories
        if len(names) == 1:
            only = next(iter(names))
            return cls(images, dict.fromkeys(range(len(class_names)), only), names)
        by_name = {name.lower(): i for i, name in names.items()}
        categories = {i: by_name[n.lower()] for i, n in enumerate(class_names) if n.lower() in by_name}
        if not categories:
            msg = f"none of the {len(names)} categories of '{path}' is a class of the model; compare their names"
            raise DataError(msg)
        return cls(images, categories, names)

    def detections(self, record: Record) -> Iterator[dict[str, Any]]:
        """COCO's result entries of one record: one for each box and class, clipped to the image."""
        size_hw = record["height"], record["width"]
        for box in record["boxes"]:
            xywh = xyxy_to_xywh(clip_boxes(box["xyxy"], size_hw))[0].tolist()
            for chosen, score in zip(record["classes"], box["scores"], strict=True):
                if chosen["index"] in self.categories:
                    yield {
                        "image_id": self.images[record["file_name"]],
                        "category_id": self.categories[chosen["index"]],
                        "bbox": xywh,
                        "score": score,
                    }


def results_json(records: Records, ids: CocoIds) -> Iterator[str]:
    """The list that ``pycocotools.coco.COCO.loadRes`` takes."""
    yield "["
    yield from joined(d for record in _good(records) for d in ids.detections(record))
    yield "]\n"


def dataset_json(records: Records, ids: CocoIds, info: Mapping[str, Any]) -> Iterator[str]:
    """A full dataset: info, licenses, images with their ``parts`` if any, annotations with a ``score``, categories."""
    images = (
        image_entry(
            ids.images[r["file_name"]],
            r["file_name"],
            (r["height"], r["width"]),
            {key: r[key] for key in ("parts",) if key in r},
        )
        for r in _good(records)
    )
    return document(info, images, _annotations(records, ids), ids.names.items())


def _annotations(records: Records, ids: CocoIds) -> Iterator[dict[str, Any]]:
    number = 0
    for record in _good(records):
        for detection in ids.detections(record):
            number += 1
            yield annotation_entry(
                number,
                detection["image_id"],
                detection["category_id"],
                detection["bbox"],
                {"score": detection["score"]},
            )


def _good(records: Records) -> Iterator[Record]:
    return (record for record in records() if "error" not in record)
