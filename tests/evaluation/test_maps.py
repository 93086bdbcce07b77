"""Score maps from files: names, shapes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from famcli.evaluation.maps import find_maps, read_map
from famcli_models.errors import DataError


def save(path: Path, array: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def test_both_names(tmp_path: Path) -> None:
    """wsolevaluation writes a/1.jpg.npy and documents a/1.npy; both are found, the full name first."""
    full, short = save(tmp_path / "a/1.jpg.npy", 1.0), save(tmp_path / "a/2.npy", 1.0)
    save(tmp_path / "a/1.npy", 1.0)
    assert find_maps(tmp_path, ["a/1.jpg", "a/2.jpg"]) == [full, short]


def test_missing_maps(tmp_path: Path) -> None:
    """Images without a map are counted and named, with the names that were looked for."""
    save(tmp_path / "1.npy", 1.0)
    names = [f"{i}.jpg" for i in range(7)]
    with pytest.raises(
        DataError, match=r"no map for 6 of 7 images: '0\.jpg', '2\.jpg', '3\.jpg' \.\.\.; .*0\.jpg\.npy"
    ):
        find_maps(tmp_path, names)
    with pytest.raises(DataError, match="not a folder of score maps"):
        find_maps(tmp_path / "nothing", names)


def test_missing_maps_allowed(tmp_path: Path) -> None:
    """If some may be missing they are None in their places; a folder without any map is still refused."""
    path = save(tmp_path / "1.npy", 1.0)
    assert find_maps(tmp_path, ["0.jpg", "1.jpg", "2.jpg"], allow_missing=True) == [None, path, None]
    with pytest.raises(DataError, match="no map for 1 of 1 images"):
        find_maps(tmp_path, ["0.jpg"], allow_missing=True)


def test_a_map_of_two_images(tmp_path: Path) -> None:
    """a.npy cannot be the map of a.jpg and of a.png; an image listed twice is one image."""
    save(tmp_path / "a.npy", 1.0)
    with pytest.raises(DataError, match=r"may be the map of 'a\.jpg' or of 'a\.png'"):
        find_maps(tmp_path, ["a.jpg", "a.png"])
    assert len(find_maps(tmp_path, ["a.jpg", "a.jpg"])) == 2


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


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """An array of objects, which would run code, is refused; so are other files and what is cut short."""
    path = tmp_path / "a.npy"
    np.save(path, np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(DataError, match="not a .npy array"):
        read_map(path)
    for content in (b"", b"\x93NUMPY", b"GIF89a", np.lib.format.magic(1, 0) + b"\x10\x00{'descr': '<f8',"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npy: not a .npy array"):
            read_map(path)
    np.save(path, np.zeros((50, 50)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.npy: not a .npy array"):
        read_map(path)


def test_an_archive(tmp_path: Path) -> None:
    """A .npz archive under the name of a map is told from one."""
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"\.npz archive"):
        read_map(tmp_path / "a.npy")
