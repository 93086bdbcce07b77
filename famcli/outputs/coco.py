"""Predictions as COCO's JSON, piece by piece; what its keys mean is in :mod:`famcli.data.readers.coco`.

Boxes are ``[x, y, width, height]`` in 0-based float pixels, exclusive of the far edge. Ids start at 1, because
pycocotools takes an annotation with id 0 for unmatched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from famcli.data.listing import Names
from famcli.data.readers.coco import CocoFile, Id, annotation_entry, document, image_entry, joined
from famcli.outputs import Records, Run
from famcli.outputs.annotations import Annotation, categories, read_annotations
from famcli_models.boxes import xyxy_to_xywh
from famcli_models.class_names import Matches
from famcli_models.errors import DataError, short


class Numbers(Mapping[str, int]):
    """Numbers from 1 of sorted names, without a table of them."""

    def __init__(self, names: Names) -> None:
        self._names, self._last = names, 0

    def __getitem__(self, name: str) -> int:
        # Writers ask in order, mostly.
        near = (i for i in (self._last, self._last + 1) if i < len(self._names) and self._names[i] == name)
        place = next(near, None)
        place = self._names.find(name) if place is None else place
        if place is None:
            raise KeyError(name)
        self._last = place
        return place + 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True)
class CocoIds:
    """The numbers that images and classes go by."""

    images: Mapping[str, Id]  # by file name
    categories: Mapping[int, Id]  # by class index
    names: Mapping[Id, str]  # of categories, by id, in the order of ids
    remark: str = ""  # how the categories of a file were matched, a sentence

    @classmethod
    def numbered(cls, file_names: Sequence[str], class_names: Sequence[str]) -> CocoIds:
        """Images 1..n in the order given, categories class index + 1."""
        return cls(
            Numbers(file_names) if isinstance(file_names, Names) else {name: i for i, name in enumerate(file_names, 1)},
            {i: i + 1 for i in range(len(class_names))},
            dict(enumerate(class_names, 1)),
        )

    @classmethod
    def from_file(cls, path: Path, class_names: Sequence[str]) -> CocoIds:
        """Ids of an existing COCO dataset file: images by file name, categories as :class:`Matches` has them.

        Classes that the file does not have get no id, and their boxes are left out. A single category that is no class
        takes all boxes, whatever their class; several of which none is a class are a mistake.
        """
        file = CocoFile.load(path)
        images, names = file.ids, file.categories
        matches = Matches.from_lists(tuple(names.values()), class_names)
        categories = {matches.places[name]: i for i, name in names.items() if name in matches.places}
        if not categories and len(names) == 1:
            (number, name), *_ = names.items()
            remark = f"'{path}': its one category, {short(name)}, is no class of the model and takes every box"
            return cls(images, dict.fromkeys(range(len(class_names)), number), names, remark)
        if not categories:
            msg = f"none of the {len(names)} categories of '{path}' is a class of the model; compare their names"
            raise DataError(msg)
        others = len(class_names) - len(categories)
        left_out = f"; boxes of {others:,} other classes of the model are left out" if others else ""
        remark = f"'{path}': {matches.sentence(class_names, len(names))}{left_out}"
        return cls(images, categories, names, remark)


def results_json(records: Records, run: Run) -> Iterator[str]:
    """The list that ``pycocotools.coco.COCO.loadRes`` takes."""
    yield "["
    yield from joined(
        {"image_id": image, "category_id": found.category, "bbox": xywh, "score": found.score, **masks}
        for image, xywh, found, masks in _entries(records, run)
    )
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
    listed = (
        annotation_entry(number, image, found.category, xywh, score=found.score, area=found.area, **masks)
        for number, (image, xywh, found, masks) in enumerate(_entries(records, run), 1)
    )
    return document(run.info, images, listed, categories(records, run).items())


def _entries(records: Records, run: Run) -> Iterator[tuple[Id, list[float], Annotation, dict[str, Any]]]:
    """Each annotation, with its image's id, its box, and its ``segmentation`` if masks were asked for."""
    for record in records():
        for found in read_annotations(record, run):
            masks: dict[str, Any] = {}
            if found.segmentation is not None:
                masks["segmentation"] = [found.outline().ravel().tolist()] if run.polygons else found.segmentation
            yield run.ids.images[record["file_name"]], xyxy_to_xywh(found.xyxy)[0].tolist(), found, masks
