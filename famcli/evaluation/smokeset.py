"""The smoke set: a few things that this project draws itself, with their exact boxes.

``fam eval`` without arguments scores the packaged model on it. That shows whether an installation works, and nothing
about photographs: the things are among those that the packaged model knows best when they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from famcli.data.sample import Sample
from famcli.evaluation.drawings import THINGS, Colour, Plane, Shape, Thing, noise, paint
from famcli_models.boxes import FloatArray

NAME = "smoke"
COUNT = 24
SIZES_HW = ((240, 320), (320, 240), (280, 280))
SMALLEST, LARGEST = 0.56, 0.70  # side of a thing, as a share of the image's shorter side
MARGIN = 6  # pixels between a thing and the image's edge
FINE = 2  # a thing is drawn at so many times its size and shrunk, for smooth outlines
HALF = 0.5  # a pixel belongs to a thing that covers at least this much of it


@dataclass(frozen=True, slots=True)
class Ground:
    """What a thing lies on.

    Attributes:
        colour: Its middle colour.
        coarse: Size of its large spots in pixels.
        fine: Size of its small spots.
        contrast: How much the spots differ from one another.
        stripes: Stretch the small spots across the image, as the grain of wood.
    """

    colour: Colour
    coarse: float
    fine: float
    contrast: float
    stripes: bool = False


GROUNDS = (
    Ground((0.28, 0.50, 0.16), 9, 2, 0.6),  # meadow
    Ground((0.45, 0.64, 0.90), 60, 20, 0.4),  # sky
    Ground((0.50, 0.33, 0.19), 30, 3, 0.6, stripes=True),  # table
    Ground((0.45, 0.47, 0.52), 70, 2, 0.5),  # cloth
    Ground((0.72, 0.68, 0.60), 90, 2, 0.3),  # wall
    Ground((0.10, 0.10, 0.16), 50, 20, 1.0),  # night
)


def scene(number: int) -> tuple[np.ndarray, Shape, Thing]:
    """One image of the set.

    Args:
        number: From 0 to :data:`COUNT` - 1.

    Returns:
        The picture ``(h, w, 3)`` uint8 RGB, the pixels ``(h, w)`` of its thing, and the thing.
    """
    rng = np.random.default_rng(number)
    thing = THINGS[number % len(THINGS)]
    turn = number // len(THINGS)  # each thing meets three grounds and sizes
    h, w = SIZES_HW[number % len(SIZES_HW)]
    picture = _ground(GROUNDS[(number + 2 * turn) % len(GROUNDS)], (h, w), rng)
    side = round(min(h, w) * rng.uniform(SMALLEST, LARGEST))
    painted = paint(thing, FINE * side, rng)
    cover = painted.shape.astype(np.float32)
    alpha = cv2.resize(cover, (side, side), interpolation=cv2.INTER_AREA)
    colour = cv2.resize(painted.colour * cover[..., None], (side, side), interpolation=cv2.INTER_AREA)
    # Rather near the edges than in the middle, where a box that never looks would be right.
    y, x = (round(MARGIN + (length - side - 2 * MARGIN) * rng.beta(0.4, 0.4)) for length in (h, w))
    place = np.s_[y : y + side, x : x + side]
    picture[place] = picture[place] * (1 - alpha[..., None]) + colour
    mask = np.zeros((h, w), np.bool_)
    mask[place] = alpha >= HALF
    return (picture.clip(0, 1) * 255).round().astype(np.uint8), mask, thing


def _ground(ground: Ground, size_hw: tuple[int, int], rng: np.random.Generator) -> Plane:
    h, w = size_hw
    coarse = noise(size_hw, ground.coarse, rng)
    fine = (
        np.repeat(noise((h, 2), ground.fine, rng)[:, :1], w, axis=1)
        if ground.stripes
        else noise(size_hw, ground.fine, rng)
    )
    light = 1 + ground.contrast * (0.6 * coarse + 0.4 * fine - 0.5)
    return (np.array(ground.colour, np.float32) * light[..., None]).astype(np.float32)


def box_of(mask: Shape) -> FloatArray:
    """The half-open box ``(1, 4)`` xyxy around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=np.float64)


def draw(folder: Path) -> list[Sample]:
    """Write the images and give their samples; labels are class indices of ILSVRC.

    Args:
        folder: An existing folder, for PNG files.
    """
    samples = []
    for number in range(COUNT):
        picture, mask, thing = scene(number)
        word = thing.name.lower().replace(" ", "-").replace("'", "")
        name = f"{number:02d}-{word}.png"
        Image.fromarray(picture).save(folder / name, compress_level=1)
        samples.append(Sample(name, folder / name, thing.label, box_of(mask), (picture.shape[0], picture.shape[1])))
    return samples
