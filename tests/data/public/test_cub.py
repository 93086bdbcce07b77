"""CUB and CUBV2 from the publisher's address, or an extracted tree, to a prepared dataset, by the commands."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from famcli.data.dataset import open_dataset
from famcli.data.images import read_picture
from famcli.data.public.catalog import CATALOG
from famcli_models.locks import only_writer

Fam = Callable[..., Result]
V2 = ("001.Black_footed_Albatross/1.jpg", "002.Laysan_Albatross/2.jpg")
BOXES = [[[0, 0, 40, 30]], [[6, 7, 15, 17]]]  # x, y, x + w + 1, y + h + 1, cut to the image


def pack(tree: Path, archive: Path) -> bytes:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(tree.iterdir()):
            tar.add(path, f"./{path.name}")
    return archive.read_bytes()


@pytest.fixture
def published(tmp_path: Path, cub_tree: Path, server: Any, home: Path, publish: Callable[..., None]) -> str:
    """CUB's archive on a server, and the row that leads there."""
    content = pack(cub_tree, tmp_path / "CUB_200_2011.tgz")
    url: str = server.add("CUB_200_2011.tgz", content)
    publish("cub", "CUB_200_2011.tgz", content, url=url)
    return url


def check_cub(root: Path) -> None:
    """The four birds are where they should be."""
    cub = open_dataset(root)
    assert cub.class_names == ("Black footed Albatross", "Laysan Albatross")
    assert cub.fullsup == "cubv2"
    assert cub.splits() == ["train-weaksup", "test"]
    train, test = cub.samples("train-weaksup"), cub.samples("test", with_boxes=True)
    assert [s.label for s in train] == [s.label for s in test] == [0, 1]
    assert [s.boxes.tolist() for s in test] == BOXES
    assert [s.size_hw for s in test] == [(30, 40), (20, 25)]
    assert all(s.path.is_file() for s in (*train, *test))


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_one_command(fam: Fam, published: str, home: Path) -> None:
    """`fam data download cub --accept-terms` ends with a dataset that a name opens; stdout is its folder."""
    result = fam("data", "download", "cub", "--accept-terms")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{home / 'cub'}\n"
    check_cub(Path("cub"))
    assert "as published" in result.stderr
    assert "train-weaksup 2 images, test 2 images with 2 boxes" in result.stderr
    assert "test has 2 images, the publisher's has 5,794" in result.stderr
    assert "fam data download cubv2" in result.stderr
    assert not (home / "cub" / "CUB_200_2011" / "parts").exists()
    assert not (home / "cub" / "metadata" / "train-weaksup" / "localization.txt").exists()


def test_twice_changes_nothing(fam: Fam, published: str, home: Path, server: Any) -> None:
    """Downloading and preparing again asks nothing, reads nothing, and touches no file; the message says so."""
    fam("data", "download", "cub", "--accept-terms")
    before, asked = state(home), len(server.requests)
    for command in (("download", "cub", "--accept-terms"), ("prepare", "cub")):
        result = fam("data", *command)
        assert result.exit_code == 0
        assert "nothing has changed" in result.stderr
    assert state(home) == before
    assert len(server.requests) == asked


def test_a_deleted_image_comes_back(fam: Fam, published: str, home: Path) -> None:
    """A prepared dataset that lost an image is prepared anew, with the same lists as before."""
    fam("data", "download", "cub", "--accept-terms")
    lists = {p: p.read_bytes() for p in (home / "cub" / "metadata").rglob("*.txt")}
    lost = home / "cub" / "CUB_200_2011" / "images" / "001.Black_footed_Albatross" / "A_0001.jpg"
    lost.unlink()
    result = fam("data", "prepare", "cub")
    assert lost.is_file()
    assert "is prepared" in result.stderr
    assert {p: p.read_bytes() for p in lists} == lists


def test_archives_deleted_to_save_room(fam: Fam, published: str, home: Path, server: Any) -> None:
    """A prepared dataset whose archive is gone is not downloaded again, and is not prepared from nothing."""
    fam("data", "download", "cub", "--accept-terms")
    shutil.rmtree(home / "cub" / "downloads")
    asked = len(server.requests)
    result = fam("data", "download", "cub", "--accept-terms")
    assert result.exit_code == 0
    assert result.stdout == f"{home / 'cub'}\n"
    assert "is prepared already" in result.stderr
    assert json.loads(fam("data", "download", "cub", "--json").stdout)["prepared"]["root"] == str(home / "cub")
    assert len(server.requests) == asked
    assert "its downloads are gone" in fam("data", "prepare", "cub").stderr
    check_cub(Path("cub"))


def test_terms(fam: Fam, published: str, server: Any) -> None:
    """Without --accept-terms nothing is asked of the server; terms, their page and the option are named."""
    result = fam("data", "download", "cub")
    assert result.exit_code == 1
    assert all(t in result.stderr for t in ("non-commercial", CATALOG["cub"].terms_page, "--accept-terms"))
    assert server.requests == []


def test_dry_run(fam: Fam, published: str, home: Path, server: Any) -> None:
    """--dry-run prints files, sizes, addresses, targets and free disk, and does nothing."""
    result = fam("data", "download", "cub", "--dry-run")
    assert result.exit_code == 0
    assert published in result.stdout
    assert str(home / "cub" / "downloads" / "CUB_200_2011.tgz") in result.stdout
    assert "free at" in result.stderr
    plan = json.loads(fam("data", "download", "cub", "--dry-run", "--json").stdout)
    assert plan["files"][0]["todo"] == "download"
    assert plan["bytes_left"] == plan["files"][0]["bytes"]
    assert plan["must_accept"]
    assert server.requests == []
    assert not home.exists()


def test_no_room(fam: Fam, published: str, monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    """A disk too small for archive and images is refused before the download, with what is free and needed."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))  # type: ignore[attr-defined]
    result = fam("data", "download", "cub", "--accept-terms")
    assert result.exit_code == 1
    assert "has 1 kB free, but" in result.stderr
    assert "are needed" in result.stderr
    assert server.requests == []


def test_without_preparing(fam: Fam, published: str, tmp_path: Path) -> None:
    """--no-prepare stops after the download and names the next command, which then works."""
    result = fam("data", "download", "cub", "--accept-terms", "--no-prepare", "--to", tmp_path / "d", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["prepared"], answer["files"][0]["new"]) == (None, True)
    assert f"next: fam data prepare cub --from {tmp_path / 'd'}" in result.stderr
    result = fam("data", "prepare", "cub", "--from", tmp_path / "d", "--out", tmp_path / "o")
    assert result.stdout == f"{tmp_path / 'o'}\n"
    check_cub(tmp_path / "o")


@pytest.mark.parametrize(
    ("what", "command", "again"),
    [
        ("public.download.requests.get", "download", "fam data download cub --accept-terms"),
        ("images.read_header", "prepare", "fam data prepare cub"),
    ],
)
def test_interrupted(
    fam: Fam, published: str, home: Path, monkeypatch: pytest.MonkeyPatch, what: str, command: str, again: str
) -> None:
    """Ctrl-C is exit 130, names the command that goes on, and leaves no dataset; that command completes it."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if command == "prepare":
        fam("data", "download", "cub", "--accept-terms", "--no-prepare")
    with monkeypatch.context() as patch:
        patch.setattr(f"famcli.data.{what}", interrupted)
        result = fam("data", command, "cub", *(["--accept-terms"] if command == "download" else []))
    assert result.exit_code == 130
    assert f"to go on: {again}" in result.stderr
    assert not (home / "cub" / "dataset.json").exists()
    assert fam(*again.split()[1:]).exit_code == 0
    check_cub(Path("cub"))


def test_segmentations(
    fam: Fam, published: str, tmp_path: Path, home: Path, server: Any, publish: Callable[..., None], jpeg: Any
) -> None:
    """The optional masks come by --only, and the next preparation puts them beside the images, or one that was lost."""
    jpeg(tmp_path / "masks" / "segmentations" / "001.Black_footed_Albatross" / "A_0001.png")
    content = pack(tmp_path / "masks", tmp_path / "segmentations.tgz")
    publish("cub", "segmentations.tgz", content, url=server.add("segmentations.tgz", content))
    assert fam("data", "download", "cub", "--accept-terms").exit_code == 0
    result = fam("data", "download", "cub", "--only", "segmentations", "--accept-terms", "--no-prepare")
    assert result.exit_code == 0
    assert "next: fam data prepare cub" in result.stderr
    mask = home / "cub" / "segmentations" / "001.Black_footed_Albatross" / "A_0001.png"
    for _ in range(2):
        assert fam("data", "prepare", "cub").exit_code == 0
        assert mask.is_file()
        mask.unlink()
    assert fam("data", "prepare", "cub").exit_code == 0
    assert "nothing has changed" in fam("data", "prepare", "cub").stderr


@pytest.mark.parametrize("inner", [".", "CUB_200_2011"], ids=["above", "inside"])
def test_extracted_tree(fam: Fam, cub_tree: Path, home: Path, inner: str) -> None:
    """An extracted tree is read where it is: no image is copied."""
    assert fam("data", "prepare", "cub", "--from", cub_tree / inner).exit_code == 0
    check_cub(Path("cub"))
    assert open_dataset("cub").images == cub_tree / "CUB_200_2011" / "images"
    assert not list((home / "cub").rglob("*.jpg"))


def test_what_cannot_be_prepared(fam: Fam, published: str, tmp_path: Path) -> None:
    """An archive that is not the publisher's, a file that is none, and nothing at all are said, with what to do."""
    assert "did you mean" in fam("data", "download", "cub", "--only", "segmentation").stderr
    result = fam("data", "prepare", "cub")
    assert result.exit_code == 1
    assert "fam data download cub" in result.stderr
    (tmp_path / "mine").mkdir()
    result = fam("data", "prepare", "cub", "--from", tmp_path / "mine")
    assert "missing: CUB_200_2011.tgz, or the folder CUB_200_2011/" in result.stderr
    (tmp_path / "mine" / "CUB_200_2011.tgz").write_bytes(b"something else")
    assert "not the publisher's file" in fam("data", "prepare", "cub", "--from", tmp_path / "mine").stderr
    assert "--from" in fam("data", "prepare", "cub", "--from", tmp_path / "nowhere").stderr


def test_a_changed_tree_is_prepared_anew(fam: Fam, cub_tree: Path, home: Path) -> None:
    """A list that changed in the source is noticed."""
    fam("data", "prepare", "cub", "--from", cub_tree)
    split = cub_tree / "CUB_200_2011" / "train_test_split.txt"
    split.write_text("1 0\n2 0\n3 0\n4 0\n")
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert "test 4 images" in result.stderr


@pytest.mark.parametrize("file", ["classes.txt", "bounding_boxes.txt", "images"])
def test_missing_parts(fam: Fam, cub_tree: Path, home: Path, file: str) -> None:
    """A tree that lacks a part says which, and where to get it."""
    path = cub_tree / "CUB_200_2011" / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert file in result.stderr
    assert CATALOG["cub"].archives[0].page in result.stderr
    assert not (home / "cub" / "dataset.json").exists()


def test_a_corrupt_image(fam: Fam, cub_tree: Path, home: Path) -> None:
    """A corrupt image is named and counted, and stays listed; a missing one is an error."""
    image = cub_tree / "CUB_200_2011" / "images" / "002.Laysan_Albatross" / "L_0002.jpg"
    image.write_bytes(b"not a picture")
    result = fam("data", "prepare", "cub", "--from", cub_tree, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["unreadable"] == 1
    assert "L_0002.jpg: not a JPEG, P" in result.stderr
    assert len(open_dataset("cub").samples("test")) == 2
    image.unlink()
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert "is listed but not there" in result.stderr


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images(fam: Fam, cub_tree: Path, home: Path, orientation: int) -> None:
    """Publishers' boxes are of the stored pixels; sizes and boxes get the EXIF orientation, as everywhere in fam."""
    name = "001.Black_footed_Albatross/A_0002.jpg"
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[8:16, 24:40] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(cub_tree / "CUB_200_2011" / "images" / name, exif=exif, quality=100, subsampling=0)
    boxes = cub_tree / "CUB_200_2011" / "bounding_boxes.txt"
    boxes.write_text(boxes.read_text().replace("2 0.0 0.0 40.0 30.0", "2 24.0 8.0 15.0 7.0"))
    assert fam("data", "prepare", "cub", "--from", cub_tree).exit_code == 0
    sample = open_dataset("cub").samples("test", with_boxes=True)[0]
    picture = read_picture(sample.path)
    ys, xs = np.nonzero(np.asarray(picture.image)[..., 0] > 127)
    assert sample.boxes.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
    assert sample.size_hw == picture.size_hw


@pytest.mark.parametrize(
    ("line", "words"),
    [
        *((line, "bounding_boxes.txt', line 2") for line in ("2 1.0 2.0 3.0", "2 one 2 3 4", f"2 1 2 3 {'9' * 400}")),
        ("2 500 500 5 5", "box outside of the image"),  # not a score of nought
    ],
)
def test_bad_lists(fam: Fam, cub_tree: Path, home: Path, line: str, words: str) -> None:
    """A damaged list is named, and so is a box with no pixel in the image."""
    lists = cub_tree / "CUB_200_2011" / "bounding_boxes.txt"
    lists.write_text(lists.read_text().replace(lists.read_text().splitlines()[1], line))
    result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert words in result.stderr


def test_two_preparations(fam: Fam, cub_tree: Path, home: Path) -> None:
    """A second preparation of the same folder is refused while the first runs."""
    with only_writer(home / "cub" / "dataset.json"):
        result = fam("data", "prepare", "cub", "--from", cub_tree)
    assert result.exit_code == 1
    assert f"is writing '{home / 'cub' / 'dataset.json'}': wait for it, or choose another --out" in result.stderr


@pytest.fixture
def cubv2_lists(server: Any, home: Path, publish: Callable[..., None]) -> None:
    """CUBV2's boxes on a server."""
    lists = f"{V2[0]},1,2,20,20\n{V2[1]},0,0,39,29".encode()
    publish("cubv2", "metadata/CUB/val/localization.txt", url=server.add("localization.txt", lists))


@pytest.mark.parametrize("prefix", ["", "CUBV2/"])
def test_cubv2(fam: Fam, cubv2_lists: None, home: Path, tmp_path: Path, jpeg: Any, prefix: str) -> None:
    """CUBV2's boxes come by themselves, its images by hand from the page that is named; then all is there."""
    result = fam("data", "download", "cubv2")
    assert result.exit_code == 1
    assert "drive.google.com" in result.stderr
    assert "CUBV2.tar" in result.stderr
    for i, name in enumerate(V2):
        jpeg(tmp_path / "v2" / prefix / name, seed=i)
    downloads = home / "cubv2" / "downloads"
    with tarfile.open(downloads / "CUBV2.tar", "w") as tar:
        tar.add(tmp_path / "v2", ".")
    result = fam("data", "download", "cubv2")
    assert result.exit_code == 0, result.stderr
    assert "not pinned" in result.stderr
    samples = open_dataset("cubv2").samples("train-fullsup", with_boxes=True)
    assert [(s.name, s.label, s.boxes.tolist()) for s in samples] == [
        (V2[0], 0, [[1, 2, 21, 21]]),
        (V2[1], 1, [[0, 0, 40, 30]]),
    ]
    assert open_dataset("cubv2").class_names == ("Black footed Albatross", "Laysan Albatross")
    assert "nothing has changed" in fam("data", "prepare", "cubv2").stderr


def test_cubv2_among_cub(fam: Fam, cub_tree: Path, home: Path, jpeg: Any) -> None:
    """CUBV2 extracted into CUB's folder, as wsolevaluation does, is told apart by its list; cub then reads it."""
    images = cub_tree / "CUB_200_2011" / "images"
    jpeg(images / V2[0])
    lists = cub_tree / "metadata" / "CUB" / "val" / "localization.txt"
    lists.parent.mkdir(parents=True)
    lists.write_text(f"{V2[0]},1,2,20,20\n")
    assert fam("data", "prepare", "cubv2", "--from", cub_tree).exit_code == 0
    assert fam("data", "prepare", "cub", "--from", cub_tree).exit_code == 0
    assert [s.name for s in open_dataset("cub").samples("train-fullsup", with_boxes=True)] == [V2[0]]


def test_cubv2_missing(fam: Fam, home: Path, tmp_path: Path) -> None:
    """Both parts that are missing are named."""
    result = fam("data", "prepare", "cubv2", "--from", tmp_path)
    assert result.exit_code == 1
    assert "CUBV2.tar" in result.stderr
    assert "localization.txt" in result.stderr


@pytest.mark.parametrize("line", ["a/b.jpg,1,2,3,4", "001.A/b.jpg,1,2,x,4", "001.A/b.jpg,1"])
def test_cubv2_bad_list(fam: Fam, home: Path, tmp_path: Path, jpeg: Any, line: str) -> None:
    """A list of boxes that is not one is named."""
    jpeg(tmp_path / "a" / "b.jpg")
    (tmp_path / "localization.txt").write_text(line)
    result = fam("data", "prepare", "cubv2", "--from", tmp_path)
    assert result.exit_code == 1
    assert "localization.txt" in result.stderr
