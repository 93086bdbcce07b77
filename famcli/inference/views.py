"""Which views of an image a model is run on: several sizes, the mirror image, and with two looks a part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from famcli.inference.engine import Engine, Inference, min_max
from famcli_models.config import require
from famcli_models.errors import UnknownNameError
from famcli_models.localization import localize_at, upsample

MARGIN = 0.1  # of a side of the first box: how much wider the part is that the second look is at, on either side
# Cells of the map of two looks for each of the first, in a row: the second has smaller ones. An odd number keeps the
# values in the middle of the first map's cells, and with them its peaks.
FINER = 3
Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
RULE: Rule = np.minimum  # from the maps of both looks to one, the second 0 outside of its part


@dataclass(frozen=True, slots=True)
class Views:
    """The views whose maps and probabilities are put together."""

    scales: tuple[float, ...] = (1.0,)  # multiples of the model's input size
    flip: bool = False  # the mirror image too
    looks: int = 1  # 2: then the same of the part of the image that the first box is in

    def words(self) -> str | None:
        """What results say of them: ``sizes 1, 1.25; mirrored; 2 looks``, and nothing of one view."""
        sizes = ", ".join(f"{scale:g}" for scale in self.scales)
        words = [(self.scales != (1.0,), f"sizes {sizes}"), (self.flip, "mirrored"), (self.looks > 1, "2 looks")]
        return "; ".join(text for said, text in words if said) or None


QUALITIES: Mapping[str, Views] = {"fast": Views(), "best": Views((1.0, 1.25), flip=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """Fields of settings that say which views a model is run on; what is ``None`` is as in the quality."""

    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    looks: int | None = None
    quality: str = "fast"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.quality not in QUALITIES:
            raise UnknownNameError("quality", self.quality, QUALITIES)
        scales = self.views.scales
        require(bool(scales) and all(0.25 <= s <= 4 for s in scales), "scales", scales, "numbers in [0.25, 4]")
        require(self.views.looks in (1, 2), "looks", self.looks, "1 or 2")

    @property
    def views(self) -> Views:
        """What the quality says, unless a field says something else."""
        of = QUALITIES[self.quality]
        return Views(
            of.scales if self.scales is None else tuple(self.scales),
            of.flip if self.flip is None else self.flip,
            of.looks if self.looks is None else self.looks,
        )


class Part(NamedTuple):
    """A part of an image: whole cells of a grid of ``height`` times ``width`` over all of it."""

    x0: int
    y0: int
    x1: int
    y1: int
    height: int
    width: int

    @classmethod
    def around(cls, box: np.ndarray, margin: float, grid_hw: tuple[int, int]) -> Part:
        """The part with a box ``(4,)``, xyxy in shares of the image, and so much of its sides around it."""
        h, w = grid_hw
        x0, y0, x1, y1 = box.clip(0, 1).tolist()
        dx, dy = margin * (x1 - x0), margin * (y1 - y0)
        left, top = min(max(math.floor((x0 - dx) * w), 0), w - 1), min(max(math.floor((y0 - dy) * h), 0), h - 1)
        right, bottom = min(math.ceil((x1 + dx) * w), w), min(math.ceil((y1 + dy) * h), h)
        return cls(left, top, max(right, left + 1), max(bottom, top + 1), h, w)

    @property
    def box(self) -> np.ndarray:
        """Its corners ``(4,)``, xyxy in shares of the image."""
        return np.array([self.x0, self.y0, self.x1, self.y1]) / ([self.width, self.height] * 2)

    def map_to_image(self, M: np.ndarray) -> np.ndarray:
        """A map ``(h, w)`` of the part as one of the image, a value for each cell of the grid; 0 elsewhere."""
        whole = np.zeros((self.height, self.width), np.float32)
        whole[self.y0 : self.y1, self.x0 : self.x1] = upsample(M, (self.y1 - self.y0, self.x1 - self.x0))
        return whole

    def box_to_image(self, box: np.ndarray) -> np.ndarray:
        """A box ``(4,)`` in shares of the part in shares of the image."""
        x0, y0, x1, y1 = self.box
        return np.array([x0, y0] * 2) + box * np.array([x1 - x0, y1 - y0] * 2)


def infer_views(
    engine: Engine[Any],
    images: Sequence[np.ndarray],
    labels: Sequence[int | None] | None,
    views: Views,
    cut: Callable[[int, np.ndarray], Sequence[np.ndarray]],
    *,
    tau: float,
    parts: bool = False,
    workers: int = 1,
    margin: float = MARGIN,
    rule: Rule = RULE,
) -> Inference:
    """What a model says of a batch, in one look or two.

    The second look is at the part of each image with the box of its map, or the box that the method gives, and a
    margin; where there is no box, it is at the whole image again. Maps are put together by ``rule`` on a finer grid;
    where nothing of them is above τ, that of the first look stands. Probabilities, and boxes of methods that give
    them, are means. Parts are those of the first look.

    Args:
        engine: The model.
        images: At each of the scales, as :meth:`famcli.inference.engine.Engine.infer` takes them.
        labels: Likewise.
        views: What to run the model on.
        cut: An image, by its number in the batch, and a box ``(4,)``, xyxy in shares of it, to the views of this part
            at each of the scales; called on threads.
        tau: Threshold on the first map.
        parts: Give the parts.
        workers: Threads that cut.
        margin: Share of the box's sides that is added on either side of it.
        rule: The first map and the second, each ``(H, W)``, to one.
    """
    first = engine.infer(images, labels, flip=views.flip, parts=parts)
    if views.looks == 1:
        return first
    h, w = (FINER * side for side in first.maps.shape[1:])
    boxes = first.boxes if first.boxes is not None else [_largest_box(M, engine.config.size, tau) for M in first.maps]
    found = [Part.around(box, margin, (h, w)) for box in boxes]
    with ThreadPoolExecutor(workers) as pool:
        cut_out = list(pool.map(lambda i: cut(i, found[i].box), range(len(found))))
    stacked = [np.stack(of_side) for of_side in zip(*cut_out, strict=True)]
    second = engine.infer(stacked, labels, flip=views.flip)
    probabilities = (first.probabilities + second.probabilities) / 2
    best = [of.probabilities.argmax(axis=1) for of in (first, second)]
    if engine.class_conditional and not np.array_equal(*best):  # both maps have to be of the class that is said
        given = labels or [None] * len(found)
        said = [int(c) if g is None else g for g, c in zip(given, probabilities.argmax(axis=1), strict=True)]
        first = engine.infer(images, said, flip=views.flip, parts=parts)
        second = engine.infer(stacked, said, flip=views.flip)
    large = [upsample(M, (h, w)) for M in first.maps]
    both = [rule(M, part.map_to_image(closer_M)) for M, closer_M, part in zip(large, second.maps, found, strict=True)]
    maps = np.stack([M_of_both if M_of_both.max() > tau else M for M, M_of_both in zip(large, both, strict=True)])
    if engine.rescaled:
        maps = min_max(maps)
    if first.boxes is not None and second.boxes is not None:
        moved = [part.box_to_image(box) for part, box in zip(found, second.boxes, strict=True)]
        return Inference(maps, probabilities, first.parts, (first.boxes + np.stack(moved)) / 2)
    return Inference(maps, probabilities, first.parts)


def closer(side: int, box: np.ndarray) -> int:
    """Pixels that a side of the image has where the shorter one of a box ``(4,)`` in its shares has ``side``."""
    return math.ceil(side / min(box[2] - box[0], box[3] - box[1]))


def _largest_box(M: np.ndarray, side: int, tau: float) -> np.ndarray:
    """The box ``(4,)`` of a map's largest region in shares of the image, or the whole image."""
    (region,) = localize_at(M, (side, side), [tau])
    return np.array((0, 0, side, side) if region is None else region.xyxy) / side
