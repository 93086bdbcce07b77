"""Foreground map to boxes, on maps worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from famcli_models import localization
from famcli_models.errors import ConfigError, ShapeError
from famcli_models.localization import localize, localize_at, localize_box, upsample


def grid(*rows: str) -> np.ndarray:
    """A map from rows of text: ``#`` is 0.9, anything else 0.1."""
    return np.array([[0.9 if c == "#" else 0.1 for c in row] for row in rows], dtype=np.float32)


def boxes(M: np.ndarray, **options: object) -> list[tuple[float, ...]]:
    """Boxes at the map's own size, where upsampling changes nothing."""
    return [r.xyxy for r in localize(M, M.shape, **options).regions]  # type: ignore[arg-type]


def test_box_of_one_blob() -> None:
    """The box is half-open: columns 1 to 3 and rows 1 to 2 are (1, 1, 4, 3)."""
    M = grid(".....", ".###.", ".#.#.", ".....", ".....")
    (region,) = localize(M, (5, 5)).regions
    assert region.xyxy == (1, 1, 4, 3)
    assert region.area == 5
    assert region.foreground == pytest.approx(0.9)


def test_a_ring_holds_no_island() -> None:
    """A ring and the blob inside it are two regions, although their boxes overlap."""
    M = grid("#######", "#.....#", "#.....#", "#..#..#", "#.....#", "#.....#", "#######")
    found = localize(M, (7, 7), max_boxes=2).regions
    assert [r.xyxy for r in found] == [(0, 0, 7, 7), (3, 3, 4, 4)]
    assert [r.area for r in found] == [24, 1]


REGIONS = [
    # A diagonal of four pixels, one region, has a larger box than a block of six, and comes after it.
    (("#.......", ".#......", "..#..###", "...#.###", "........"), [(5, 2, 8, 4), (0, 0, 4, 4)]),
    (("#...##..", "........", "###.....", "........"), [(0, 2, 3, 3), (4, 0, 6, 1), (0, 0, 1, 1)]),  # by size
    # Ties go to the first in reading order.
    (("#..#", "....", "...."), [(0, 0, 1, 1), (3, 0, 4, 1)]),  # the same row: left first
    (("...#", "....", "#..."), [(3, 0, 4, 1), (0, 2, 1, 3)]),  # the upper row first
    ((".....#", "#....."), [(5, 0, 6, 1), (0, 1, 1, 2)]),  # the upper row first, though only by one row
    (("......", "....##", "##....", "......"), [(4, 1, 6, 2), (0, 2, 2, 3)]),  # likewise, two pixels each
    (("..#..", "#.#.#", "#...#"), [(2, 0, 3, 2), (0, 1, 1, 3), (4, 1, 5, 3)]),  # three of two pixels
]


@pytest.mark.parametrize(("rows", "expected"), REGIONS)
def test_regions_come_by_size(rows: tuple[str, ...], expected: list[tuple[int, ...]]) -> None:
    """max_boxes gives the largest 8-connected regions, largest first, and no more than there are."""
    for most in (1, 2, 9):
        assert boxes(grid(*rows), max_boxes=most) == expected[:most]


def test_threshold_is_strict() -> None:
    """A pixel that is τ is background; with τ = 0 only what is above zero counts."""
    assert boxes(np.zeros((4, 4), dtype=np.float32), tau=0.0) == []
    M = np.array([[0.5, 0.5], [0.5, 0.75]], dtype=np.float32)
    assert boxes(M, tau=0.5) == [(1, 1, 2, 2)]
    assert boxes(M, tau=0.75) == []
    assert boxes(M, tau=0.25) == [(0, 0, 2, 2)]


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5])
def test_a_map_that_never_passes_has_no_region(value: float) -> None:
    """Nothing above τ is no region: neither an error nor the whole image."""
    found = localize(np.full((14, 14), value, dtype=np.float32), (100, 150), with_map=True)
    assert found.regions == ()
    assert found.region_map is not None
    assert not found.region_map.any()


def test_nan_is_background() -> None:
    """A map of NaN has no region, and a NaN pixel is not foreground; the caller's array is not changed."""
    assert localize(np.full((4, 4), np.nan), (40, 40)).regions == ()
    M = np.array([[np.nan, 0.9], [0.1, 0.1]], dtype=np.float32)
    before = M.copy()
    assert boxes(M) == [(1, 0, 2, 1)]
    np.testing.assert_array_equal(M, before)


@pytest.mark.parametrize("size_hw", [(33, 57), (1, 1), (1, 50), (50, 1), (3, 1000)])
def test_ones_are_the_whole_image(size_hw: tuple[int, int]) -> None:
    """A map of ones gives the half-open box of the whole image, of one pixel or one line too."""
    (region,) = localize(np.ones((14, 14)), size_hw).regions
    assert region.xyxy == (0, 0, size_hw[1], size_hw[0])
    assert region.area == size_hw[0] * size_hw[1]
    assert region.foreground == pytest.approx(1)


def test_box_is_in_the_frame_of_the_image() -> None:
    """The left half of the map is the left half of the image; the last cell ends at the right and bottom edge."""
    M = np.array([[1, 1, 0, 0]] * 4, dtype=np.float32)
    (region,) = localize(M, (20, 40)).regions
    assert region.xyxy == (0, 0, 20, 20)
    M = np.zeros((4, 4), dtype=np.float32)
    M[3, 3] = 1
    (region,) = localize(M, (40, 80)).regions
    # The cell's centre is at 35 of 40; half-way to the next centre, at 30, the map is 0.5.
    assert region.xyxy == (60, 30, 80, 40)


@pytest.mark.parametrize("size_hw", [(37, 53), (14, 14), (224, 100), (5, 61)])
def test_upsampling_is_bilinear(size_hw: tuple[int, int]) -> None:
    """Upsampling agrees with torch's bilinear interpolation, align_corners=False."""
    M = torch.rand(1, 1, 14, 14)
    expected = F.interpolate(M, size=size_hw, mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(upsample(M[0, 0].numpy(), size_hw), expected.numpy(), atol=1e-5)


def test_region_map_holds_the_pixels_of_the_regions_given() -> None:
    """Each region returned has its number on its pixels, a smaller one none; it costs memory and must be asked for."""
    M = grid("#..##", "...##", "#....", "#....")
    for most, expected in ((1, "00011000110000000000"), (2, "00011000112000020000"), (9, "30011000112000020000")):
        region_map = localize(M, (4, 5), max_boxes=most, with_map=True).region_map
        assert region_map is not None
        assert "".join(map(str, region_map.ravel())) == expected
    assert localize(M, (4, 5)).region_map is None


def test_foreground_is_the_mean_over_the_region_only() -> None:
    """(0.6 + 0.8) / 2 = 0.7; the background inside the box does not count."""
    M = np.array([[0.6, 0.0], [0.0, 0.8]], dtype=np.float32)
    assert localize(M, (2, 2)).regions[0].foreground == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("options", "word"),
    [*(({"tau": tau}, "threshold") for tau in (-0.1, 1.0, 1.5, float("nan"))), ({"max_boxes": 0}, "max_boxes")],
)
def test_bad_options_are_refused(options: dict[str, Any], word: str) -> None:
    """A threshold outside [0, 1) and less than one box are refused by name."""
    with pytest.raises(ConfigError, match=word):
        localize(np.ones((2, 2)), (4, 4), **options)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (4,), (0, 3), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """A batch of maps, a line or an empty map is refused with its shape."""
    with pytest.raises(ShapeError, match="shape"):
        localize(np.ones(shape), (4, 4))


@pytest.mark.parametrize("size_hw", [(90, 131), (300, 41), (41, 300), (64, 64)])
@pytest.mark.parametrize("seed", range(4))
def test_strips_give_the_same_regions(monkeypatch: pytest.MonkeyPatch, size_hw: tuple[int, int], seed: int) -> None:
    """A large image, gone through in strips, has the same boxes, pixels and maps to the last bit."""
    M = np.random.default_rng(seed).random((9, 11), dtype=np.float32)
    box = (0.21, 0.1, 0.83, 0.67)
    taus = [0.2, 0.4, 0.5, 0.6, 0.8, 0.999]

    def found() -> list[Any]:
        whole = [localize(M, size_hw, tau, 5, with_map=True) for tau in taus]
        return [*whole, *(localize_box(M, size_hw, box, tau, with_map=True) for tau in (0.5, 0.9999))]

    at_once, best = found(), localize_at(M, size_hw, taus)
    monkeypatch.setattr(localization, "LARGE", 1000)
    monkeypatch.setattr(localization, "STRIP", size_hw[0] * 7)
    for expected, strips in zip(at_once, found(), strict=True):
        assert [(r.xyxy, r.area) for r in strips.regions] == [(r.xyxy, r.area) for r in expected.regions]
        for a, b in zip(strips.regions, expected.regions, strict=True):
            assert a.foreground == pytest.approx(b.foreground, abs=1e-6)
        np.testing.assert_array_equal(strips.region_map, expected.region_map)
    assert [r and r.xyxy for r in localize_at(M, size_hw, taus)] == [r and r.xyxy for r in best]
