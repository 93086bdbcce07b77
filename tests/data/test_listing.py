"""What the user typed, as a list of image files."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from famcli.data.listing import Names, list_images
from famcli_models.errors import DataError

ALL = ("a.PNG", "b.jpg", "sub/c.tif", "sub/deep/d.webp")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures (empty files: nothing is read here) in folders, some of them hidden."""
    others = ("photos/notes.txt", "photos/.hidden.jpg", "photos/.cache/e.jpg", "more/f.bmp")
    for name in (*(f"photos/{name}" for name in ALL), *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["photos"], ALL),  # at every depth, sorted; hidden ones and other files are left out
        (["photos/"], ALL),
        (["./photos"], ALL),
        (["photos/b.jpg"], ("b.jpg",)),
        (["photos", "more"], ("more/f.bmp", *(f"photos/{n}" for n in ALL))),  # relative to what holds both
        (["photos/b.jpg", "photos/b.jpg", "photos"], ALL),  # each once
        (["photos/sub/../b.jpg", "photos/b.jpg"], ("b.jpg",)),
        (["photos/b.jpg", "photos/sub/c.tif", "photos/a.PNG"], ALL[:3]),  # whatever the order typed
        (["photos/*.jpg"], ("b.jpg",)),  # a pattern that the shell left alone
        (["photos/**/*.*"], ("a.PNG", "b.jpg", "notes.txt", *ALL[2:])),
        ([os.path.join("photos", ".", "sub", "..", "sub")], ("c.tif", "deep/d.webp")),
        (["photos/b.jpg", "photos/gone.jpg"], ("b.jpg", "gone.jpg")),  # reading it will say that it is not there
        (["photos/notes.txt"], ("notes.txt",)),  # who names a file means it
        (["photos/.hidden.jpg"], (".hidden.jpg",)),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_inputs(tree: Path, inputs: list[str], names: tuple[str, ...]) -> None:
    """Files, folders and patterns become sorted names relative to one folder."""
    listing = list_images(inputs)
    assert listing.names == names
    assert all(listing.path(name) == listing.root / name for name in names)


def test_the_folder_given(tree: Path) -> None:
    """Names are relative to the folder given, or to the deepest that holds all inputs; its path is absolute."""
    assert list_images(["photos"]).root == tree / "photos"
    assert list_images(["photos", "more"]).root == tree
    assert list_images(["photos/b.jpg"]).path("b.jpg") == tree / "photos" / "b.jpg"


def test_a_file_whose_name_looks_like_a_pattern(tree: Path) -> None:
    """An existing file is itself, brackets or not."""
    (tree / "photos" / "x[1].jpg").touch()
    assert list_images(["photos/x[1].jpg"]).names == ("x[1].jpg",)


def test_stdin(tree: Path) -> None:
    """`-` reads one path a line, blank ones and any line ends; it may stand among others, and is not read otherwise."""
    lines = ["photos/b.jpg\n", "\n", "photos/sub/c.tif\r\n", "photos/a.PNG"]
    assert list_images(["-"], lines).names == ALL[:3]
    assert list_images(["photos/b.jpg", "-"], ["more/f.bmp\n"]).names == ("more/f.bmp", "photos/b.jpg")
    assert list_images(["photos/b.jpg"], ["more/f.bmp\n"]).names == ("b.jpg",)


@pytest.mark.parametrize("inputs", ["photos", "photos/**/*"])
def test_output_folders_are_left_out(tree: Path, inputs: str) -> None:
    """Overlays of the run before are no input, whether below a folder that is searched or matched by a pattern."""
    (tree / "photos" / "overlays").mkdir()
    for name in ("a.PNG.overlay.jpg", "other.jpg"):
        (tree / "photos" / "overlays" / name).touch()
    names = list_images([inputs], exclude=[Path("photos/overlays")]).names
    assert set(names) - {"notes.txt"} == set(ALL)


@pytest.mark.parametrize("inputs", [["empty"], ["photos/*.gif"], ["-"]])
def test_nothing_found(tree: Path, inputs: list[str]) -> None:
    """No image at all is an error that repeats what was typed and says what is searched for."""
    (tree / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images in '.*\.jpg"):
        list_images(inputs)


def test_links_to_folders_are_not_followed(tree: Path) -> None:
    """A link that leads back up does not loop."""
    (tree / "photos" / "loop").symlink_to(tree / "photos", target_is_directory=True)
    assert list_images(["photos"]).names == ALL


NAMES = st.lists(st.text(st.characters(codec=None, exclude_characters="\0"), max_size=6))


@given(NAMES)
def test_packed_names(texts: list[str]) -> None:
    """Packed names are the sorted set of any texts, half characters included, and are found by bisection."""
    expected = sorted(set(texts))
    names = Names(sorted(texts))
    assert (list(names), len(names)) == (expected, len(expected))
    assert [names.find(name) for name in expected] == list(range(len(expected)))
    assert all(name in names for name in texts)
    assert names.find("zzzzzzz") is None
    for part in (slice(1, 3), slice(0, 0), slice(2, None)):
        assert list(names[part]) == expected[part]
        assert list(names[1:][part]) == expected[1:][part]
    assert (names[:-1] == names) == (not expected)


def test_names_sort_as_strings(tmp_path: Path) -> None:
    """What is in a folder comes where its path does, whatever stands before the slash in the code table."""
    names = ["a!/x.jpg", "a-b.jpg", "a.jpg", "a/x.jpg", "a/x/y.jpg", "a0/x.jpg", "é/x.jpg", "b.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(list_images([str(tmp_path)]).names) == sorted(names)


def test_memory(tmp_path: Path) -> None:
    """A listed name takes its bytes and few more, while it is listed too."""
    count, length = 20_000, 60
    lines = (str(tmp_path / f"{i:0{length}}.jpg") for i in range(count))
    list_images(["-"], ["warm.jpg"])
    tracemalloc.start()
    listing = list_images(["-"], lines)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing.names) == count
    assert now / count < length + 4 + 16
    assert peak / count < 57 + len(str(tmp_path)) + 2 * length


def test_loops_of_links(tmp_path: Path) -> None:
    """Links that lead into each other are followed once around."""
    for folder, other in (("a", "b"), ("b", "a")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").touch()
        (tmp_path / folder / "to").symlink_to(tmp_path / other, target_is_directory=True)
    names = list_images([str(tmp_path / "a")], follow_links=True).names
    assert names == ("to/x.jpg", "x.jpg")
