"""Every format and mode that is read, and everything that can be wrong with a file."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from famcli.data.images import EXTENSIONS, FORMATS, MAX_PIXELS, read_picture, read_size
from famcli_models.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(path: Path) -> np.ndarray:
    """A file as an array, with the promises that every picture keeps."""
    found = read_picture(path)
    assert found.image.mode == "RGB"
    assert found.size_hw == (found.image.height, found.image.width)
    return np.asarray(found.image)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "dib"])
def test_lossless_formats(tmp_path: Path, picture: Callable[..., np.ndarray], suffix: str) -> None:
    """PNG, BMP, TIFF and lossless WebP give the pixels that were written."""
    array = picture(21, 34)
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(array), **options)
    np.testing.assert_array_equal(pixels(path), array)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats(tmp_path: Path, suffix: str) -> None:
    """JPEG and WebP give nearly the colours that were written."""
    path = save(tmp_path / f"x.{suffix}", Image.new("RGB", (40, 30), (200, 100, 50)), quality=95)
    assert pixels(path).shape == (30, 40, 3)
    assert np.abs(pixels(path).astype(int) - (200, 100, 50)).max() <= 6


def test_content_counts_and_not_the_name(tmp_path: Path) -> None:
    """A PNG called .jpg is a PNG."""
    Image.new("RGB", (4, 3), RED).save(tmp_path / "x.jpg", format="PNG")
    np.testing.assert_array_equal(pixels(tmp_path / "x.jpg"), np.full((3, 4, 3), RED))


def row(mode: str, *colours: Any) -> Image.Image:
    """A picture of one row."""
    image = Image.new(mode, (len(colours), 1))
    for x, colour in enumerate(colours):
        image.putpixel((x, 0), colour)
    return image


def palette() -> Image.Image:
    """Two pixels: palette entry 0, red, and entry 1, blue."""
    image = row("P", 0, 1)
    image.putpalette([*RED, *BLUE])
    return image


ALPHA = row("RGBA", (*GREEN, 255), (0, 0, 0, 0), (0, 0, 0, 128))
GREY = (128, 128, 128)
MODES = {
    "gray": (row("L", 77), "png", {}, [(77, 77, 77)]),
    "bilevel": (row("1", 0, 1), "png", {}, [(0, 0, 0), WHITE]),
    "palette": (palette(), "png", {}, [RED, BLUE]),
    "palette with a transparent entry": (palette(), "png", {"transparency": 1}, [RED, WHITE]),
    "RGBA png": (ALPHA, "png", {}, [GREEN, WHITE, (127, 127, 127)]),
    "RGBA tiff": (ALPHA, "tiff", {}, [GREEN, WHITE, (127, 127, 127)]),
    "RGBA webp": (ALPHA, "webp", {"lossless": True, "exact": True}, [GREEN, WHITE, (127, 127, 127)]),
    "gray with alpha": (row("LA", (0, 255), (0, 0)), "png", {}, [(0, 0, 0), WHITE]),
    "a transparent colour": (row("RGB", RED, BLUE), "png", {"transparency": RED}, [WHITE, BLUE]),
    "a transparent gray": (row("L", 0, 90), "png", {"transparency": 0}, [WHITE, (90, 90, 90)]),
    "CMYK jpg": (Image.new("CMYK", (16, 8), (255, 0, 0, 0)), "jpg", {}, [(0, 255, 255)] * 16),
    "CMYK tiff": (Image.new("CMYK", (16, 8), (255, 0, 0, 0)), "tiff", {}, [(0, 255, 255)] * 16),
    "CMYK without ink": (Image.new("CMYK", (16, 8), (0, 0, 0, 0)), "jpg", {}, [WHITE] * 16),
    "16 bits png": (Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)), "png", {}, [(0, 0, 0), GREY, WHITE]),
    "16 bits tiff": (Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)), "tiff", {}, [(0, 0, 0), GREY, WHITE]),
    "floats up to one": (
        Image.fromarray(np.array([[0, 0.5, 1, np.nan]], np.float32)),
        *("tiff", {}, [(0, 0, 0), GREY, WHITE, (0, 0, 0)]),
    ),
    "floats in bytes": (
        Image.fromarray(np.array([[0, 100.0, 200.4]], np.float32)),
        *("tiff", {}, [(0, 0, 0), (100, 100, 100), (200, 200, 200)]),
    ),
    "32 bits": (Image.fromarray(np.array([[0, 100_000, 200_000]], np.int32)), "tiff", {}, [(0, 0, 0), GREY, WHITE]),
}


@pytest.mark.parametrize(("image", "suffix", "options", "expected"), MODES.values(), ids=MODES)
def test_modes(tmp_path: Path, image: Image.Image, suffix: str, options: dict[str, Any], expected: Any) -> None:
    """Any mode becomes RGB: transparency is shown on white, and deep values are scaled to 8 bits."""
    found = pixels(save(tmp_path / f"x.{suffix}", image, **options))
    assert found.shape[:2] == (image.height, image.width)
    np.testing.assert_allclose(found[found.shape[0] // 2], expected, atol=8 if "CMYK" in image.mode else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Whatever the orientation tag, the picture is upright and its size is the upright one's."""
    upright = np.zeros((32, 64, 3), dtype=np.uint8)
    upright[:16, :16] = RED  # top left
    upright[16:, 48:] = BLUE  # bottom right
    stored = {  # how a camera stores the same scene with this tag
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    image = Image.fromarray(np.ascontiguousarray(stored))
    if suffix == "tiff":
        image.save(tmp_path / "x.tiff", tiffinfo={0x0112: orientation})
    else:
        image.save(tmp_path / f"x.{suffix}", exif=exif, **options)
    found = read_picture(tmp_path / f"x.{suffix}")
    assert found.size_hw == (32, 64)
    assert np.abs(np.asarray(found.image).astype(int) - upright).mean() < 12


def test_large_jpegs_may_be_decoded_small(tmp_path: Path) -> None:
    """With at_least a JPEG is decoded smaller, both sides stay at least that, and the size told is the original's."""
    path = save(tmp_path / "x.jpg", Image.new("RGB", (1600, 800), RED))
    found = read_picture(path, at_least=100)
    assert found.size_hw == (800, 1600)
    assert found.image.size == (200, 100)
    assert read_picture(path, at_least=500).image.size == (1600, 800)
    assert read_picture(save(tmp_path / "x.png", found.image), at_least=10).image.size == (200, 100)


def test_small_decoding_keeps_the_orientation(tmp_path: Path) -> None:
    """A turned JPEG decoded small tells the upright size of the original."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.jpg", Image.new("RGB", (1600, 800)), exif=exif)
    found = read_picture(path, at_least=100)
    assert found.size_hw == (1600, 800)
    assert found.image.size == (100, 200)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    """Of several frames the first is read."""
    frames = [Image.new("RGB", (4, 4), c) for c in (RED, BLUE)]
    path = save(tmp_path / "x.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(pixels(path)[0, 0], RED)


# ---- Bad files -------------------------------------------------------------------------------------------


def reason(path: Path) -> str:
    """Why a file is refused: one line, without the path."""
    with pytest.raises(DataError) as caught:
        read_picture(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) not in text
    return text


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_truncated_file(tmp_path: Path, suffix: str, share: float) -> None:
    """A file cut short anywhere is refused, whatever the format."""
    rng = np.random.default_rng(0)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "damaged" in reason(path) or "not a JPEG" in reason(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    """Files that are empty, gone, a folder or a pipe are called that, and links to nowhere or in a circle too."""
    path = tmp_path / "x.jpg"
    assert reason(path) == "no such file"
    path.symlink_to(tmp_path / "nowhere.jpg")
    assert reason(path) == "no such file; its symbolic links lead to nothing"
    path.unlink()
    path.symlink_to(path)
    assert reason(path) == "no such file; its symbolic links lead in a circle"
    path.unlink()
    path.touch()
    assert reason(path) == "the file is empty"
    path.unlink()
    path.mkdir()
    assert reason(path) == "it is a folder and no regular file"
    path.rmdir()
    os.mkfifo(path)
    assert reason(path) == "it is a pipe and no regular file"
    (tmp_path / "link.png").symlink_to("/dev/zero")
    assert reason(tmp_path / "link.png") == "it is a device and no regular file"
    with pytest.raises(DataError, match="device"):
        read_size(tmp_path / "link.png")


@pytest.mark.parametrize(
    ("path", "hint"),
    [("~/x.jpg", "only the shell knows what ~ is"), ("https:/host/x.jpg", "a URL")],
)
def test_paths_that_are_none_here(path: str, hint: str) -> None:
    """What only a shell or a browser would find is answered."""
    assert hint in reason(Path(path))


def test_what_is_no_image(tmp_path: Path) -> None:
    """Files in another form are called that, with what to do, and what is unknown is none of the formats."""
    path = tmp_path / "x.jpg"
    Image.new("RGB", (4, 4)).save(path, format="GIF")  # Pillow could read it
    contents = {
        path.read_bytes(): "a video clip or an animation",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "'git lfs pull'",
        b"\0\0\0\x20ftypisom": "a video clip",
        b"\0\0\0\x20ftypavif": "an AVIF image",
        b"\0\0\0\x20ftypheic": "a HEIC image",
        b"<html>404 not found</html>": "a web page",
        b"<?xml version='1.0'?>\n<svg/>": "an SVG drawing",
        b"PK\x03\x04...": "an archive",
        "a.jpg\nkäse.jpg\n".encode() * 100: "fam predict - < LIST",
    }
    for content, what in contents.items():
        path.write_bytes(content)
        assert reason(path).startswith("not a JPEG, PNG, WebP, BMP or TIFF image, but ")
        assert what in reason(path)
    path.write_bytes(b"\0\1\2\3")
    assert reason(path) == "not a JPEG, PNG, WebP, BMP or TIFF image"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path, side: int) -> Path:
    """A few bytes of PNG that claim to be ``side`` pixels square."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )
    return path


def test_decompression_bomb(tmp_path: Path) -> None:
    """A header of 40,000 x 40,000 pixels is refused before a pixel is decoded."""
    assert reason(bomb(tmp_path / "x.png", 40_000)).startswith("too large")
    assert MAX_PIXELS < 40_000**2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    """A file without permission is called that."""
    path = save(tmp_path / "x.png", Image.new("RGB", (4, 4)))
    path.chmod(0)
    assert reason(path) == "no permission to read it"


def test_permission_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operating system forbids is said in the same words, for root too."""
    path = save(tmp_path / "x.png", Image.new("RGB", (4, 4)))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    assert reason(path) == "no permission to read it"


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it leaves out
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*" + b"\xff" * 40])
def test_damaged_exif_is_no_reason_to_refuse(tmp_path: Path, exif: bytes) -> None:
    """A photograph with broken EXIF data is still a photograph."""
    path = save(tmp_path / "x.jpg", Image.new("RGB", (8, 6)), exif=exif)
    assert read_picture(path).size_hw == (6, 8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("exif", "size_hw"),
    [
        # PageNumber as text, which Pillow cannot write again, then a turn to the right.
        (b"\0\0\0\x08\0\2\1\x29\0\2\0\0\0\2x\0\0\0\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0", (8, 6)),
        (b"\0\0", (6, 8)),  # no directory at all
    ],
)
def test_exif_that_pillow_stumbles_over(tmp_path: Path, exif: bytes, size_hw: tuple[int, int]) -> None:
    """EXIF that makes Pillow raise neither stops reading nor hides an orientation that can be read."""
    path = save(tmp_path / "x.jpg", Image.new("RGB", (8, 6)), exif=b"Exif\0\0MM\0*" + exif)
    assert read_picture(path).size_hw == size_hw
    assert read_size(path) == size_hw


def test_whatever_a_decoder_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is still the sentence of a damaged image."""
    path = save(tmp_path / "x.png", Image.new("RGB", (4, 4)))

    def stumble(*_: object, **__: object) -> None:
        msg = "unpack requires a buffer of 4 bytes"
        raise struct.error(msg)

    monkeypatch.setattr(Image, "open", stumble)
    assert reason(path) == "damaged image (unpack requires a buffer of 4 bytes)"


@pytest.mark.filterwarnings("ignore")
def test_noise_after_every_header(tmp_path: Path) -> None:
    """A right signature with noise behind it is refused like any damaged file, never with another error."""
    rng = np.random.default_rng(0)
    heads = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"II*\0\x08\0\0\0", b"MM\0*", b"RIFF\x40\0\0\0WEBPVP8 ")
    for i, head in enumerate(heads * 6):
        path = tmp_path / f"{i}.img"
        path.write_bytes(head + rng.bytes(200))
        assert reason(path)


def test_formats_and_extensions() -> None:
    """The extensions that folders are searched for are those of the formats read."""
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert EXTENSIONS - {".jpe", ".dib"} <= known | {".dib"}
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"} <= EXTENSIONS
