"""What a model says of one image, and its form as a JSON record: what every output is written from."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from famcli.data.images import Source
from famcli.data.masks import encode
from famcli_models.boxes import clip_boxes
from famcli_models.errors import ConfigError, DataError
from famcli_models.files import write_pieces
from famcli_models.localization import Region, upsample

if TYPE_CHECKING:
    import supervision

Record = dict[str, Any]
UNSURE = 0.5  # below this probability a class is more likely wrong than right: it is printed and drawn as OBJECT
OBJECT = "object"
PICTURES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}  # suffixes of pictures, and Pillow's name of their format


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of an image.

    Attributes:
        index: In the model; of a name of one's own, among those that were given together.
        name: Of the class.
        probability: By the model; ``None`` of a name of one's own, which it does not know.
    """

    index: int
    name: str
    probability: float | None


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
    source: Source
    label: int | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read: its name, and the reason in a few words."""

    name: str
    reason: str

    def to_dict(self) -> Record:
        """``{"file_name", "error"}``, as in JSON lines."""
        return {"file_name": self.name, "error": self.reason}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        name: The name the image was given, or its path.
        size_hw: ``(h, w)`` of the original image, EXIF orientation applied.
        classes: The most probable classes, best first; the given class alone in GT-known mode.
        regions: Foreground regions, largest first, with boxes in the original image's pixels.
        M: ``(H, W)`` float32 map at feature resolution; if maps depend on the class, that of the first of the classes.
        box_scores: The score of each region, see :mod:`famcli.inference.scores`; if empty, the mean of its map.
        known: The class was given.
        region_map: ``(h, w)``, i + 1 on the pixels of ``regions[i]`` and 0 elsewhere, if masks were asked for.
        parts: The part maps and their weights, if asked for.
        source: What the photograph is drawn from: its path, or the image that was given.
        class_names: All classes that ``index`` of a class counts among.
        warning: What could not be written beside the results, if anything.
        remark: What its file lacks, if anything, though all pixels could be read.
        certainty: Log-probability of the best class before calibration, which the scores depend on.
    """

    name: str
    size_hw: tuple[int, int]
    classes: tuple[ClassScore, ...]
    regions: tuple[Region, ...]
    M: np.ndarray = field(repr=False)
    box_scores: tuple[float, ...] = ()
    known: bool = False
    region_map: np.ndarray | None = field(default=None, repr=False)
    parts: PartMaps | None = None
    source: Source | None = field(default=None, repr=False)
    class_names: tuple[str, ...] = field(default=(), repr=False)
    warning: str | None = None
    remark: str | None = None
    certainty: float = 0.0

    @property
    def boxes(self) -> np.ndarray:
        """``(N, 4)`` float64 xyxy of the regions, half-open, in the original image's pixels; largest region first."""
        return np.array([region.xyxy for region in self.regions], np.float64).reshape(-1, 4)

    @property
    def scores(self) -> np.ndarray:
        """``(N,)`` float64 scores of the boxes, each in [0, 1]."""
        return np.array(self.box_scores or [region.foreground for region in self.regions], np.float64)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of the first of the classes for each of the N boxes."""
        return (self.classes[0].name,) * len(self.regions)

    @property
    def mask(self) -> np.ndarray | None:
        """``(h, w)`` bool pixels of all regions, if masks were asked for."""
        return None if self.region_map is None else self.region_map > 0

    def class_scores(self, box_score: float) -> list[float]:
        """The box's score with each of the classes: its own, and less for one less probable than the first."""
        first = self.classes[0].probability or 1.0
        return [box_score * (first if c.probability is None else c.probability) / first for c in self.classes]

    def detections(self) -> list[dict[str, Any]]:
        """What was found in the form of a Hugging Face object detection pipeline, best score first.

        Returns:
            One ``{"score": float, "label": str, "box": {"xmin": int, "ymin": int, "xmax": int, "ymax": int}}`` for each
            region and class. The box holds every foreground pixel: corners are rounded outwards, cut to the image,
            and half-open, so that ``xmax - xmin`` is the width in pixels.
        """
        found = []
        for region, box_score in zip(self.regions, self.scores.tolist(), strict=True):
            corners = [*map(math.floor, region.xyxy[:2]), *map(math.ceil, region.xyxy[2:])]
            inside = clip_boxes(corners, self.size_hw)[0].astype(int).tolist()
            box = dict(zip(("xmin", "ymin", "xmax", "ymax"), inside, strict=True))
            scores = zip(self.classes, self.class_scores(box_score), strict=True)
            found += [{"score": score, "label": c.name, "box": dict(box)} for c, score in scores]
        return sorted(found, key=lambda detection: -detection["score"])

    def map(self, size_hw: tuple[int, int] | None = None) -> np.ndarray:
        """The map upsampled, bilinearly: ``(h, w)`` float32 in [0, 1], by default in the original image's size."""
        return upsample(self.M, size_hw or self.size_hw)

    def overlay(self) -> Image.Image:
        """The photograph with heat map, boxes and label, at most 1,600 pixels on the longer side.

        A photograph that was given by its path is read again.

        Raises:
            DataError: It cannot be read.
        """
        from famcli.outputs.image_files import draw, read_photo

        return Image.fromarray(draw(read_photo(self), self))

    def save(self, path: str | Path) -> None:
        """Write the prediction as the suffix says, whole or not at all.

        ``.jpg`` and ``.png`` are :meth:`overlay`; ``.json`` (COCO), ``.csv``, ``.jsonl`` and so on are what
        ``fam predict --out`` writes to a file of that name.

        Raises:
            ConfigError: The suffix is none of these.
            DataError: The disk refuses, or the photograph cannot be read.
        """
        from famcli.outputs import format_suffixes, write_prediction

        path, formats = Path(path), format_suffixes()
        suffix = path.suffix.lower()
        if suffix in formats:
            write_prediction(self, path, formats[suffix])
            return
        if suffix not in PICTURES:
            raise ConfigError(f"'{path}' is no name to save a prediction by: use {', '.join([*PICTURES, *formats])}")
        content = io.BytesIO()
        self.overlay().save(content, PICTURES[suffix], quality=90)
        try:
            write_pieces(path, [content.getvalue()])
        except OSError as error:
            raise DataError(f"cannot write '{path}': {error.strerror or error}") from error

    def to_dict(self) -> Record:
        """The JSON-able form, as in JSON lines; a box is ``xyxy`` in the original's pixels, with a score a class.

        It is ``{"file_name", "width", "height", "classes", "boxes"}``, with ``"given": True`` if the class was given,
        ``"parts"`` if they were asked for, and ``"warning"`` and ``"remark"`` if there is one. If masks were asked for,
        each box has the pixels of its region as COCO's run lengths, ``"segmentation"``.
        """
        classes = [
            {"index": c.index, "name": c.name, "probability": c.probability and round(c.probability, 6)}
            for c in self.classes
        ]
        boxes: list[Record] = [
            {
                "xyxy": list(region.xyxy),
                "area": region.area,
                "foreground": round(region.foreground, 6),
                "scores": [round(score, 6) for score in self.class_scores(box_score)],
            }
            for region, box_score in zip(self.regions, self.scores.tolist(), strict=True)
        ]
        if self.region_map is not None:
            for number, box in enumerate(boxes, 1):
                box["segmentation"] = encode(self.region_map == number)
        height, width = self.size_hw
        record = {"file_name": self.name, "width": width, "height": height, "classes": classes, "boxes": boxes}
        if self.known:
            record["given"] = True
        if self.parts is not None:
            weights, cosine = [round(weight, 6) for weight in self.parts.weights], self.parts.cosine()
            record["parts"] = {"weights": weights, "mean_cosine": None if cosine is None else round(cosine, 6)}
        if self.warning is not None:
            record["warning"] = self.warning
        if self.remark is not None:
            record["remark"] = self.remark
        return record

    def to_supervision(self) -> supervision.Detections:
        """``supervision.Detections``: boxes, scores, index and name of the first of the classes, masks if asked for.

        Raises:
            ConfigError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ConfigError("to_supervision needs supervision, which is missing: pip install supervision") from error
        N = len(self.regions)
        return supervision.Detections(
            xyxy=self.boxes,
            mask=None if self.region_map is None else self.region_map == np.arange(1, N + 1)[:, None, None],
            confidence=self.scores,
            class_id=np.full(N, self.classes[0].index),
            data={"class_name": np.array(self.labels, dtype=str)},
        )


def shown_name(name: str, probability: float | None, given: bool) -> str:
    """The name of an image's best class as it is printed and drawn; a class that was given is certain."""
    return name if given or probability is None or probability >= UNSURE else OBJECT


def readable_lines(record: Record) -> Iterator[str]:
    """One line a box, for people: ``NAME  LABEL SCORE  box X0,Y0,X1,Y1``, or ``NAME  nothing found``.

    Of several classes the best is shown. An image that failed has no line.
    """
    if "error" in record:
        return
    best, name = record["classes"][0], record["file_name"]
    label = shown_name(best["name"], best["probability"], record.get("given", False))
    for box in record["boxes"]:
        corners = ",".join(f"{corner:.0f}" for corner in box["xyxy"])
        yield f"{name}  {label} {box['scores'][0]:.2f}  box {corners}"
    if not record["boxes"]:
        yield f"{name}  nothing found"
