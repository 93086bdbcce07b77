"""Maps and boxes of other tools: how they are tied to images and classes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from famcli.data.dataset import Dataset, open_dataset
from famcli.data.sample import NO_BOXES, Sample
from famcli.evaluation.external import Found, find_maps, match_names, read_map, read_predictions
from famcli_models.errors import DataError

NAMES = ["test/a/1.jpg", "test/a/2.jpg", "test/b/1.jpg"]
CATEGORIES = [{"id": 5, "name": "Dog"}, {"id": 2, "name": "cat"}, {"id": 9, "name": "cow"}]
WHOLE = [0, 0, 30, 20]


def dataset(root: Path = Path("data"), names: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    return Dataset("mine", root, root, names)


def samples(names: list[str] = NAMES, size_hw: tuple[int, int] | None = (20, 30)) -> list[Sample]:
    return [Sample(name, Path(name), i % 2, NO_BOXES, size_hw) for i, name in enumerate(names)]


def entry(number: int, image: int, **more: Any) -> dict[str, Any]:
    """An annotation; what is given as an ellipsis is left out."""
    of = {"id": number, "image_id": image, "category_id": 2, "bbox": WHOLE, "score": 0.5, **more}
    return {key: value for key, value in of.items() if value is not ...}


def full(annotations: list[Any], names: list[str] = NAMES, **more: Any) -> dict[str, Any]:
    images = [{"id": 10 + i, "file_name": name, "width": 30, "height": 20} for i, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}


def write(folder: Path, data: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def read(folder: Path, data: Any, same_classes: bool = True) -> list[Found | None]:
    """What was found in each image of :data:`NAMES`."""
    found = read_predictions(write(folder, data), dataset(), samples(), same_classes)
    return [found.get(name) for name in NAMES]


def test_a_whole_dataset(tmp_path: Path) -> None:
    """Boxes become half-open corners, the best score first; names of classes match up to case; no box is covered."""
    rows = [
        entry(1, 10, bbox=[1, 2, 3.5, 4], score=0.25),
        entry(2, 12, category_id=9),
        entry(3, 10, category_id=5, score=0.75),
    ]
    first, second, third = read(tmp_path, full(rows))
    assert first is not None
    np.testing.assert_array_equal(first.boxes, [[0, 0, 30, 20], [1, 2, 4.5, 6]])
    assert (first.labels.tolist(), first.scores.tolist()) == ([1, 0], [0.75, 0.25])
    assert second is not None
    assert (second.boxes.shape, second.labels.shape, second.scores.shape) == ((0, 4), (0,), (0,))
    assert third is not None
    assert third.labels.tolist() == [-3]  # a cow, which the dataset does not have, is a wrong class of its own


def test_equal_scores_stay_in_order(tmp_path: Path) -> None:
    """Of boxes with the same score the first of the file comes first."""
    found = read(tmp_path, full([entry(i, 10, bbox=[i, 0, 1, 1]) for i in range(1, 6)]))[0]
    assert [box[0] for box in (found.boxes if found else ())] == [1, 2, 3, 4, 5]


def test_missing_images(tmp_path: Path) -> None:
    """An image that the file does not list is missing, which differs from one without a box."""
    found = read(tmp_path, full([], NAMES[:2]))
    assert [f is None for f in found] == [False, False, True]


@pytest.mark.parametrize(
    "names",
    [
        [f"photos/set/{name}" for name in NAMES],  # predicted from a folder above
        [name.removeprefix("test/") for name in NAMES],  # from a folder below
        [f"/data/{name}" for name in NAMES],
        [f"./{name}" for name in NAMES],
        [name.replace("/", "\\") for name in NAMES],
        NAMES,
    ],
)
def test_names_from_another_folder(tmp_path: Path, names: list[str]) -> None:
    """Names that all have, or all lack, the same folder in front are those of the dataset."""
    found = read(tmp_path, full([entry(1, 11)], names))
    assert [None if f is None else len(f.scores) for f in found] == [0, 1, 0]


def test_a_part_of_the_folder(tmp_path: Path) -> None:
    """Of two folders that may be meant the one that explains more files is; others are missing."""
    found = read(tmp_path, full([entry(1, 10)], ["1.jpg", "2.jpg"]))
    assert [f is None for f in found] == [False, False, True]
    with pytest.raises(DataError, match=r"cannot be told \('test/a' and 'test/b' explain"):
        read(tmp_path, full([entry(1, 10)], ["1.jpg"]))


@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), min_size=1, max_size=6, unique=True)
)
def test_names_as_they_are_come_first(names: list[str]) -> None:
    """Whatever the folders are called, names that are all here stay what they are."""
    assert match_names(Path("boxes.json"), names, names) == {name: name for name in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": float("nan")}, r"annotations\[1\] has the score nan; a finite number"),
        ({"score": ...}, "has no score; truth has none"),
        ({"score": float("inf")}, "has the score inf"),
        ({"score": 10**400}, "has the score 1000"),
        ({"score": "0.5"}, "has the score '0.5'"),
        ({"score": None}, "has the score None"),
        ({"score": True}, "has the score True"),
        ({"bbox": [0, 0, -1, 5]}, r"\[0, 0, -1, 5\], whose width or height is negative"),
        ({"bbox": [0, 0, 1, float("nan")]}, "four finite numbers"),
        ({"bbox": [0, float("-inf"), 1, 1]}, "four finite numbers"),
        ({"bbox": [0, 0, 1]}, "four finite numbers"),
        ({"bbox": [0, 0, 1, "1"]}, "four finite numbers"),
        ({"bbox": [0, 0, 1, 10**12]}, "four finite numbers"),
        ({"bbox": None}, "four finite numbers"),
        ({"image_id": 10.5}, "has no image_id, a whole number"),
        ({"image_id": 99}, "belongs to image 99, which the file does not list"),
        ({"category_id": 4}, "category_id 4, which is not known"),
        ({"category_id": [5]}, r"category_id \[5\], which is not known"),
        ({"id": 1}, "id 1, which is no id of its own"),
    ],
)
def test_bad_entries(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """An entry that makes no sense is one sentence with the file and its place, and how many more there are."""
    with pytest.raises(
        DataError, match=rf"boxes\.json': annotations\[1\].*{words.removeprefix('annotations')}|{words}"
    ):
        read(tmp_path, full([entry(1, 10), entry(2, 10, **change)]))
    if "id" not in change:
        with pytest.raises(DataError, match=r"\(2 such \w+\)$"):
            read(tmp_path, full([entry(1, 10), entry(2, 10, **change), entry(3, 10, **change)]))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            [{"id": 1, "file_name": NAMES[0]}, {"id": 1, "file_name": NAMES[1]}],
            r"images\[1\] has the image id 1",
        ),
        (
            [{"id": 1, "file_name": NAMES[0]}, {"id": 2, "file_name": NAMES[0]}],
            "'test/a/1.jpg' a second time",
        ),
        ([{"id": 1}], r"images\[0\] is {'id': 1}; an id"),
        ([{"id": 1.5, "file_name": NAMES[0]}], r"images\[0\] is .* an id"),
        ([7], r"images\[0\] is 7; an id"),
        ([{"id": 1, "file_name": NAMES[0], "width": 3.5, "height": 20}], "no whole number: it is 3.5x20"),
        ([{"id": 1, "file_name": NAMES[0], "width": 20, "height": 30}], "given as 20x30, but is 30x20"),
    ],
)
def test_bad_images(tmp_path: Path, images: list[Any], words: str) -> None:
    """So is an image that occurs twice, cannot be told, or has another size here."""
    with pytest.raises(DataError, match=rf"boxes\.json'.*{words}"):
        read(tmp_path, full([], images=images))


def test_sizes_from_the_files(tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """Where the dataset states no size, the image itself is asked; one that is not here has none to differ from."""
    pictures(tmp_path, "a.png")
    listed = [Sample(name, tmp_path / name, 0, NO_BOXES) for name in ("a.png", "gone.png")]
    data = full([], ["a.png", "gone.png"], categories=[{"id": 1, "name": "cat"}])
    path = write(tmp_path, data)
    assert set(read_predictions(path, dataset(), listed)) == {"a.png", "gone.png"}
    data["images"][0]["width"] = 31
    with pytest.raises(DataError, match=r"'a\.png' is given as 31x20, but is 30x20"):
        read_predictions(write(tmp_path, data), dataset(), listed)


def test_other_images(tmp_path: Path) -> None:
    """One unknown image is named; a file of mostly unknown ones is of other data."""
    with pytest.raises(DataError, match=r"for 1 images that are not in this split, the first is 'else\.jpg'"):
        read(tmp_path, full([], [*NAMES, "else.jpg"]))
    with pytest.raises(DataError, match=r"predictions of other images: 4 of its 7 .* the first is 'else0\.jpg'"):
        read(tmp_path, full([], [*NAMES, *(f"else{i}.jpg" for i in range(4))]))


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ([{"id": 2, "name": "object"}], "single category, 'object', .* --other-classes"),
        ([{"id": 2, "name": "x"}, {"id": 3, "name": "y"}], "none of the 2 categories .* --other-classes"),
        ([{"id": 2, "name": "cat"}], "no category for 1 classes of the dataset, the first is 'dog'"),
        ([{"id": 2, "name": "cat"}, {"id": 2, "name": "dog"}], "category id 2 a second time"),
        ([{"id": 2}], "an id, a whole number or a text, and a name are needed"),
        (None, "needs categories"),
        ([{"id": 1e400, "name": "cat"}], "an id, a whole number or a text, and a name are needed"),
    ],
)
def test_other_classes(tmp_path: Path, categories: Any, words: str) -> None:
    """Classes that do not match are refused, unless the boxes alone are scored: then no label means anything."""
    data = full([entry(1, 10)], categories=categories)
    with pytest.raises(DataError, match=words):
        read(tmp_path, data)
    found = read(tmp_path, data, same_classes=False)[0]
    assert found is not None
    assert found.labels.tolist() == [-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{}", "no predictions in COCO's form"),
        ("3", "no predictions in COCO's form"),
        ('{"images": [], "annotations": 3}', "no predictions in COCO's form"),
        ('{"file_name": "a.jpg"}\n{"file_name": "b.jpg"}\n', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[" + "1" * 5000 + "]", "not JSON"),
    ],
)
def test_no_predictions(tmp_path: Path, text: str, words: str) -> None:
    """A file of another kind is one sentence."""
    with pytest.raises(DataError, match=rf"boxes\.json' .*{words}"):
        read(tmp_path, text)


def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is no file, and one beyond the limit is not parsed."""
    with pytest.raises(DataError, match="it is a folder and no regular file; give a file such as"):
        read_predictions(tmp_path, dataset(), samples())
    monkeypatch.setattr("famcli.data.metadata.read_json.__defaults__", (10,))
    with pytest.raises(DataError, match="larger than"):
        read(tmp_path, full([]))


@pytest.fixture
def truth(tmp_path: Path, pictures: Callable[..., Path]) -> Path:
    """A COCO file of three images, the last without a label."""
    pictures(tmp_path, "a.png", "b.png", "c.png")
    rows = [entry(1, 10), entry(2, 11, category_id=5)]
    path = tmp_path / "instances_test.json"
    path.write_text(json.dumps(full(rows, ["a.png", "b.png", "c.png"])))
    return path


def read_list(truth: Path, rows: Any) -> list[Found | None]:
    opened = open_dataset(truth)
    found = read_predictions(write(truth.parent, rows), opened, opened.samples("test"))
    return [found.get(sample.name) for sample in opened.samples("test")]


def test_a_results_list(truth: Path) -> None:
    """Entries go by the ids of the COCO file; an image without one is missing, and one not scored no harm."""
    rows = [entry(1, 11, category_id=9), entry(2, 12)]
    first, second = read_list(truth, rows)
    assert first is None
    assert second is not None
    assert second.labels.tolist() == [2]  # categories in the order of ids: cat, dog, cow
    assert read_list(truth, []) == [None, None]
    assert read_list(truth, [entry(1, 10, bbox=[0, 0, 0, 0])])[0] is not None  # a box without area: it was tried


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([entry(1, 10), entry(2, 10), entry(3, 99), entry(4, 11)], "for 1 images .* the first is image_id 99"),
        ([entry(1, 98), entry(2, 99), entry(3, 10)], "other images: 2 of its 3 .* the first is image_id 98"),
        ([entry(1, 10, category_id=1)], "single category, number 1, .* --other-classes"),
        ([entry(1, 10), entry(1, 10, category_id=1)], r"entry \[1\] has the category_id 1, which is not known"),
        ([entry(1, 10), 7], r"entry \[1\] has no image_id"),
    ],
)
def test_bad_lists(truth: Path, rows: Any, words: str) -> None:
    """Lists of other images, other categories or other things are refused."""
    with pytest.raises(DataError, match=words):
        read_list(truth, rows)


def test_a_list_without_its_file(tmp_path: Path) -> None:
    """Ids mean nothing for a dataset that was not opened from a COCO file; what to do is said."""
    with pytest.raises(DataError, match="give that file as --data, or write a whole dataset"):
        read(tmp_path, [entry(1, 10)])


def test_our_own_file(truth: Path, fam: Callable[..., Any], checkpoint: Path) -> None:
    """What fam predict writes can be read, in both forms."""
    for kind in ("coco", "coco-results"):
        out = truth.parent / f"{kind}.json"
        result = fam("predict", truth.parent / "a.png", truth.parent / "b.png", "--model", checkpoint,
                     "--topk", "5", "--format", kind, "--coco-images", truth, "-o", out, "-q")  # fmt: skip
        assert result.exit_code == 0, result.stderr
        opened = open_dataset(truth)
        found = read_predictions(out, opened, opened.samples("test"), same_classes=kind == "coco-results")
        assert set(found) == {"a.png", "b.png"}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.sampled_from(["images", "annotations", "categories", "id", "file_name",
                                                       "image_id", "category_id", "bbox", "score", "name", "width",
                                                       "height"]), inner, max_size=6), max_leaves=25))  # fmt: skip
def test_whatever_is_written(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Any JSON is either read or refused with a sentence."""
    try:
        assert len(read(tmp_path_factory.mktemp("any"), data)) == len(NAMES)
    except DataError as error:
        assert "boxes.json" in str(error)  # noqa: PT017  (reading may also succeed)


def save(path: Path, array: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def test_both_names(tmp_path: Path) -> None:
    """wsolevaluation writes a/1.jpg.npy and documents a/1.npy; both are found, the full name first."""
    full, short = save(tmp_path / "a/1.jpg.npy", 1.0), save(tmp_path / "a/2.npy", 1.0)
    save(tmp_path / "a/1.npy", 1.0)
    assert find_maps(tmp_path, ["a/1.jpg", "a/2.jpg"]) == {"a/1.jpg": full, "a/2.jpg": short}


def test_missing_maps(tmp_path: Path) -> None:
    """Images without a map are counted and named, unless some may be missing; a folder without any is refused."""
    path = save(tmp_path / "1.npy", 1.0)
    names = [f"{i}.jpg" for i in range(7)]
    words = r"no map for 6 of 7 images: '0\.jpg', '2\.jpg', '3\.jpg' \.\.\.; .*0\.jpg\.npy"
    with pytest.raises(DataError, match=words):
        find_maps(tmp_path, names)
    assert find_maps(tmp_path, names, allow_missing=True) == {"1.jpg": path}
    with pytest.raises(DataError, match="no map for 1 of 1 images"):
        find_maps(tmp_path, ["0.jpg"], allow_missing=True)
    with pytest.raises(DataError, match="not a folder of score maps"):
        find_maps(tmp_path / "nothing", names)


def test_a_map_of_two_images(tmp_path: Path) -> None:
    """a.npy cannot be the map of a.jpg and of a.png; an image listed twice is one image."""
    save(tmp_path / "a.npy", 1.0)
    with pytest.raises(DataError, match=r"may be the map of 'a\.jpg' or of 'a\.png'"):
        find_maps(tmp_path, ["a.jpg", "a.png"])
    assert len(find_maps(tmp_path, ["a.jpg", "a.jpg"])) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64", "bool", ">f4"])
def test_numbers_of_any_kind(tmp_path: Path, dtype: str) -> None:
    """Any numbers are read, as float64."""
    scores = read_map(save(tmp_path / "a.npy", np.array([[0, 1], [1, 0]], dtype)))
    assert scores.dtype == np.float64
    assert scores.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros(3), "two dimensions"),
        (np.zeros((1, 3, 3)), r"shape \(1, 3, 3\)"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.array([[0.0, np.nan]]), "the map holds NaN"),
        (np.array([[0.0, np.inf]]), "the map holds infinite values"),
        (np.array([["a", "b"]]), "a score map holds floats"),
        (np.zeros((2, 2), complex), "a score map holds floats"),
    ],
)
def test_no_maps(tmp_path: Path, array: np.ndarray, text: str) -> None:
    """An array that is no map is one sentence with the file's name."""
    with pytest.raises(DataError, match=rf"a\.npy: .*{text}"):
        read_map(save(tmp_path / "a.npy", array))


def test_other_files(tmp_path: Path) -> None:
    """An array of objects, which would run code, is refused; so are other files, archives and what is cut short."""
    path = tmp_path / "a.npy"
    np.save(path, np.array([[{}]], object), allow_pickle=True)
    contents = [path.read_bytes(), b"", b"\x93NUMPY", b"GIF89a", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8',"]
    np.save(path, np.zeros((50, 50)))
    for content in (*contents, path.read_bytes()[:-100]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npy: not a .npy array"):
            read_map(path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"\.npz archive"):
        read_map(path)
