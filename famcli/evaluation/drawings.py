"""Things drawn by formula, each recognisable as a class of ILSVRC: no file, font or photograph is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating[Any]]
Shape = npt.NDArray[np.bool_]
Colour = tuple[float, float, float]

# Corners of the jack-o'-lantern's eyes, nose and mouth, in a square from -1 to 1.
FACE: tuple[tuple[tuple[float, float], ...], ...] = (
    ((-0.5, -0.1), (-0.32, -0.42), (-0.14, -0.1)),
    ((0.5, -0.1), (0.32, -0.42), (0.14, -0.1)),
    ((-0.09, 0.16), (0.0, -0.02), (0.09, 0.16)),
    ((-0.62, 0.28), (-0.4, 0.42), (-0.28, 0.36), (-0.2, 0.46), (0.2, 0.46), (0.28, 0.36), (0.4, 0.42), (0.62, 0.28),
     (0.42, 0.66), (0.25, 0.72), (0.2, 0.62), (0.05, 0.64), (0.0, 0.78), (-0.3, 0.72), (-0.42, 0.64)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Painted:
    """A thing on nothing.

    Attributes:
        colour: ``(s, s, 3)`` RGB in [0, 1].
        shape: ``(s, s)`` the pixels that are the thing.
    """

    colour: Plane
    shape: Shape


@dataclass(frozen=True, slots=True)
class Thing:
    """Something to draw.

    Attributes:
        name: Its class in ILSVRC.
        label: The index of that class.
        grain: Size of the spots of its surface, as a share of its side.
        paint: Draws it from x and y of the pixels, each from -1 to 1, and the noise of its surface; all ``(s, s)``.
    """

    name: str
    label: int
    grain: float
    paint: Callable[[Plane, Plane, Plane], Painted]


def noise(shape_hw: tuple[int, int], spot: float, rng: np.random.Generator) -> Plane:
    """Smooth noise ``(h, w)`` in [0, 1] with spots about ``spot`` pixels wide."""
    h, w = shape_hw
    small = rng.random((max(2, round(h / spot)), max(2, round(w / spot))), dtype=np.float32)
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)).clip(0, 1)


def paint(thing: Thing, side: int, rng: np.random.Generator) -> Painted:
    """Draw a thing into a square of ``side`` pixels; it reaches close to all four edges."""
    line = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return thing.paint(x, y, noise((side, side), side * thing.grain, rng))


def _disc(x: Floats, y: Floats) -> Shape:
    return x * x + y * y <= 1


def _ball(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Light on a ball, from above left, and the shine of it."""
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    light = np.clip(0.45 + 0.55 * (-0.45 * x - 0.6 * y + 0.66 * z), 0, 1)
    shine = np.clip(-0.3 * x - 0.4 * y + 0.87 * z, 0, 1) ** 40
    return light, shine


def _lit(colour: Colour, light: Floats, shine: Floats | None = None) -> Plane:
    lit = np.array(colour, np.float32) * light[..., None]
    if shine is not None:
        lit = lit + 0.6 * shine[..., None]
    return lit.clip(0, 1).astype(np.float32)


def _orange(x: Plane, y: Plane, grain: Plane) -> Painted:
    light, shine = _ball(x, y)
    return Painted(_lit((1.0, 0.48, 0.02), light * (0.85 + 0.25 * grain), 0.5 * shine), _disc(x, y))


def _apple(x: Plane, y: Plane, grain: Plane) -> Painted:
    light, shine = _ball(x, y)
    hollow = np.exp(-((x / 0.3) ** 2) - ((y + 0.75) / 0.16) ** 2)
    colour = _lit((0.55, 0.78, 0.15), light * (0.92 + 0.12 * grain) * (1 - 0.6 * hollow), shine * (1 - 0.6 * hollow))
    stem = (np.abs(x - 0.1 * (y + 0.7) ** 2 - 0.02) < 0.04) & (y < -0.65)
    colour[stem] = (0.3, 0.2, 0.1)
    body = x * x / 0.98 + ((y - 0.1) / 0.9) ** 2 * (1 + 0.05 * x * x) <= 1
    return Painted(colour, body | stem)


def _golf_ball(x: Plane, y: Plane, grain: Plane) -> Painted:
    light, shine = _ball(x, y)
    z = np.sqrt(np.clip(1 - x * x - y * y, 1e-4, 1))
    u, v = 8 * np.arctan2(x, z), 8 * np.arcsin(np.clip(y, -1, 1))  # longitude and latitude
    u = u + 0.5 * (np.floor(v) % 2)
    dx, dy = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    dimple = np.where(dx * dx + dy * dy < 0.42**2, 0.32 * (dx + dy) - 0.064, 0) + 0.02 * grain
    return Painted(_lit((0.97, 0.97, 0.97), (light + dimple).clip(0, 1), 0.4 * shine), _disc(x, y))


def _tennis_ball(x: Plane, y: Plane, grain: Plane) -> Painted:
    light, _ = _ball(x, y)
    colour = _lit((0.8, 0.95, 0.2), light * (0.8 + 0.35 * grain))
    left, right = np.hypot(x - 1.15, y + 0.2), np.hypot(x + 1.15, y - 0.2)
    seam = np.minimum(np.abs(left - 0.8), np.abs(right - 0.8)) < 0.045
    colour[seam] = _lit((0.93, 0.95, 0.85), light)[seam]
    return Painted(colour, _disc(x, y))


def _basketball(x: Plane, y: Plane, grain: Plane) -> Painted:
    light, shine = _ball(x, y)
    colour = _lit((0.85, 0.42, 0.14), light * (0.85 + 0.25 * grain), 0.3 * shine)
    seam = (np.abs(x + 0.15 * y) < 0.025) | (np.abs(y - 0.2 * x) < 0.025)
    seam |= (np.abs(np.hypot(x - 1.3, y) - 0.8) < 0.025) | (np.abs(np.hypot(x + 1.3, y) - 0.8) < 0.025)
    colour[seam] = 0.08
    return Painted(colour, _disc(x, y))


def _soccer_ball(x: Plane, y: Plane, grain: Plane) -> Painted:
    """Black around the twelve corners of an icosahedron, and seams between their neighbourhoods."""
    light, shine = _ball(x, y)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    golden = (1 + 5**0.5) / 2
    corners = np.array([turn for a in (-1, 1) for b in (-golden, golden) for turn in ((0, a, b), (a, b, 0), (b, 0, a))])
    c, s = np.cos((0.5, 0.35)), np.sin((0.5, 0.35))
    about_y = np.array([[c[0], 0, s[0]], [0, 1, 0], [-s[0], 0, c[0]]])
    about_x = np.array([[1, 0, 0], [0, c[1], -s[1]], [0, s[1], c[1]]])
    corners = (corners / np.hypot(1, golden) @ about_y.T @ about_x.T).astype(np.float32)
    near = np.sort(np.stack([x, y, z], -1) @ corners.T, axis=-1)
    black = near[..., -1] > np.cos(0.36)
    seam = (near[..., -1] - near[..., -2] < 0.03) & ~black
    colour = _lit((0.96, 0.96, 0.96), light * (0.97 + 0.05 * grain), 0.5 * shine)
    colour[seam] *= 0.55
    colour[black] = _lit((0.1, 0.1, 0.1), light, 0.5 * shine)[black]
    return Painted(colour, _disc(x, y))


def _jack_o_lantern(x: Plane, y: Plane, grain: Plane) -> Painted:
    v = (y - 0.1) / 0.86
    light, shine = _ball(x, v)
    around = np.arcsin(np.clip(x / np.sqrt(np.clip(1 - v * v, 0.05, 1)), -1, 1))
    ribs = np.abs(np.cos(4 * around))
    colour = _lit((0.98, 0.5, 0.06), light * (0.65 + 0.4 * ribs) * (0.95 + 0.1 * grain), 0.3 * shine)
    colour[_polygons(FACE, len(x))] = (1.0, 0.9, 0.35)
    stem = (np.abs(x - 0.15 * (y + 0.7)) < 0.08) & (y < -0.7)
    colour[stem] = (0.3, 0.35, 0.12)
    return Painted(colour, _disc(x, v) | stem)


def _polygons(polygons: Sequence[Sequence[tuple[float, float]]], side: int) -> Shape:
    filled = np.zeros((side, side), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(filled, [((np.array(polygon) + 1) / 2 * side).astype(np.int32)], 1)
    return filled > 0


def _daisy(x: Plane, y: Plane, grain: Plane) -> Painted:
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    wave = np.abs(np.cos(8.5 * angle + 1))
    colour = _lit((0.97, 0.97, 0.97), 0.72 + 0.28 * wave * np.clip(1.6 * r, 0, 1))
    middle = r < 0.3
    colour[middle] = _lit((0.98, 0.75, 0.05), 0.65 + 0.45 * grain * np.clip(1.3 - 2.5 * r, 0, 1))[middle]
    return Painted(colour, r < 0.62 + 0.37 * np.sqrt(wave))


THINGS = (
    Thing("golf ball", 574, 1 / 60, _golf_ball),
    Thing("tennis ball", 852, 1 / 90, _tennis_ball),
    Thing("basketball", 430, 1 / 100, _basketball),
    Thing("soccer ball", 805, 1 / 60, _soccer_ball),
    Thing("jack-o'-lantern", 607, 1 / 30, _jack_o_lantern),
    Thing("daisy", 985, 1 / 50, _daisy),
    Thing("Granny Smith", 948, 1 / 40, _apple),
    Thing("orange", 950, 1 / 60, _orange),
)
