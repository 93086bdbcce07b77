"""Per-image results: their file, what a bad one says, and error types one by one, with areas worked out by hand."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from famcli.results.images import ERROR_TYPES, BoxResult, ImageResult, byte_map, error_type
from famcli.results.io import MAX_LINE, read_images, write_images
from famcli_models.errors import DataError, ShapeError

BYTES = np.array([[0, 128, 255]], np.uint8)
RECORD = ImageResult(
    name="birds/ä b.jpg",
    path="/data/birds/ä b.jpg",
    label=3,
    width=640,
    height=480,
    truth=((1.0, 2.0, 30.5, 40.0),),
    classes=((3, 0.75), (1, 0.125)),
    rank=0,
    found={
        "FAM": BoxResult((1.0, 2.0, 30.0, 40.0), 0.98, 0.7, "right"),
        "CAM, oracle": BoxResult(None, None, None, "empty"),
    },
    maps={"FAM": BYTES},
)
LINE: dict[str, Any] = {
    "name": "birds/ä b.jpg",
    "path": "/data/birds/ä b.jpg",
    "label": 3,
    "width": 640,
    "height": 480,
    "truth": [[1.0, 2.0, 30.5, 40.0]],
    "classes": [[3, 0.75], [1, 0.125]],
    "rank": 0,
    "found": {
        "FAM": {"box": [1.0, 2.0, 30.0, 40.0], "iou": 0.98, "score": 0.7, "kind": "right"},
        "CAM, oracle": {"box": None, "iou": None, "score": None, "kind": "empty"},
    },
    "maps": {"FAM": {"size": [1, 3], "data": base64.b64encode(bytes([0, 128, 255])).decode()}},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.jsonl"


def test_the_form_of_a_line(path: Path) -> None:
    """An image is one line of JSON with the documented keys, and is read as it was written, its maps too."""
    write_images(path, [RECORD, RECORD])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [LINE, LINE]
    assert "ä" in lines[0]
    found, _ = read_images(path)
    assert found == RECORD
    assert found.maps["FAM"].tolist() == [[0, 128, 255]]
    assert found.maps["FAM"].dtype == np.uint8


@given(st.text() | st.just("a\udcff.jpg"), st.floats(0, 1e6), st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_image_comes_back(path: Path, name: str, corner: float, share: float) -> None:
    """Names of any letters, or bytes that are none as Linux allows, and all digits of a number are kept."""
    box = (0.0, corner, corner, corner)
    found = {name: BoxResult(box, share, corner, "part")}
    made = replace(RECORD, name=name, path=name, truth=(box, box), classes=((0, share),), rank=None, found=found)
    write_images(path, [made])
    assert list(read_images(path)) == [made]


def test_maps_are_bytes() -> None:
    """A map is rounded to the nearest of 256 values, and cut to [0, 1]."""
    assert byte_map([[0, 0.5, 1], [-1, 2, 0.0019]]).tolist() == [[0, 128, 255], [0, 255, 0]]


@pytest.mark.parametrize("values", [[[np.nan]], [[np.inf]], [1.0], [[]], np.zeros((1, 513)), np.zeros((1, 2, 2))])
def test_odd_maps_are_refused(values: Any) -> None:
    """A map has two dimensions of at most 512 finite values."""
    with pytest.raises(ShapeError, match="cannot be stored"):
        byte_map(values)


def test_nan_is_never_written(path: Path) -> None:
    """An image with a NaN is refused by its name, and leaves no file."""
    bad = replace(RECORD, name="x.jpg", truth=((0, 0, float("nan"), 1),))
    with pytest.raises(DataError, match=r"image 'x.jpg' holds a number that is not finite"):
        write_images(path, [RECORD, bad])
    assert list(path.parent.iterdir()) == []


def test_a_failure_leaves_the_old_file(path: Path) -> None:
    """If the images stop coming, what was there before stays."""
    write_images(path, [RECORD])

    def failing():
        yield RECORD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_images(path, failing())
    assert list(read_images(path)) == [RECORD]
    assert list(path.parent.iterdir()) == [path]


def test_reading_is_lazy(path: Path) -> None:
    """Images are given before the file has been read to its end."""
    path.write_text(json.dumps(LINE) + "\nnot JSON\n")
    reader = read_images(path)
    assert next(reader) == RECORD
    with pytest.raises(DataError, match=r"line 2 of '.*images.jsonl' is no JSON"):
        next(reader)


HUGE = "1e400"  # becomes a number in the file, which is read as infinity


def changed(*keys: Any, to: Any) -> dict[str, Any]:
    """The good line with one value replaced."""
    line = json.loads(json.dumps(LINE))
    place = line
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return line


BAD = {
    "name is text": (changed("name", to=1), "name has to be a text, not 1"),
    "label is whole": (changed("label", to=1.5), "label has to be a whole number, not 1.5"),
    "label is no flag": (changed("label", to=True), "label has to be a whole number, not True"),
    "a negative label": (changed("label", to=-1), "label has to be at least 0, not -1"),
    "a huge label": (changed("label", to=10**400), "label has to be at most 100000, not 1000"),
    "no width": (changed("width", to=0), "width has to be at least 1, not 0"),
    "three corners": (changed("truth", 0, to=[1, 2, 3]), r"truth\[0\]\[3\] is missing"),
    "five corners": (changed("truth", 0, to=[1, 2, 3, 4, 5]), r"truth\[0\] has to be a list of at most 4 values"),
    "turned inside out": (changed("truth", 0, to=[5, 0, 1, 1]), r"truth\[0\] has to be a box x0, y0, x1, y1"),
    "a text as corner": (changed("truth", 0, 1, to="2"), r"truth\[0\]\[1\] has to be a number, not '2'"),
    "an endless corner": (changed("truth", 0, 2, to=HUGE), r"truth\[0\]\[2\] has to be at most 1e\+09, not inf"),
    "six classes": (changed("classes", to=[[1, 0.1]] * 6), "classes has to be a list of at most 5 values"),
    "a class alone": (changed("classes", to=[[1]]), r"classes\[0\]\[1\] is missing"),
    "probability of 2": (changed("classes", to=[[1, 2]]), r"classes\[0\]\[1\] has to be at most 1, not 2"),
    "rank is text": (changed("rank", to="0"), "rank has to be a whole number"),
    "unknown kind": (changed("found", "FAM", "kind", to="odd"), r"found.FAM.kind has to be one of 'right'"),
    "kind is a list": (changed("found", "FAM", "kind", to=[]), r"kind has to be a text"),
    "box without iou": (changed("found", "FAM", "iou", to=None), "either a box with an iou"),
    "empty with a box": (changed("found", "FAM", "kind", to="empty"), "either a box with an iou"),
    "iou of 5": (changed("found", "FAM", "iou", to=5), "iou has to be at most 1, not 5"),
    "score of infinity": (changed("found", "FAM", "score", to=HUGE), "score has to be a finite number, not inf"),
    "score of NaN": (changed("found", "FAM", "score", to=float("nan")), "score has to be a finite number, not nan"),
    "found is a list": (changed("found", to=[]), "found has to be an object"),
    "no base64": (changed("maps", "FAM", "data", to="ä?"), r"maps.FAM has to be a map with data in base64"),
    "too few bytes": (changed("maps", "FAM", "size", to=[2, 3]), r"maps.FAM has to be a map with data of 6 bytes"),
    "a huge map": (changed("maps", "FAM", "size", to=[10**6, 10**6]), r"size\[0\] has to be at most 512, not 1000000"),
    "a list": ([1, 2], r"it has to be an object, not \[1, 2\]"),
    "a number": (7, "it has to be an object, not 7"),
    "null": (None, "it has to be an object, not None"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_are_one_sentence(path: Path, case: str) -> None:
    """A value that is not what the schema says is named, with its line."""
    value, message = BAD[case]
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(value).replace(f'"{HUGE}"', HUGE) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        list(read_images(path))
    assert f"line 2 of '{path}' is no result of an image: " in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", sorted(LINE))
def test_keys(path: Path, key: str) -> None:
    """Every key is needed, and a later version may write more."""
    path.write_text(json.dumps({**LINE, "mask": [1]}) + "\n" + json.dumps({k: LINE[k] for k in LINE if k != key}))
    reader = read_images(path)
    assert next(reader) == RECORD
    with pytest.raises(DataError, match=f"line 2 of .*: {key} is missing"):
        next(reader)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\n", "is no JSON; write it again"),
        (b"\n", "is no JSON; write it again"),
        (b"[" * 100_000 + b"\n", "is no JSON; write it again"),
        (b"1" * 5000 + b"\n", "is no JSON; write it again"),
        (json.dumps(LINE)[:50].encode(), "is no JSON, and its end is missing"),
        (b"\0" * (MAX_LINE + 2), "is longer than 8 MiB"),
    ],
    ids=["bytes", "empty", "brackets", "digits", "cut", "endless"],
)
def test_what_is_no_line(path: Path, content: bytes, message: str) -> None:
    """Bytes that are no text, empty and endless lines, endless brackets and a cut file are one sentence each."""
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"line 1 of .* {message}"):
        list(read_images(path))


def test_files_that_are_not_there(path: Path) -> None:
    """An absent file names the command that writes it, a folder says that it is one."""
    with pytest.raises(DataError, match="does not exist; write it with fam eval --out"):
        list(read_images(path))
    with pytest.raises(DataError, match="cannot read"):
        list(read_images(path.parent))
    with pytest.raises(DataError, match="choose another --out"):
        write_images(Path("/dev/null/x/images.jsonl"), [RECORD])


OBJECT = (0.0, 0.0, 100.0, 100.0)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (OBJECT, "right"),
        ((0, 0, 100, 50), "right"),  # IoU exactly 0.5
        ((0, 0, 100, 49.9), "part"),  # all of the box lies within the object
        ((0, 0, 200, 101), "too much"),  # all of the object lies within the box
        ((50, 50, 150, 150), "part"),  # a quarter of each: not yet elsewhere, and the box is as much within
        ((51, 51, 151, 151), "wrong instance"),  # 49² of 100² in common, less than a quarter of each
        ((90, 0, 95, 100), "part"),  # a thin slice, all of it within
        ((90, 90, 99, 400), "wrong instance"),  # 90 of 2,790 and 90 of 10,000 pixels in common
        ((90, 0, 390, 100), "wrong instance"),  # 10 of 300 and 10 of 100
        ((60, 0, 360, 100), "too much"),  # 40 of 300 within, 40 of 100 covered
        ((100, 0, 200, 100), "wrong instance"),  # they touch, and have nothing in common
        ((500, 500, 510, 510), "wrong instance"),
        ((50, 50, 50, 60), "wrong instance"),  # no area
        (None, "empty"),
        ((float("nan"),) * 4, "empty"),
    ],
)
def test_boxes_by_hand(box: tuple[float, ...] | None, expected: str) -> None:
    """Each way to miss an object of 100 x 100 pixels has its word."""
    assert error_type(box, [OBJECT], None) == expected


def test_the_class_comes_second() -> None:
    """A right box of the wrong class is that; a wrong box is a wrong box, whatever the class."""
    assert error_type(OBJECT, [OBJECT], 0) == "right"
    assert error_type(OBJECT, [OBJECT], 3) == "wrong class"
    assert error_type((0, 0, 10, 10), [OBJECT], 3) == "part"
    assert error_type(None, [OBJECT], 0) == "empty"


def test_strict_wants_more_than_half() -> None:
    """An IoU of 0.5 itself is right or not by the protocol's rule."""
    assert error_type((0, 0, 100, 50), [OBJECT], None, strict=True) == "part"
    assert error_type((0, 0, 100, 50.1), [OBJECT], None, strict=True) == "right"


def test_the_nearest_truth_box_counts() -> None:
    """Of several objects the one of highest IoU is compared, the first of equal ones."""
    assert error_type((200, 0, 300, 100), [OBJECT, (200, 0, 300, 100)], None) == "right"
    # Half within each of two: with the first, the smaller one, it is too much.
    small, large = (0.0, 0.0, 20.0, 10.0), (20.0, 0.0, 40.0, 10.0)
    assert error_type((0, 0, 40, 11), [small, large], None) == "too much"
    assert error_type((300, 0, 310, 10), [OBJECT, (305, 0, 500, 10)], None) == "part"


def test_truth_is_needed() -> None:
    """Without a truth box there is nothing to miss."""
    with pytest.raises(ShapeError, match="at least one truth box"):
        error_type(OBJECT, [], None)
    with pytest.raises(ShapeError, match="one box"):
        error_type([OBJECT, OBJECT], [OBJECT], None)


corners = st.tuples(*[st.integers(0, 40)] * 4).map(
    lambda c: (float(min(c[0], c[2])), float(min(c[1], c[3])), max(c[0], c[2]) + 1.0, max(c[1], c[3]) + 1.0)
)


@given(corners, st.lists(corners, min_size=1, max_size=3))
def test_every_box_has_a_kind(box: tuple[float, ...], truth: list[tuple[float, ...]]) -> None:
    """Whatever the boxes, the kind is one of the table, and swapping box and object swaps part and too much."""
    found = error_type(box, truth, None)
    assert found in ERROR_TYPES
    other = error_type(truth[0], [box], None)
    if len(truth) == 1 and found == "too much":
        assert other == "part"
