"""COCO's JSON: the only file that knows its keys, its ``xywh`` boxes and its ids.

Boxes are ``[x, y, width, height]`` in 0-based float pixels, exclusive of the far edge. Annotation and
category ids start at 1, because pycocotools takes an annotation with id 0 for unmatched. Everything is
written piece by piece, so that memory does not grow with the number of images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.records import Record
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
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            images = {str(image["file_name"]): int(image["id"]) for image in data["images"]}
            names = {int(c["id"]): str(c["name"]) for c in data["categories"]}
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            msg = (
                f"'{path}' is not a COCO dataset file ({type(error).__name__}: {error}); it needs images and categories"
            )
            raise DataError(msg) from error
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
    yield from _joined(d for record in _good(records) for d in ids.detections(record))
    yield "]\n"


def dataset_json(records: Records, ids: CocoIds, info: Mapping[str, Any]) -> Iterator[str]:
    """A full dataset: info, licenses, images, annotations with a ``score``, categories."""
    yield f'{{"info": {json.dumps(dict(info), ensure_ascii=False)},\n"licenses": [],\n"images": ['
    yield from _joined(
        {"id": ids.images[r["file_name"]], "file_name": r["file_name"], "width": r["width"], "height": r["height"]}
        for r in _good(records)
    )
    yield '],\n"annotations": ['
    yield from _joined(_annotations(records, ids))
    yield '],\n"categories": ['
    yield from _joined({"id": i, "name": name, "supercategory": ""} for i, name in ids.names.items())
    yield "]}\n"


def _annotations(records: Records, ids: CocoIds) -> Iterator[dict[str, Any]]:
    number = 0
    for record in _good(records):
        for detection in ids.detections(record):
            number += 1
            _, _, w, h = detection["bbox"]
            # An empty segmentation is what annotation tools take for "a rectangle".
            yield {"id": number, **detection, "area": w * h, "iscrowd": 0, "segmentation": []}


def _good(records: Records) -> Iterator[Record]:
    return (record for record in records() if "error" not in record)


def _joined(objects: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    separator = "\n"
    for value in objects:
        yield separator + json.dumps(value, ensure_ascii=False)
        separator = ",\n"
