"""What a model says of one image, and its form as a JSON record: what every output is written from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from famcli.data.masks import encode
from famcli_models.boxes import clip_boxes
from famcli_models.localization import Region

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of an image: its index in the model, its name and its softmax probability."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class PartMaps:
    """K parts of one image, in the order of the model.

    Attributes:
        weights: The importance t of eq. (9), one a part, summing to 1.
        A: ``(K, h, w)`` float32 part maps of eq. (6), each value in (0, 1), at feature resolution, in the frame of the
            input. Where the foreground map is near 0 a part map is a constant that says nothing.
    """

    weights: tuple[float, ...]
    A: np.ndarray = field(repr=False)

    def cosine(self) -> float | None:
        """Mean cosine over all pairs of part maps, 1 if they are alike; ``None`` of a single part."""
        K = len(self.weights)
        if K < 2:
            return None
        flat = self.A.reshape(K, -1).astype(np.float64)
        unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-8)
        cosines = unit @ unit.T
        return float((cosines.sum() - np.trace(cosines)) / (K * (K - 1)))


@dataclass(frozen=True, slots=True)
class Item:
    """One image to predict: a name, where it is, its class index if that is known, and why it is refused if it is."""

    name: str
    source: Path
    label: int | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read: its name, and the reason in a few words."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        name: The name the image was given, or its path.
        size_hw: ``(h, w)`` of the original image, EXIF orientation applied.
        classes: The most probable classes, best first; the given class alone in GT-known mode.
        regions: Foreground regions, largest first, with boxes in the original image's pixels.
        M: ``(H, W)`` float32 map at feature resolution; if maps depend on the class, that of the first of the classes.
        known: The class was given, so that scores do not include its probability.
        region_map: ``(h, w)``, i + 1 on the pixels of ``regions[i]`` and 0 elsewhere, if masks were asked for.
        parts: The part maps and their weights, if asked for.
    """

    name: str
    size_hw: tuple[int, int]
    classes: tuple[ClassScore, ...]
    regions: tuple[Region, ...]
    M: np.ndarray = field(repr=False)
    known: bool = False
    region_map: np.ndarray | None = field(default=None, repr=False)
    parts: PartMaps | None = None

    @property
    def mask(self) -> np.ndarray | None:
        """``(h, w)`` bool pixels of all regions, if masks were asked for."""
        return None if self.region_map is None else self.region_map > 0

    def score(self, region: Region, chosen: ClassScore) -> float:
        """Confidence that ``region`` is an object of the class: mean M in the region times the probability.

        In GT-known mode the class is certain, and the score is the mean of M alone.
        """
        return region.foreground * (1.0 if self.known else chosen.probability)

    def detections(self) -> list[dict[str, Any]]:
        """What was found in the form of a Hugging Face object detection pipeline, best score first.

        Returns:
            One ``{"score": float, "label": str, "box": {"xmin": int, "ymin": int, "xmax": int, "ymax": int}}`` for each
            region and class. The box holds every foreground pixel: corners are rounded outwards, cut to the image,
            and half-open, so that ``xmax - xmin`` is the width in pixels.
        """
        found = []
        for region in self.regions:
            corners = [*map(math.floor, region.xyxy[:2]), *map(math.ceil, region.xyxy[2:])]
            inside = clip_boxes(corners, self.size_hw)[0].astype(int).tolist()
            box = dict(zip(("xmin", "ymin", "xmax", "ymax"), inside, strict=True))
            found += [{"score": self.score(region, c), "label": c.name, "box": dict(box)} for c in self.classes]
        return sorted(found, key=lambda detection: -detection["score"])


def to_record(result: Prediction | Failure) -> Record:
    """The JSON-able form of a result; a box is ``xyxy`` in the original's pixels, with a score for each class.

    It is ``{"file_name", "width", "height", "classes", "boxes"}``, with ``"parts"`` if they were asked for, or
    ``{"file_name", "error"}`` for an image that could not be read. If masks were asked for, each box has the pixels of
    its region as COCO's run lengths, ``"segmentation"``.
    """
    if isinstance(result, Failure):
        return {"file_name": result.name, "error": result.reason}
    classes = [{"index": c.index, "name": c.name, "probability": round(c.probability, 6)} for c in result.classes]
    boxes: list[Record] = [
        {
            "xyxy": list(region.xyxy),
            "area": region.area,
            "foreground": round(region.foreground, 6),
            "scores": [round(result.score(region, c), 6) for c in result.classes],
        }
        for region in result.regions
    ]
    if result.region_map is not None:
        for number, box in enumerate(boxes, 1):
            box["segmentation"] = encode(result.region_map == number)
    height, width = result.size_hw
    record = {"file_name": result.name, "width": width, "height": height, "classes": classes, "boxes": boxes}
    if result.parts is not None:
        weights, cosine = [round(weight, 6) for weight in result.parts.weights], result.parts.cosine()
        record["parts"] = {"weights": weights, "mean_cosine": None if cosine is None else round(cosine, 6)}
    return record
