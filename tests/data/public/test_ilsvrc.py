"""ILSVRC and ImageNetV2 from archives or extracted trees to prepared datasets, by the commands."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from famcli.data.dataset import open_dataset
from famcli.data.public.catalog import CATALOG

Fam = Callable[..., Result]
WNIDS = ("n01440764", "n01443537", "n01484850")
NAMES = ("tench", "goldfish", "great white shark")
LABELS = [2, 0, 1]
BOXES = [[[1, 2, 21, 19]], [[0, 0, 11, 11], [12, 3, 40, 30]], [[5, 5, 25, 20]]]


def tar_of(folder: Path, path: Path, mode: str = "w", under: str = ".") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for item in sorted(folder.iterdir()):
            tar.add(item, f"{under}/{item.name}" if under != "." else item.name)
    return path


@pytest.fixture
def archives(ilsvrc_tree: Path, tmp_path: Path, publish: Callable[..., None]) -> Path:
    """The four archives in the official layout, and rows with their MD5."""
    folder = tmp_path / "archives"
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for wnid in WNIDS:
            inner = tar_of(ilsvrc_tree / "train" / wnid, tmp_path / f"{wnid}.tar").read_bytes()
            info = tarfile.TarInfo(f"{wnid}.tar")
            info.size = len(inner)
            outer.addfile(info, io.BytesIO(inner))
    tar_of(ilsvrc_tree / "val", folder / "ILSVRC2012_img_val.tar")
    kit = ilsvrc_tree / "ILSVRC2012_devkit_t12"
    tar_of(kit, folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz", under=kit.name)
    tar_of(ilsvrc_tree / "bbox" / "val", folder / "ILSVRC2012_bbox_val_v3.tgz", "w:gz", under="val")
    for path in folder.iterdir():
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        publish("ilsvrc", path.name, hash=f"md5:{md5}", size=path.stat().st_size, unpacked=1)
    return folder


def check_ilsvrc(root: Path, *, train: bool = True, names: bool = True) -> None:
    """The three classes are where they should be."""
    data = open_dataset(root)
    assert data.class_names == (NAMES if names else WNIDS)
    assert data.fullsup == "imagenetv2"
    test = data.samples("test", with_boxes=True)
    assert [s.label for s in test] == LABELS
    assert [s.boxes.tolist() for s in test] == BOXES
    assert [s.size_hw for s in test] == [(30, 40), (30, 40), (20, 25)]
    assert all(s.path.is_file() for s in test)
    assert data.splits() == (["train-weaksup", "test"] if train else ["test"])
    if train:
        samples = data.samples("train-weaksup")
        assert [s.name for s in samples] == [f"train/{w}/{w}_{i}.JPEG" for w in WNIDS for i in (1, 2)]
        assert [s.label for s in samples] == [0, 0, 1, 1, 2, 2]
        assert all(s.path.is_file() for s in samples)


def test_archives(fam: Fam, archives: Path, home: Path) -> None:
    """The original archives become a dataset; ILSVRC2012_ID is translated, all boxes of an image are kept."""
    result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{home / 'ilsvrc'}\n"
    check_ilsvrc(Path("ilsvrc"))
    assert sorted(p.name for p in archives.iterdir()) == sorted(p.name for p in archives.glob("ILSVRC*"))
    assert "train-weaksup 6 images, test 3 images with 4 boxes" in result.stderr
    before = {str(p): p.stat().st_mtime_ns for p in (home / "ilsvrc").rglob("*")}
    again = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert "nothing has changed" in again.stderr
    assert {str(p): p.stat().st_mtime_ns for p in (home / "ilsvrc").rglob("*")} == before


def test_archives_in_place(fam: Fam, archives: Path, home: Path) -> None:
    """Archives put into the download folder need no --from, and `download` goes on to prepare them."""
    shutil.copytree(archives, home / "ilsvrc" / "downloads")
    result = fam("data", "download", "ilsvrc")
    assert result.exit_code == 0, result.stderr
    check_ilsvrc(Path("ilsvrc"))


def test_interrupted_extraction(fam: Fam, archives: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extraction that was stopped leaves no dataset, and goes on with the class where it was."""
    from famcli.data.public import extract as module

    real, count = module.shutil.copyfileobj, 0

    def stop_at_four(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "copyfileobj", stop_at_four)
        result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 130
    assert f"to go on: fam data prepare ilsvrc --from {archives}" in result.stderr
    assert not (home / "ilsvrc" / "dataset.json").exists()
    count = -100
    monkeypatch.setattr(module.shutil, "copyfileobj", stop_at_four)
    assert fam("data", "prepare", "ilsvrc", "--from", archives).exit_code == 0
    assert count == -100 + 3 + 3  # three images of train and three of val were missing
    check_ilsvrc(Path("ilsvrc"))


def test_extracted_tree(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """An extracted tree with flat val/, devkit and XML is read where it is."""
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 0
    check_ilsvrc(Path("ilsvrc"))
    assert open_dataset("ilsvrc").images == ilsvrc_tree
    assert not list((home / "ilsvrc").rglob("*.JPEG"))


def by_class(tree: Path) -> None:
    """val/ by class: folders are labels."""
    for i, label in enumerate(LABELS, 1):
        image = tree / "val" / f"ILSVRC2012_val_{i:08d}.JPEG"
        (tree / "val" / WNIDS[label]).mkdir(exist_ok=True)
        image.rename(tree / "val" / WNIDS[label] / image.name)


def benchmark_lists(tree: Path) -> None:
    """wsolevaluation's lists stand in for the XML too."""
    shutil.rmtree(tree / "bbox")
    lists = tree / "metadata" / "ILSVRC" / "test"
    lists.mkdir(parents=True)
    names = [f"val/ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2, 3)]
    (lists / "class_labels.txt").write_text("\n".join(f"{n},{c}" for n, c in zip(names, LABELS, strict=True)))
    rows = [(n, *b) for n, boxes in zip(names, BOXES, strict=True) for b in boxes]
    (lists / "localization.txt").write_text("\n".join(f"{n},{a},{b},{c - 1},{d - 1}" for n, a, b, c, d in rows))


def list_of_wnids(tree: Path) -> None:
    """A list of WordNet ids, a line an image in order, is a source of labels."""
    lines = "".join(f"{WNIDS[label]}\n" for label in LABELS)
    (tree / "imagenet_2012_validation_synset_labels.txt").write_text(lines)


@pytest.mark.parametrize("arrange", [by_class, benchmark_lists, list_of_wnids])
def test_without_the_devkit(fam: Fam, ilsvrc_tree: Path, home: Path, arrange: Callable[[Path], None]) -> None:
    """Other sources of labels stand in for the development kit; without a list of words the ids are the names."""
    shutil.rmtree(ilsvrc_tree / "ILSVRC2012_devkit_t12")
    arrange(ilsvrc_tree)
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert result.exit_code == 0, result.stderr
    check_ilsvrc(Path("ilsvrc"), names=False)


def test_kaggle(fam: Fam, ilsvrc_tree: Path, home: Path, tmp_path: Path) -> None:
    """Kaggle's tree, with its own places of images, XML and words, is read; labels come from the XML."""
    top = tmp_path / "kaggle"
    images, xml = top / "ILSVRC" / "Data" / "CLS-LOC", top / "ILSVRC" / "Annotations" / "CLS-LOC"
    images.mkdir(parents=True)
    xml.mkdir(parents=True)
    for part in ("train", "val"):
        (ilsvrc_tree / part).rename(images / part)
    (ilsvrc_tree / "bbox" / "val").rename(xml / "val")
    words = "".join(f"{w} {n}, something else\n" for w, n in zip(WNIDS, NAMES, strict=True))
    (top / "LOC_synset_mapping.txt").write_text(words)
    assert fam("data", "prepare", "ilsvrc", "--from", top).exit_code == 0
    check_ilsvrc(Path("ilsvrc"))


def test_without_train(fam: Fam, ilsvrc_tree: Path, home: Path) -> None:
    """--without-train prepares the test split alone, also after all, and all is there again without it."""
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 0
    (ilsvrc_tree / "train").rename(ilsvrc_tree / "gone")
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 1
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree, "--without-train").exit_code == 0
    check_ilsvrc(Path("ilsvrc"), train=False)
    (ilsvrc_tree / "gone").rename(ilsvrc_tree / "train")
    assert fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree).exit_code == 0
    check_ilsvrc(Path("ilsvrc"))


KIT, DATA = "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data"
TRUTH = f"{DATA}/ILSVRC2012_validation_ground_truth.txt"
SECOND = "bbox/val/ILSVRC2012_val_00000002.xml"
LATIN = "".join(f"{wnid} möwe\n" for wnid in WNIDS).encode("latin-1")
BROKEN: dict[str, tuple[list[str], dict[str, str | bytes], str]] = {  # what is deleted, what is written, what is said
    "train": (["train"], {}, "training images (ILSVRC2012_img_train.tar"),
    "val": (["val"], {}, "validation images (ILSVRC2012_img_val.tar"),
    "bbox": (["bbox"], {}, "boxes (ILSVRC2012_bbox_val_v3.tgz"),
    "labels": (
        [KIT, "bbox"],
        {"localization.txt": "val/ILSVRC2012_val_00000001.JPEG,1,2,3,4"},
        "labels of the validation images (ILSVRC2012_devkit_t12.tar.gz",
    ),
    "labels of other data": ([], {TRUTH: "2\n3\n1\n"}, "differ for 2 of 3 images"),
    "an id that is none": ([], {TRUTH: "1\n99\n3\n"}, "no ILSVRC2012_ID of meta.mat"),
    "damaged meta.mat": ([], {f"{DATA}/meta.mat": b"MATLAB 5.0 nonsense"}, "cannot read meta.mat"),
    "no meta.mat": ([f"{DATA}/meta.mat"], {}, "lacks data/meta.mat"),
    "names in Latin-1": ([KIT], {"synset_words.txt": LATIN}, "synset_words.txt' is not UTF-8 text"),
    "ids in Latin-1": ([KIT], {"val_wnids.txt": LATIN}, "val_wnids.txt' is not UTF-8 text"),
    "half an XML": ([], {SECOND: "<annotation>"}, f"{SECOND}: no element found"),
    "no object": ([], {SECOND: "<annotation></annotation>"}, f"{SECOND}' has no object"),
    "entities": ([], {SECOND: "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"}, "declares a document type or entities"),
    "no corner": ([], {SECOND: "<annotation><object><name>a</name></object></annotation>"}, "xmin is '', not a number"),
    "no box": ([SECOND], {}, "have no box, such as ILSVRC2012_val_00000002"),
}


@pytest.mark.parametrize(("gone", "written", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_missing_or_damaged(
    fam: Fam, ilsvrc_tree: Path, home: Path, gone: list[str], written: dict[str, str | bytes], words: str
) -> None:
    """Each part that is missing, damaged or of other data is one sentence that names it, and where to get it."""
    for name in gone:
        path = ilsvrc_tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in written.items():
        (ilsvrc_tree / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = fam("data", "prepare", "ilsvrc", "--from", ilsvrc_tree)
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert ("missing: " in result.stderr) == ("https://image-net.org/" in result.stderr)
    assert not (home / "ilsvrc" / "dataset.json").exists()


def test_one_part_extracted(fam: Fam, archives: Path, ilsvrc_tree: Path, home: Path) -> None:
    """An extracted train/ beside val.tar is told the option that brings both together, which then works."""
    (ilsvrc_tree / "train").rename(archives / "train")
    (archives / "ILSVRC2012_img_train.tar").unlink()
    result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 1
    assert f"--out '{archives}'" in result.stderr
    result = fam("data", "prepare", "ilsvrc", "--from", archives, "--out", archives)
    assert result.exit_code == 0, result.stderr
    check_ilsvrc(archives)


def test_a_broken_archive(fam: Fam, archives: Path, home: Path) -> None:
    """An archive whose hash is wrong is refused before anything is extracted."""
    with (archives / "ILSVRC2012_img_val.tar").open("r+b") as file:
        file.write(b"!")
    result = fam("data", "prepare", "ilsvrc", "--from", archives)
    assert result.exit_code == 1
    assert "its md5 is" in result.stderr
    assert not (home / "ilsvrc" / "val").exists()


def test_list(fam: Fam, home: Path, archives: Path, ilsvrc_tree: Path, jpeg: Any, tmp_path: Path) -> None:
    """`fam data list` shows each dataset with its splits, terms and how far it is, own ones too."""
    table = fam("data", "list").stdout
    assert all(word in table for word in (*CATALOG, "train-weaksup 5,994", "non-commercial", "by hand"))
    assert table.count("| absent") == len(CATALOG)
    shutil.copytree(archives, home / "ilsvrc" / "downloads")
    (home / "cub" / "downloads").mkdir(parents=True)
    (home / "cub" / "downloads" / "CUB_200_2011.tgz.part").write_bytes(b"x")
    for name in ("cat/1.jpg", "dog/2.jpg"):
        jpeg(tmp_path / "own" / name)
    assert fam("data", "prepare", "pets", "--from", tmp_path / "own").exit_code == 0
    answer = json.loads(fam("data", "list", "--json").stdout)
    states = {row["name"]: row["state"] for row in answer["datasets"]}
    assert states == {
        "cub": "partly downloaded",
        "cubv2": "absent",
        "ilsvrc": "downloaded",
        "imagenetv2": "absent",
        "pets": "prepared",
    }
    assert answer["home"] == str(home)
