"""What the user typed, as a list of image files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from famcli.data.listing import list_images
from famcli_models.errors import DataError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures (empty files: nothing is read here) in folders, some of them hidden."""
    names = (
        "photos/b.jpg",
        "photos/a.PNG",
        "photos/notes.txt",
        "photos/.hidden.jpg",
        "photos/sub/c.tif",
        "photos/sub/deep/d.webp",
        "photos/.cache/e.jpg",
        "more/f.bmp",
    )
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


ALL = ("a.PNG", "b.jpg", "sub/c.tif", "sub/deep/d.webp")


def test_folder_is_searched_recursively(tree: Path) -> None:
    """A folder gives its images at every depth, sorted, relative to it; hidden ones and other files are left out."""
    listing = list_images(["photos"])
    assert listing.names == ALL
    assert listing.root == tree / "photos"
    assert listing.path("sub/c.tif") == tree / "photos" / "sub" / "c.tif"


def test_trailing_slash_changes_nothing(tree: Path) -> None:
    """photos/ and photos are the same folder."""
    assert list_images(["photos/"]) == list_images([str(tree / "photos")]) == list_images(["./photos"])


def test_one_file(tree: Path) -> None:
    """A file is named by itself, relative to its folder."""
    listing = list_images(["photos/b.jpg"])
    assert listing.names == ("b.jpg",)
    assert listing.path("b.jpg") == tree / "photos" / "b.jpg"


def test_two_folders(tree: Path) -> None:
    """Several inputs are named relative to the deepest folder that holds them."""
    listing = list_images(["photos", "more"])
    assert listing.root == tree
    assert listing.names == ("more/f.bmp", *(f"photos/{n}" for n in ALL))


def test_duplicates_count_once(tree: Path) -> None:
    """A file named twice, or by itself and by its folder, is one image."""
    assert list_images(["photos/b.jpg", "photos/b.jpg", "photos"]).names == ALL
    assert list_images(["photos/sub/../b.jpg", "photos/b.jpg"]).names == ("b.jpg",)


def test_the_order_typed_does_not_matter(tree: Path) -> None:
    """The list is sorted whatever the order of the inputs."""
    files = ["photos/b.jpg", "photos/sub/c.tif", "photos/a.PNG"]
    assert list_images(files) == list_images(files[::-1])


def test_glob(tree: Path) -> None:
    """A pattern that the shell left alone is expanded here."""
    assert list_images(["photos/*.jpg"]).names == ("b.jpg",)
    assert list_images(["photos/**/*.*"]).names == ("a.PNG", "b.jpg", "notes.txt", "sub/c.tif", "sub/deep/d.webp")


def test_a_file_whose_name_looks_like_a_pattern(tree: Path) -> None:
    """An existing file is itself, brackets or not."""
    (tree / "photos" / "x[1].jpg").touch()
    assert list_images(["photos/x[1].jpg"]).names == ("x[1].jpg",)


def test_stdin(tree: Path) -> None:
    """`-` reads one path a line; empty lines are skipped and line ends of every system taken."""
    lines = ["photos/b.jpg\n", "\n", "photos/sub/c.tif\r\n", "photos/a.PNG"]
    assert list_images(["-"], lines).names == ("a.PNG", "b.jpg", "sub/c.tif")


def test_stdin_beside_files(tree: Path) -> None:
    """`-` may stand among other inputs, and is not read where it does not."""
    assert list_images(["photos/b.jpg", "-"], ["more/f.bmp\n"]).names == ("more/f.bmp", "photos/b.jpg")
    assert list_images(["photos/b.jpg"], ["more/f.bmp\n"]).names == ("b.jpg",)


def test_names_are_posix_paths(tree: Path) -> None:
    """Names have forward slashes and no dots, whatever was typed."""
    names = list_images([os.path.join("photos", ".", "sub", "..", "sub")]).names
    assert names == ("c.tif", "deep/d.webp")


def test_output_folders_are_left_out(tree: Path) -> None:
    """Overlays of the run before, below the folder searched, are no input."""
    (tree / "photos" / "overlays").mkdir()
    (tree / "photos" / "overlays" / "a.PNG.overlay.jpg").touch()
    assert list_images(["photos"], exclude=[Path("photos/overlays")]).names == ALL


def test_output_folders_are_left_out_of_patterns(tree: Path) -> None:
    """A recursive pattern does not bring the output folders in by another door."""
    (tree / "photos" / "overlays").mkdir()
    (tree / "photos" / "overlays" / "b.jpg.overlay.jpg").touch()
    assert list_images(["photos/**/*.jpg"], exclude=[Path("photos/overlays")]).names == ("b.jpg",)


def test_a_missing_file_is_kept(tree: Path) -> None:
    """A file that does not exist is an image that will fail by name, not silence."""
    assert list_images(["photos/b.jpg", "photos/gone.jpg"]).names == ("b.jpg", "gone.jpg")


def test_a_named_file_of_any_extension_is_kept(tree: Path) -> None:
    """Who names a file means it."""
    assert list_images(["photos/notes.txt"]).names == ("notes.txt",)
    assert list_images(["photos/.hidden.jpg"]).names == (".hidden.jpg",)


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
