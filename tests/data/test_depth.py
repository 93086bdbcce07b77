"""Images of more than 8 bits look as the same picture of 8 bits does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from famcli.data.depth import parse_range, shown_range
from famcli.data.images import read_picture
from famcli_models.errors import ConfigError, DataError

rows, columns = np.mgrid[:90, :120]
SCENE = (40 + 60 * np.sin(rows / 9) ** 2 + 65 * np.cos(columns / 14) ** 2).astype(np.uint8)  # 40 to 165, as photographs
SHARE = SCENE / 255
BITS, COMPRESSION, PHOTOMETRIC, FORMAT = 258, "tiff_adobe_deflate", 262, 339


def shown(content: bytes, value_range: Any = "auto") -> np.ndarray:
    """The gray values that a file is shown with."""
    return np.asarray(read_picture(content, value_range=value_range).image)[..., 0].astype(int)


def saved(values: np.ndarray, form: str = "tiff", **options: Any) -> bytes:
    """A file of one value a pixel."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, form, **options)
    return file.getvalue()


def odd(values: np.ndarray, *extremes: float) -> np.ndarray:
    """The values with some of the first replaced."""
    values = values.copy()
    values[0, : len(extremes)] = extremes
    return values


def block(values: np.ndarray, value: float) -> np.ndarray:
    """The values with a sixth of them missing."""
    values = values.copy()
    values[:, :20] = value
    return values


FLOATS = SHARE.astype(np.float32)
TWELVE = (SHARE * 4095).round().astype(np.uint16)
SAME = {
    **{
        f"{bits} bits in 16": saved((SHARE * (2**bits - 1)).round().astype(np.uint16), "png")
        for bits in (8, 10, 12, 14, 16)
    },
    "12 bits and a hot pixel": saved(odd(TWELVE, 65535), "png"),
    "12 bits and a block of no data": saved(block(TWELVE, 65535), "png"),
    "16 bits, 0 is white": saved((65535 - SHARE * 65535).round().astype(np.uint16), tiffinfo={PHOTOMETRIC: 0}),
    "signed 32 bits": saved((SHARE * (2**31 - 1)).round().astype(np.int32)),
    "floats to 1": saved(FLOATS),
    "floats to 255": saved(FLOATS * 255),
    "floats to 65535": saved(FLOATS * 65535),
    "floats from -1 to 1": saved(FLOATS * 2 - 1),
    "floats, 0 is white": saved(1 - FLOATS, tiffinfo={PHOTOMETRIC: 0}),
    "floats that overshoot": saved(odd(FLOATS, 1.02, -0.03)),
    "infinite floats": saved(odd(FLOATS, np.inf, -np.inf, np.nan)),
    "one huge float": saved(odd(FLOATS, 3.4e38)),
    "a block of no data": saved(block(FLOATS, -9999)),
    "a block of NaN": saved(block(FLOATS, np.nan)),
}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_the_same_picture_in_any_depth(content: bytes) -> None:
    """Whatever the values are, and whichever of them stand for nothing, the others look as with 8 bits."""
    assert np.abs(shown(content) - SCENE)[1:, 20:].max() <= 1


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_colours_of_16_bits(tmp_path: Path, suffix: str, bits: int, alpha: bool) -> None:
    """Colours of 10 and 12 bits in 16 look as those of 8 bits do, beside an alpha of 16 bits too."""
    colours = np.stack([SCENE, 255 - SCENE, SCENE // 2], -1)
    values = (colours / 255 * (2**bits - 1)).round().astype(np.uint16)
    if alpha:
        values = np.dstack([values, np.full_like(SCENE, 65535, np.uint16)])
    cv2.imwrite(str(tmp_path / f"x{suffix}"), values[..., [2, 1, 0, 3][: values.shape[2]]])
    found = np.asarray(read_picture(tmp_path / f"x{suffix}").image).astype(int)
    assert np.abs(found - colours).max() <= 1


def big_endian(values: np.ndarray, compressed: bool) -> bytes:
    """A TIFF whose values have their highest byte first."""
    tifffile = pytest.importorskip("tifffile")  # scikit-image brings it
    file = io.BytesIO()
    tifffile.imwrite(file, values, byteorder=">", compression="zlib" if compressed else None, photometric="minisblack")
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["int16", "uint16", "int32", "float32"])
def test_order_of_bytes(kind: str, compressed: bool) -> None:
    """Compressed values in another order than the machine's are read as the others."""
    top = np.iinfo(kind).max if kind != "float32" else 1
    assert np.abs(shown(big_endian((SHARE * top).astype(kind), compressed)) - SCENE).max() <= 1


@pytest.mark.parametrize(
    ("kind", "photometric", "planes", "words"),
    [
        ("float16", "minisblack", None, "1 floating point values of 16 bits"),
        ("float64", "minisblack", None, "1 floating point values of 64 bits"),
        ("int8", "minisblack", None, "signed values of 8 bits"),
        ("float32", "rgb", "contig", "3 floating point values of 32 bits"),
        ("uint16", "rgb", "separate", "planes of more than 8 bits"),
    ],
)
def test_layouts_that_are_not_supported(kind: str, photometric: str, planes: str | None, words: str) -> None:
    """A TIFF that is whole, but of a layout that is not read or read wrongly, is called that."""
    tifffile = pytest.importorskip("tifffile")
    shape = {None: (8, 9), "contig": (8, 9, 3), "separate": (3, 8, 9)}[planes]
    file = io.BytesIO()
    tifffile.imwrite(file, np.ones(shape, kind), photometric=photometric, planarconfig=planes)
    with pytest.raises(DataError, match=f"a layout that is not supported .*{words}"):
        read_picture(file.getvalue())


def test_a_range_of_values() -> None:
    """What is black and what is white can be given, or be all that the type holds."""
    content = saved(TWELVE, "png")
    assert shown(content, (0.0, 4095.0)).tolist() == SCENE.tolist()
    assert shown(content, "container").max() < 12
    assert shown(content, (2000.0, 2001.0)).max() == 255
    assert shown(saved(SCENE, "png"), (0.0, 10.0)).tolist() == SCENE.tolist()  # it is of deep images alone


def test_parse_range() -> None:
    """A range in words or numbers; anything else is refused with what is right."""
    assert [parse_range(text) for text in ("auto", "container", "-5,1e3")] == ["auto", "container", (-5.0, 1000.0)]
    for text in ("", "5", "5,5", "9,1", "nan,1", "0,inf", "1,2,3", "x" * 1000):
        with pytest.raises(ConfigError, match=r"LOW,HIGH such as 0,4095$"):
            parse_range(text)


def test_values_that_fit_no_range() -> None:
    """Heights below 0 are shown from their percentiles, and what is all the same or not finite as black."""
    heights = np.linspace(-4000, 8000, 1001)
    assert shown_range(heights) == pytest.approx((-3988, 7988))
    assert shown_range(np.full(50, np.nan)) == (0, 1)
    assert shown(saved(np.full((4, 4), -7, np.float32))).max() == 0


@pytest.mark.parametrize("values", [30_000 + SCENE.astype(np.uint16), 290 + 20 * FLOATS, 1e-6 * FLOATS])
def test_values_that_are_close(values: np.ndarray) -> None:
    """Values far from 0 and close to each other, such as temperatures, are spread over all grays."""
    gray = shown(saved(values))
    assert (gray.min(), gray.max()) == (0, 255)
    assert np.corrcoef(gray.ravel(), SCENE.ravel())[0, 1] > 0.999
