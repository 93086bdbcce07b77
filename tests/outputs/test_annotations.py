"""Formats of annotation tools, read back by programs that their users have."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings, strategies as st
from label_studio_converter import Converter
from labelformat.formats import (
    CVATObjectDetectionInput,
    YOLOv8InstanceSegmentationInput,
    YOLOv8ObjectDetectionInput,
)
from labelformat.model.object_detection import ImageObjectDetection
from PIL import Image
from supervision import DetectionDataset

from famcli.data.listing import Listing
from famcli.data.masks import encode
from famcli.data.readers import voc
from famcli.outputs import FORMATS, Run, write_results
from famcli.outputs.annotations import Annotation, Stems, xml_text
from famcli.outputs.coco import CocoIds
from famcli.outputs.prediction import ClassScore, Failure, Prediction
from famcli_models.localization import Region, localize

Write = Callable[..., Path]
CLASSES = ("cup", "Bär & <Sohn>: 'x'", "never seen", "yes")


def found(name: str, *rows: str, label: int = 1) -> Prediction:
    """A prediction of an image of 20 pixels a cell, with the regions drawn by ``#``."""
    M = np.array([[cell == "#" for cell in row] for row in rows], np.float32).repeat(20, axis=0).repeat(20, axis=1)
    where = localize(M, M.shape, max_boxes=3, with_map=True)
    best = (ClassScore(label, CLASSES[label], 0.5),)
    return Prediction(name, M.shape, best, where.regions, M, region_map=where.region_map)


RESULTS = (
    found("a b/é#%.png", "##..", "##..", "...#"),
    found("a.jpg", "....", ".##.", "....", label=3),
    Failure("damaged.jpg", "the file is empty"),
    found("empty.png", "....", "....", "...."),
)
BOXES = {
    "a b/é#%.png": [(CLASSES[1], (0, 0, 40, 40)), (CLASSES[1], (60, 40, 80, 60))],
    "a.jpg": [(CLASSES[3], (20, 20, 60, 40))],
    "empty.png": [],
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes results in a format, of images in the folder ``photos``."""

    def run(form: str, results: Iterable[Prediction | Failure] = RESULTS, **options: bool) -> Path:
        photos, out = tmp_path / "photos", tmp_path / "out"
        for result in results:
            if isinstance(result, Prediction):
                (photos / result.name).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", result.size_hw[::-1]).save(photos / result.name, format="PNG")
        listing = Listing(photos, tuple(result.name for result in results))
        given = Run(listing, CLASSES, CocoIds.numbered(listing.names, CLASSES), {"version": "x"}, **options)
        write_results(FORMATS[form], lambda: (result.to_dict() for result in results), given, out)
        return out

    return run


def boxes(read: Iterable[ImageObjectDetection]) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """What labelformat has read, to the pixel."""
    return {
        image.image.filename: [
            (o.category.name, tuple(round(v) for v in (o.box.xmin, o.box.ymin, o.box.xmax, o.box.ymax)))
            for o in image.objects
        ]
        for image in read
    }


# ---- YOLO ------------------------------------------------------------------------------------------------


def test_yolo(write: Write, tmp_path: Path) -> None:
    """labelformat finds images and boxes; classes count from 0; images are links, and one without a box has a file."""
    out = write("yolo")
    assert boxes(YOLOv8ObjectDetectionInput(out / "data.yaml", "train").get_labels()) == BOXES
    listed = yaml.safe_load((out / "data.yaml").read_text("utf-8"))
    assert listed == {"train": "images", "val": "images", "names": {0: CLASSES[1], 1: CLASSES[3]}}
    assert (out / "images" / "a.jpg").readlink() == tmp_path / "photos" / "a.jpg"
    assert (out / "labels" / "empty.txt").read_text() == ""
    assert not list(out.rglob("damaged*"))


def test_all_categories(write: Write) -> None:
    """With all categories the numbers of classes are those of the model, whatever occurs."""
    assert yaml.safe_load((write("yolo", all_categories=True) / "data.yaml").read_text("utf-8"))["names"] == dict(
        enumerate(CLASSES)
    )


def test_polygons_of_yolo(write: Write) -> None:
    """labelformat reads each region's polygon, in pixels."""
    read = YOLOv8InstanceSegmentationInput(write("yolo", polygons=True) / "data.yaml", "train").get_labels()
    outlines = {i.image.filename: [o.segmentation.polygons for o in i.objects] for i in read}
    ((outline,),) = outlines["a.jpg"]
    assert {(round(x), round(y)) for x, y in outline} == {(20, 20), (60, 20), (60, 40), (20, 40)}
    assert len(outlines["a b/é#%.png"]) == 2


# ---- VOC -------------------------------------------------------------------------------------------------


def test_voc(write: Write, tmp_path: Path) -> None:
    """fam and supervision read the boxes that were found; corners count from 1 and include the last pixel."""
    out = write("voc")
    (samples,) = voc.read(out, tmp_path / "photos", None).splits.values()
    assert {s.name: s.boxes.tolist() for s in samples} == {n: [list(b) for _, b in f] for n, f in BOXES.items() if f}
    read = DetectionDataset.from_pascal_voc(str(tmp_path / "photos"), str(out / "Annotations"))
    boxes_of = {Path(path).name: detections.xyxy.tolist() for path, _, detections in read}
    assert boxes_of == {"a.jpg": [[20, 20, 60, 40]], "empty.png": []}
    assert [e.text for e in _xml(out / "Annotations/a.xml").find("object/bndbox") or ()] == ["21", "21", "60", "40"]
    assert (out / "ImageSets/Main/default.txt").read_text("utf-8").splitlines() == ["a b/é#%", "a", "empty"]
    assert (out / "labelmap.txt").read_text("utf-8").splitlines()[1:] == [f"{CLASSES[1]}:::", f"{CLASSES[3]}:::"]
    assert [s.text for s in _xml(out / "Annotations/a.xml").iterfind("object/attributes/attribute/value")] == ["1.0"]


# ---- CVAT ------------------------------------------------------------------------------------------------


def test_cvat(write: Write) -> None:
    """labelformat reads labels and boxes; the score is an attribute that the label declares."""
    out = write("cvat")
    read = CVATObjectDetectionInput(out)
    assert [category.name for category in read.get_categories()] == [CLASSES[1], CLASSES[3]]
    assert boxes(read.get_labels()) == BOXES
    root = _xml(out)
    assert {a.text for a in root.iterfind("meta/task/labels/label/attributes/attribute/name")} == {"score"}
    assert [a.text for a in root.iterfind("image/box/attribute[@name='score']")] == ["1.0"] * 3


def test_polygons_of_cvat(write: Write) -> None:
    """Polygons stand in place of boxes."""
    root = _xml(write("cvat", polygons=True))
    (points,) = [p.get("points", "") for p in root.iterfind("image[@name='a.jpg']/polygon")]
    assert set(points.split(";")) == {"20,20", "60,20", "60,40", "20,40"}
    assert not list(root.iter("box"))


# ---- Label Studio ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("polygons", [False, True])
def test_labelstudio(write: Write, tmp_path: Path, polygons: bool) -> None:
    """Predictions that an annotator accepts come out of Label Studio's converter as the boxes that were found."""
    out = write("labelstudio", polygons=polygons)
    tasks = json.loads((out / "tasks.json").read_text("utf-8"))
    urls = [f"/data/local-files/?d=photos/{name}" for name in ("a%20b/%C3%A9%23%25.png", "a.jpg", "empty.png")]
    assert [task["data"]["image"] for task in tasks] == urls
    assert [task["predictions"][0]["score"] for task in tasks] == [1, 1, 0]
    assert tasks[1]["predictions"][0]["result"][0]["score"] == 1
    for number, task in enumerate(tasks):
        (prediction,) = task["predictions"]
        task |= {"id": number, "annotations": [{"id": number, "result": prediction["result"]}]}
    (tmp_path / "accepted.json").write_text(json.dumps(tasks))
    converter = Converter((out / "label_config.xml").read_text("utf-8"), None, download_resources=False)
    logging.disable()  # it reports that it cannot reach the images
    converter.convert_to_coco(str(tmp_path / "accepted.json"), str(tmp_path / "coco"), is_dir=False)
    logging.disable(logging.NOTSET)
    coco = json.loads((tmp_path / "coco" / "result.json").read_text("utf-8"))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    read: dict[str, list[tuple[str, tuple[int, ...]]]] = {image["file_name"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        corners = tuple(round(v) for v in (x, y, x + w, y + h))
        read[coco["images"][annotation["image_id"]]["file_name"]].append((names[annotation["category_id"]], corners))
    assert read == dict(zip(urls, BOXES.values(), strict=True))


# ---- What they share -------------------------------------------------------------------------------------


def regions(seed: int, size_hw: tuple[int, int] = (90, 120)) -> Prediction:
    """A random map of two or three regions, whose boxes may overlap."""
    M = np.random.default_rng(seed).random((6, 7)).astype(np.float32)
    where = localize(M, size_hw, 0.55, max_boxes=3, with_map=True)
    assert len(where.regions) > 1
    best = (ClassScore(1, "b", 0.5),)
    return Prediction(f"{seed}.png", size_hw, best, where.regions, M, region_map=where.region_map)


@pytest.mark.filterwarnings("ignore")  # pycocotools' own, of NumPy 2
@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_masks_of_coco(write: Write, seed: int, polygons: bool) -> None:
    """annToMask has the pixels of each box's own region: exactly as run lengths, nearly as polygons without holes."""
    from pycocotools.coco import COCO

    prediction = regions(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(write("coco", [prediction], polygons=polygons)))
    assert len(coco.anns) == len(prediction.regions)
    for number, (annotation, region) in enumerate(zip(coco.anns.values(), prediction.regions, strict=True), 1):
        mask, truth = coco.annToMask(annotation) > 0, prediction.region_map == number
        assert annotation["area"] == region.area == truth.sum()
        if polygons:
            assert (mask & truth).sum() > 0.96 * truth.sum()
        else:
            np.testing.assert_array_equal(mask, truth)


@pytest.mark.parametrize(
    ("rows", "corners"),
    [
        (["#"], {(0, 0), (1, 0), (1, 1), (0, 1)}),
        ([".....", ".###.", ".###."], {(1, 1), (4, 1), (4, 3), (1, 3)}),
        (["###", "#.#", "###"], {(0, 0), (3, 0), (3, 3), (0, 3)}),  # the hole is filled
        (["#.", ".#"], {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (1, 2), (0, 1)}),  # one region by its corner
    ],
)
def test_outlines_lie_on_the_edges_of_pixels(rows: list[str], corners: set[tuple[int, int]]) -> None:
    """The polygon of a rectangle is the rectangle, half-open as its box, however small it is."""
    mask = np.array([[cell == "#" for cell in row] for row in rows])
    ys, xs = np.nonzero(mask)
    xyxy = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    outline = Annotation(1, "x", xyxy, 0.5, 1, encode(mask)).outline()
    assert {(x, y) for x, y in outline.tolist()} == corners


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (("a/b.jpg", "b.jpg", "c"), ("a/b", "b", "c")),
        (("a.jpg", "A.png", "b.x.jpg"), ("a.jpg", "A.png", "b.x")),
        (("a.jpg", "a.jpg.png", "a.png"), ("a.jpg", "a.jpg.png", "a.png")),
    ],
)
def test_names_beside_images(names: tuple[str, ...], called: tuple[str, ...]) -> None:
    """A file beside an image has its name without suffix; where two would be one, up to case, they keep theirs."""
    assert tuple(Stems(names)[name] for name in names) == called


TEXT = st.text(st.characters(codec=None, exclude_characters="/\0"), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@example(name="0", label="\x85")
@given(name=TEXT.filter(lambda t: t not in {".", ".."} and len(t.encode("utf-8", "surrogatepass")) < 60), label=TEXT)
def test_any_name_and_class(tmp_path_factory: pytest.TempPathFactory, name: str, label: str) -> None:
    """Names of any characters leave every format whole: JSON, XML and YAML give them back."""
    name = f"/d\\ir/{name.encode('utf-8', 'backslashreplace').decode()}.png"  # what the file system here can hold
    found = Prediction(name, (4, 6), (ClassScore(0, label, 0.5),), (Region((1, 1, 3, 4), 6, 0.9),), np.zeros((2, 2)))
    listing, home = Listing(Path("/photos"), (name,)), tmp_path_factory.mktemp("o")
    for form, row in FORMATS.items():
        run = Run(listing, (label,), CocoIds.numbered((name,), (label,)), {"version": "x"})
        write_results(row, lambda: iter([found.to_dict()]), run, home / form)
    escaped = label.encode("utf-8", "backslashreplace").decode()  # what a file of UTF-8 has for half a character
    assert json.loads((home / "coco").read_text("utf-8"))["images"][0]["file_name"] == name
    (image,) = _xml(home / "cvat").iter("image")
    assert (image.get("name"), image[0].get("label")) == (xml_text(name), xml_text(label))
    (file,) = (home / "voc" / "Annotations").rglob("*.xml")
    assert file.relative_to(home / "voc" / "Annotations") == Path(name.lstrip("/")).with_suffix(".xml")
    assert _xml(file).findtext("object/name") == xml_text(label)
    assert yaml.safe_load((home / "yolo" / "data.yaml").read_text("utf-8"))["names"][0] in {label, escaped}
    assert (home / "yolo" / "labels" / name.lstrip("/")).with_suffix(".txt").read_text().startswith("0 ")
    (task,) = json.loads((home / "labelstudio" / "tasks.json").read_text("utf-8"))
    (choice,) = task["predictions"][0]["result"][0]["value"]["rectanglelabels"]
    assert choice == next(_xml(home / "labelstudio" / "label_config.xml").iter("Label")).get("value")


def _xml(path: Path) -> ET.Element:
    return ET.fromstring(path.read_bytes())  # noqa: S314  (it is our own)
