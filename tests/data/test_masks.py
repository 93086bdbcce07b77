"""Masks: where they are found, and what their pixels mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image
from pycocotools import mask as reference

from famcli.data.dataset import Dataset, open_dataset
from famcli.data.masks import MaskFiles, Segmentations, covered, decode, find_masks, read_truth
from famcli.data.sample import NO_BOXES, Sample
from famcli_models.errors import DataError

Pictures = Callable[..., Path]
NAMES = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
SIZE = (20, 30)


def save(path: Path, values: Any = None, mode: str | None = None) -> Path:
    """A mask file; by default the left half of a 20 x 30 image."""
    array = np.zeros(SIZE, np.uint8) if values is None else np.asarray(values)
    if values is None:
        array[:, :15] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, format="png")
    return path


def samples(root: Path, names: list[str] = NAMES) -> list[Sample]:
    return [Sample(name, root / name, 0, NO_BOXES, SIZE) for name in names]


def dataset(root: Path, images: Path | None = None) -> Dataset:
    return Dataset("mine", root, images or root)


def files(found: list[Any]) -> list[Path | None]:
    return [None if source is None else source.objects[0] for source in found]


@pytest.mark.parametrize("folder", ["home/masks", "home/segmentations", "photos/x/masks", "photos/segmentations"])
@pytest.mark.parametrize("kind", ["{0}.png", "{0}.jpg.png", "{0}.PNG"])
def test_beside_the_images(tmp_path: Path, folder: str, kind: str) -> None:
    """Masks in the same subfolders as the images are found in the usual places, under both names."""
    (tmp_path / "home").mkdir()
    images = tmp_path / "photos/x"
    first = save(tmp_path / folder / "a" / kind.format("1"))
    third = save(tmp_path / folder / "b" / kind.format("1"))
    found = find_masks(dataset(tmp_path / "home", images), samples(images))
    assert files(found) == [first, None, third]
    assert covered(found) == 2


def test_by_the_file_name_alone(tmp_path: Path) -> None:
    """A name that no other mask and no other image has is enough; what fam predict --masks has written is no truth."""
    mask = save(tmp_path / "masks/2.png")
    save(tmp_path / "masks/a/1.jpg.mask.png")
    assert files(find_masks(dataset(tmp_path), samples(tmp_path))) == [None, mask, None]


def test_of_two_images(tmp_path: Path) -> None:
    """A mask of two images is of none, and an error if its folder was given; so are two masks of one image."""
    save(tmp_path / "masks/1.png")
    assert covered(find_masks(dataset(tmp_path), samples(tmp_path))) == 0
    with pytest.raises(DataError, match=r"masks/1\.png' may be the mask of 'a/1\.jpg', but other .* 'a/1\.png'"):
        find_masks(dataset(tmp_path), samples(tmp_path), tmp_path / "masks")
    for part in "xy":
        save(tmp_path / "twice" / part / "2.png")
    with pytest.raises(DataError, match="may be the mask of 'a/2.jpg'"):
        find_masks(dataset(tmp_path), samples(tmp_path), tmp_path / "twice")


def test_a_folder_that_is_given(tmp_path: Path) -> None:
    """It alone is looked into; one that is none, or has no mask of these images, is an error."""
    save(tmp_path / "masks/a/1.png")
    mask = save(tmp_path / "mine/a/2.png")
    assert files(find_masks(dataset(tmp_path), samples(tmp_path), tmp_path / "mine")) == [None, mask, None]
    with pytest.raises(DataError, match="is not a folder of masks"):
        find_masks(dataset(tmp_path), samples(tmp_path), tmp_path / "nothing")
    save(tmp_path / "other/c.png")
    with pytest.raises(DataError, match=r"no mask of any of the 3 images; expected 'a/1\.png'"):
        find_masks(dataset(tmp_path), samples(tmp_path), tmp_path / "other")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 127, 128, 255]], np.uint8), [[0, 0, 1, 1]]),
        (np.array([[0, 51, 102, 153, 204, 255]], np.uint8), [[0, 0, 0, 1, 1, 1]]),  # CUB's levels
        (np.array([[0, 51, 102]], np.uint8), [[0, 0, 0]]),
        (np.array([[0, 1]], np.uint8), [[0, 1]]),
        (np.array([[0, 0]], np.uint8), [[0, 0]]),
        (np.array([[False, True]]), [[0, 1]]),
        (np.array([[0, 32_767, 32_768, 65_535]], np.uint16), [[0, 0, 1, 1]]),
    ],
)
def test_bright_is_the_object(tmp_path: Path, values: np.ndarray, expected: list[list[int]]) -> None:
    """Brighter than half of the range is the object; in a file of zeros and ones, one is."""
    path = save(tmp_path / "a.png", values)
    (pixels,), ignore = read_truth(MaskFiles((path,)), values.shape)
    assert (pixels.astype(int).tolist(), pixels.dtype, ignore) == (expected, bool, None)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    """A grey picture may be stored in colours, with a palette or with an opaque alpha."""
    (pixels,), _ = read_truth(MaskFiles((save(tmp_path / "a.png", mode=mode),)), SIZE)
    assert pixels[:, :15].all()
    assert not pixels[:, 15:].any()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full(SIZE, 3, np.uint8), "has values up to 3; a mask has 255"),
        (np.dstack([np.full(SIZE, v, np.uint8) for v in (200, 0, 0)]), "has colours"),
        (np.dstack([np.full(SIZE, v, np.uint8) for v in (0, 0, 0, 90)]), "transparent"),
        (np.zeros((20, 31), np.uint8), "is a mask of 31x20, its image is 30x20$"),
        (np.zeros((30, 20), np.uint8), "is a mask of 20x30, its image is 30x20: turn the mask as the EXIF"),
    ],
)
def test_what_is_no_mask(tmp_path: Path, values: np.ndarray, words: str) -> None:
    """Numbers of classes, colours and other sizes are one sentence with the file's name."""
    path = save(tmp_path / "odd.png", values)
    with pytest.raises(DataError, match=rf"odd\.png' .*{words}"):
        read_truth(MaskFiles((path,)), SIZE)


def test_unreadable_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are files that are absent, empty, damaged, of another kind or too large."""
    path = save(tmp_path / "odd.png")
    whole = path.read_bytes()
    monkeypatch.setattr("famcli.data.masks.MAX_PIXELS", 100)
    with pytest.raises(DataError, match=r"odd\.png' has 0 million pixels, more than"):
        read_truth(MaskFiles((path,)), SIZE)
    monkeypatch.undo()
    Image.new("L", (30, 20)).save(tmp_path / "odd.bmp")
    for content in (b"", whole[:-30], whole[:40], (tmp_path / "odd.bmp").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"odd\.png' is not a PNG mask that can be read"):
            read_truth(MaskFiles((path,)), SIZE)
    path.unlink()
    with pytest.raises(DataError, match=r"there is no mask .*odd\.png'"):
        read_truth(MaskFiles((path,)), SIZE)


@pytest.fixture
def openimages(tmp_path: Path, pictures: Pictures) -> Path:
    """wsolevaluation's form for OpenImages: masks in place of boxes, several of an image."""
    pictures(tmp_path, *NAMES)
    folder = tmp_path / "metadata/test"
    folder.mkdir(parents=True)
    (folder / "image_ids.txt").write_text("".join(f"{name}\n" for name in NAMES))
    (folder / "class_labels.txt").write_text("".join(f"{name},0\n" for name in NAMES))
    (folder / "localization.txt").write_text(
        "a/1.jpg,m/1a.png,m/1i.png\na/1.jpg,m/1b.png,\na/2.jpg,m/2.png,\nb/1.jpg,m/3.png,m/3i.png\n"
    )
    for name in ("1a", "1b", "1i", "2", "3", "3i"):
        save(tmp_path / f"m/{name}.png", np.array([[0, 1, 9]], np.uint8))
    return tmp_path


@pytest.mark.parametrize("form", ["metadata", ""])
def test_masks_in_lists(openimages: Path, form: str) -> None:
    """The masks that lists name are found, however the data are opened; every pixel that is not black counts."""
    opened = open_dataset(openimages / form)
    listed = opened.samples("test")
    found = find_masks(opened, listed)
    m = openimages / "m"
    assert found[0] == MaskFiles((m / "1a.png", m / "1b.png"), m / "1i.png", listed=True)
    assert found[1] == MaskFiles((m / "2.png",), None, listed=True)
    assert found[0] is not None
    objects, ignore = read_truth(found[0], SIZE)  # of another size than the image, as the benchmark's may be
    assert [pixels.tolist() for pixels in objects] == [[[False, True, True]]] * 2
    assert ignore is not None
    assert ignore.tolist() == [[False, True, True]]


def test_masks_of_lists_elsewhere(openimages: Path) -> None:
    """A folder that is given is where the listed files are, or else has files named as the images."""
    opened, moved = open_dataset(openimages), openimages / "elsewhere"
    (openimages / "m").rename(moved / "m") if moved.mkdir() is None else None
    assert files(find_masks(opened, opened.samples("test"), moved))[1] == moved / "m/2.png"
    own = save(openimages / "own/a/2.png")
    assert files(find_masks(opened, opened.samples("test"), openimages / "own")) == [None, own, None]
    first = find_masks(opened, opened.samples("test"))[0]
    assert first is not None
    with pytest.raises(DataError, match="there is no mask"):
        read_truth(first, SIZE)


def test_boxes_are_not_masks(openimages: Path) -> None:
    """What needs boxes says so; what can do without reads the split; a damaged list is a sentence."""
    for form in ("metadata", ""):
        opened = open_dataset(openimages / form)
        with pytest.raises(DataError, match="which (are|is) needed here"):
            opened.samples("test", with_boxes=True)
        assert len(opened.samples("test", with_boxes=True, boxes_optional=True)) == 3
    lists = openimages / "metadata/test/localization.txt"
    lists.write_text(lists.read_text() + "b/1.jpg,,\n")
    with pytest.raises(DataError, match=r"localization\.txt, line 5: expected an image, its mask"):
        find_masks(opened, opened.samples("test"))
    lists.write_text("a/1.jpg,m/1a.png,m/1i.png\na/1.jpg,m/1b.png,m/other.png\n")
    with pytest.raises(DataError, match="'a/1.jpg' has two masks of what to ignore"):
        find_masks(opened, opened.samples("test"))


def annotation(number: int, image: int, segmentation: Any, category: int = 3, **more: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": image, "category_id": category, "bbox": [0, 0, 30, 20], "iscrowd": 0, **more}
    return row if segmentation is None else {**row, "segmentation": segmentation}


def write_coco(path: Path, names: list[str], rows: list[dict[str, Any]]) -> Path:
    images = [{"id": 10 + i, "file_name": name, "height": 20, "width": 30} for i, name in enumerate(names)]
    categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


SQUARE = [[2, 3, 12, 3, 12, 9, 2, 9]]
RUNS = {"size": [20, 30], "counts": [20, 20, 560]}


def test_coco_segmentations(tmp_path: Path, pictures: Pictures) -> None:
    """Polygons and run lengths of an image's class are its masks, crowds are ignored, other classes are background."""
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = [
        annotation(1, 10, SQUARE),
        annotation(2, 10, RUNS),
        annotation(3, 10, RUNS, iscrowd=1),
        annotation(4, 10, SQUARE, 9, bbox=[0, 0, 1, 1]),
        annotation(5, 11, []),
        annotation(6, 12, SQUARE),
        annotation(7, 12, None),
        annotation(8, 13, RUNS, 9),
    ]
    opened = open_dataset(write_coco(tmp_path / "instances_test.json", ["a.png", "b.png", "c.png", "d.png"], rows))
    found = find_masks(opened, opened.samples("test"))
    # b has no segmentation; an object of c has none, so what is not masked is not all background
    assert [source is not None for source in found] == [True, False, False, True]
    assert isinstance(found[0], Segmentations)
    (square, column), crowd = read_truth(found[0], SIZE)
    expected = np.zeros(SIZE, bool)
    expected[3:9, 2:12] = True
    np.testing.assert_array_equal(square, expected)
    assert column[:, 1].all()
    assert column.sum() == 20
    assert crowd is not None
    np.testing.assert_array_equal(crowd, column)
    with pytest.raises(DataError, match=r"instances_test\.json, 'a\.png': the run lengths are of size \[20, 30\]"):
        read_truth(found[0], (20, 31))


def test_coco_splits_with_the_same_names(tmp_path: Path, pictures: Pictures) -> None:
    """An image of one split never gets the mask of its namesake in another."""
    for split, segmentation in (("train", SQUARE), ("test", RUNS)):
        pictures(tmp_path, f"{split}/1.png")
        write_coco(tmp_path / split / "_annotations.coco.json", ["1.png"], [annotation(1, 10, segmentation)])
    opened = open_dataset(tmp_path)
    for split, segmentation in (("train", SQUARE), ("test", RUNS)):
        (source,) = find_masks(opened, opened.samples(split))
        assert isinstance(source, Segmentations)
        assert source.objects == (segmentation,)


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_run_lengths_both_ways(h: int, w: int, data: Any) -> None:
    """Run lengths, packed or not, give the pixels that pycocotools packed."""
    bits = data.draw(st.lists(st.booleans(), min_size=h * w, max_size=h * w))
    pixels = np.array(bits).reshape(h, w)
    packed = reference.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
    flat = pixels.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, h * w]).tolist()
    runs = [0, *runs] if flat[0] else runs
    for counts in (packed, runs):
        np.testing.assert_array_equal(decode({"size": [h, w], "counts": counts}, (h, w)), pixels)


def test_long_runs() -> None:
    """Runs that take several characters, and differences below zero, are unpacked."""
    pixels = np.zeros((1000, 1200), np.uint8, order="F")
    pixels[100:900, 3] = pixels[1:, 700:900] = pixels[5, 1000] = 1
    counts = reference.encode(pixels)["counts"].decode()
    np.testing.assert_array_equal(decode({"size": [1000, 1200], "counts": counts}, (1000, 1200)), pixels > 0)


BAD_RUNS: list[Any] = [None, [1, 2], [-1, 601], [10**30], ["600"], "zzzz", "o" * 10_000, "\x00\xff", ""]
BAD_POLYGONS: list[Any] = [
    *([1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], {"x": 1}),
    *([1, 2, 3, 4, 5, last] for last in (float("nan"), 1e9, "6", True)),
]


@pytest.mark.parametrize(
    "segmentation",
    [
        *(
            "text",
            7,
            [],
            {},
            {"size": [20, 30]},
            {"size": [30, 20], "counts": [600]},
            {"size": "20x30", "counts": [600]},
        ),
        *([polygon] for polygon in BAD_POLYGONS),
        *({"size": [20, 30], "counts": counts} for counts in BAD_RUNS),
    ],
    ids=str,
)
def test_segmentations_that_make_no_sense(segmentation: Any) -> None:
    """What is no polygon in the image, or does not fill it with runs, is a sentence and never undefined pixels."""
    with pytest.raises(DataError, match="segmentation|polygon|run lengths"):
        decode(segmentation, SIZE)


@given(st.text(alphabet=[chr(c) for c in range(46, 114)], max_size=12))
def test_any_packed_text(text: str) -> None:
    """Any text is refused, or decodes to pixels."""
    try:
        assert decode({"size": [3, 2], "counts": text}, (3, 2)).shape == (3, 2)
    except DataError as error:
        assert "run lengths" in str(error)  # noqa: PT017  (decoding may also succeed)
