"""Which images a report shows, their thumbnails, maps and threads."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.report.pictures import FEATURED, LARGE, SIZES, make_pictures, map_bytes, select, size_for
from famcli.results.images import BoxResult, ImageResult
from famcli.results.schema import Results
from famcli_models.errors import DataError


@pytest.mark.parametrize(("photo", "thumbnail"), [((2000, 1000), (144, 72)), ((7, 5), (7, 5))])
def test_thumbnails(tmp_path: Path, photo: tuple[int, int], thumbnail: tuple[int, int]) -> None:
    """A thumbnail's longer side is the one asked for, no photo is enlarged, and featured ones have a larger picture."""
    Image.new("RGB", photo, "red").save(tmp_path / "a.jpg")
    small, large = make_pictures(tmp_path / "a.jpg", SIZES[-1], large=True)
    assert Image.open(io.BytesIO(small)).size == thumbnail
    assert max(Image.open(io.BytesIO(large)).size) == min(LARGE[0], photo[0])
    assert make_pictures(tmp_path / "a.jpg", SIZES[-1], large=False) == (small, b"")


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


def test_all(records: list[ImageResult], results: Results) -> None:
    """All images are shown if they are not too many, in order; the random order holds each once."""
    chosen = select(records, results, 30)
    assert (chosen.total, list(chosen.shown)) == (30, list(range(30)))
    assert sorted(chosen.random) == list(range(30))
    assert list(chosen.random) != list(range(30))


def test_samples(records: list[ImageResult], results: Results) -> None:
    """Of too many images the best, the worst and some random ones are shown: no box is the worst of all."""
    chosen = select(records, results, 9)
    best = {0, 1, 2}  # IoU falls along the records
    worst = {5, 11, 17}  # the first ones without a box
    assert set(chosen.shown) == best | worst | set(chosen.random)
    assert len(chosen.random) == 3
    assert len(chosen.shown) <= 9


def test_random_is_drawn_from_all_by_seed(records: list[ImageResult], results: Results) -> None:
    """The same seed gives the same images, another seed others."""
    assert select(records, results, 9, 3) == select(records, results, 9, 3)
    assert select(records, results, 9, 3).random != select(records, results, 9, 4).random


def test_featured(records: list[ImageResult], results: Results) -> None:
    """The first best, worst and random images are featured, so no more than three times as many."""
    chosen = select(records, results, 30)
    assert set(range(FEATURED - 2)) <= set(chosen.featured)
    assert len(chosen.featured) <= 3 * FEATURED


EMPTY = BoxResult(None, None, None, "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"found": {}}, "'photo 04.png' has no box of 'FAM', which does not go with results.json"),
        ({"found": {"FAM": EMPTY, "other": EMPTY}}, "'photo 04.png' has boxes of 'other', which does not go with"),
        ({"found": {"FAM": EMPTY}}, "count other images: both must be of one run"),
        ({"label": 2}, "count other images: both must be of one run"),
    ],
)
def test_images_of_another_run(
    records: list[ImageResult], results: Results, change: dict[str, Any], message: str
) -> None:
    """Images without the first row, with an unknown row, or of other counts by error type or class are one sentence."""
    odd = dataclasses.replace(records[4], **change)
    with pytest.raises(DataError, match=message):
        select([*records[:4], odd, *records[5:]], results, 30)
    with pytest.raises(DataError, match=r"29 images in images.jsonl, 30 in results.json"):
        select(records[1:], results, 30)
