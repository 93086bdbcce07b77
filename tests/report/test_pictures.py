"""Thumbnails, maps and threads."""

from __future__ import annotations

import dataclasses
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from famcli.report.pictures import LARGE, QUEUED, SIZES, in_threads, map_bytes, photo_of, shoot, size_for
from famcli.results.images import ImageResult


def test_thumbnail_keeps_the_shape(tmp_path: Path) -> None:
    """A thumbnail's longer side is what was asked for; a featured photo has a larger picture too."""
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "a.jpg")
    shot = shoot(tmp_path / "a.jpg", SIZES[-1], large=True)
    assert Image.open(io.BytesIO(shot.thumbnail)).size == (144, 72)
    assert Image.open(io.BytesIO(shot.large)).size == (LARGE[0], LARGE[0] // 2)
    assert shot.problem == ""
    assert shoot(tmp_path / "a.jpg", SIZES[-1], large=False).large == b""


def test_thumbnail_of_a_small_photo(tmp_path: Path) -> None:
    """A photo that is smaller than a thumbnail is not enlarged."""
    Image.new("RGB", (7, 5)).save(tmp_path / "a.png")
    assert Image.open(io.BytesIO(shoot(tmp_path / "a.png", SIZES[0], large=False).thumbnail)).size == (7, 5)


@pytest.mark.parametrize(("content", "problem"), [(None, "no such file"), (b"", "empty"), (b"text", "not a JPEG")])
def test_a_photo_that_cannot_be_read(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """It is a problem with a reason, and not an error."""
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    shot = shoot(tmp_path / "a.jpg", SIZES[0], large=True)
    assert problem in shot.problem
    assert shot.thumbnail == shot.large == b""


def test_more_images_have_smaller_thumbnails() -> None:
    """Sides, qualities and maps shrink with the number of images, and the last row is for all larger ones."""
    assert size_for(1) == SIZES[0]
    assert size_for(SIZES[0].images + 1) == SIZES[1]
    assert size_for(10**6) == SIZES[-1]
    for values in zip(*((s.side, s.quality, s.map_side) for s in SIZES), strict=True):
        assert list(values) == sorted(values, reverse=True)


def test_maps() -> None:
    """A small map is kept as it is; a large one is averaged down and keeps its shape."""
    small = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert map_bytes(small, 4) == ((3, 4), bytes(range(12)))
    large = np.zeros((8, 4), np.uint8)
    large[:4] = 200
    assert map_bytes(large, 4) == ((4, 2), bytes([200] * 4 + [0] * 4))
    assert map_bytes(np.zeros((512, 1), np.uint8), 14)[0] == (14, 1)


def test_threads_keep_the_order_and_little_in_memory() -> None:
    """Results come in the order of the items, which are taken only a few ahead."""
    taken = 0

    def items():
        nonlocal taken
        for i in range(50):
            taken += 1
            yield i

    ahead = []
    together = threading.Barrier(2, timeout=10)

    def work(i: int) -> int:
        if i < 2:
            together.wait()  # passes only if two threads are at work
        return i * i

    for i, (item, square) in enumerate(in_threads(work, items(), 2)):
        assert (item, square) == (i, i * i)
        ahead.append(taken - i)
    assert max(ahead) <= 2 * QUEUED


def test_where_photos_are(tmp_path: Path, records: list[ImageResult]) -> None:
    """A photo is where it was scored, or below a folder by its name."""
    record = dataclasses.replace(records[0], name="a/b.jpg", path="/data/a/b.jpg")
    assert photo_of(record, None) == Path("/data/a/b.jpg")
    assert photo_of(record, tmp_path) == tmp_path / "a" / "b.jpg"
