"""The report as a file."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from famcli.report.page import write_report
from famcli.report.pictures import BLOCK
from famcli.results import tables
from famcli.results.images import ERROR_TYPES, ImageResult
from famcli.results.io import IMAGES_NAME, write_images
from famcli.results.schema import ClassRow, Difference, Number, Results
from famcli_models.files import sha256_file

VOID = {"meta", "link", "input", "br"}


class Balanced(HTMLParser):
    """Reads a page strictly: every element is closed in order, ids and attributes are there once."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.tags[tag] += 1
        self.ids.update(value for name, value in attrs if name == "id" and value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


Render = Callable[..., str]


@pytest.fixture
def render(folder: Path, results: Results, tmp_path: Path) -> Render:
    """A function that writes the report of the folder and gives its text."""

    def write(changed: Results = results, **options: Any) -> str:
        write_report(changed, folder, tmp_path / "report.html", **options)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_page(folder: Path, results: Results, records: list[ImageResult], tmp_path: Path) -> None:
    """The page is well-formed, has all sections and no slot left, and its data are those of the records."""
    out = tmp_path / "new" / "report.html"
    steps: list[int] = []
    written = write_report(results, folder, out, on_image=lambda: steps.append(1))
    assert (written.shown, written.scored, written.missing, len(steps)) == (30, 30, [], 30)
    page = out.read_text(encoding="utf-8")
    assert "{{" not in page
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    assert max(reader.ids.values()) == 1
    assert {"scores", "differences", "iou", "curve", "gallery", "parts", "classes-table", "card"} <= reader.ids.keys()
    assert reader.tags["html"] == reader.tags["h1"] == reader.tags["main"] == 1
    images = data_of(page)["images"]
    assert [image[0] for image in images] == [record.name for record in records]
    assert images[0][7] == [[[1, 2, 20.5, 25], 1.0, 0, 0.5], [[0, 0, 9, 9], 0.25, 2, 0.4]]
    assert images[5][7][0] == [None, None, 5, 0.5]


def test_nothing_is_loaded_and_only_our_script_runs(render: Render) -> None:
    """The policy names the page's own style and script by hash; no attribute runs code or loads a file."""
    page = render()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    allowed = dict(part.strip().split(" ", 1) for part in html.unescape(policy[1]).split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert allowed[rule] == f"'sha256-{digest}'"
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"""\s(on\w+|style|src|srcset)\s*=""", markup)
    assert set(re.findall(r'href="([^"]*)"', markup)) <= {"data:,"} | set(re.findall(r'href="(#[\w-]+)"', markup))


def test_lines_hold_thumbnails_and_maps(
    make_records: Callable[..., list[ImageResult]], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    """Each image has one line, in blocks: its thumbnail and the map of each method, byte for byte."""
    records = make_records(tmp_path / "photos", BLOCK + 3)
    records[1] = dataclasses.replace(records[1], maps={"CAM": records[1].maps["CAM"]})
    write_images(tmp_path / IMAGES_NAME, records)
    write_report(make_results(records), tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    blocks = re.findall(r'id="pictures-(\d+)">(.*?)</script>', page, re.DOTALL)
    lines = [block.split("\n") for _, block in blocks]
    assert [(number, len(block)) for (number, _), block in zip(blocks, lines, strict=True)] == [("0", BLOCK), ("1", 3)]
    thumbnail, first, second = lines[0][1].split(" ")
    assert base64.b64decode(thumbnail)[:4] == b"RIFF"
    assert first == "-"
    h, w, content = second.split(",")
    values = np.frombuffer(base64.b64decode(content), np.uint8).reshape(int(h), int(w))
    assert (values == records[1].maps["CAM"]).all()


def test_gallery_of_some(render: Render) -> None:
    """Of too many images only some are written, and the page says so; random ones are numbered within the page."""
    page = render(gallery=9, seed=7)
    data = data_of(page)
    shown = len(data["images"])
    assert shown <= 9
    assert max(data["random"]) < shown
    assert len(data["random"]) == 3
    assert f"{shown} of 30 images: the best, the worst, and 3 random ones." in page
    assert "seed 7" in page


def test_missing_photos(folder: Path, results: Results, records: list[ImageResult], tmp_path: Path) -> None:
    """A photo that is gone is named and blank; the others are there."""
    Path(records[3].path).unlink()
    Path(records[8].path).write_bytes(b"no image")
    out = tmp_path / "report.html"
    written = write_report(results, folder, out)
    absent, other = (reason for _, reason in written.missing)
    assert absent == "no such file"
    assert other.startswith("not a JPEG, PNG, WebP, BMP or TIFF image, but text")
    assert written.missing[0][0] == records[3].path
    page = out.read_text(encoding="utf-8")
    block = re.search(r'id="pictures-0">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    assert [i for i, line in enumerate(block[1].split("\n")) if line.startswith("- ")] == [3, 8]


def test_parts(render: Render, results: Results, checkpoint: Path) -> None:
    """With the model that was evaluated the featured images have part maps; without it a sentence says why."""
    page = render()
    assert "nowhere/model&#39; is not here; say where it is with --model." in page
    assert data_of(page)["parts"] == {}
    source = {**results.source, "weights_sha256": sha256_file(checkpoint / "model.safetensors")}
    of_tiny = dataclasses.replace(results, source=source)
    data = data_of(render(of_tiny, model=str(checkpoint), device="cpu"))
    assert len(data["partRows"]) == 6
    found = data["parts"][str(data["partRows"][0])]
    h, w = found["size"]
    assert {len(base64.b64decode(one)) for one in found["maps"]} == {h * w}
    assert len(found["maps"]) == len(found["weights"])
    assert "Part maps were not asked for." in render(of_tiny, parts=False)


def test_numbers(render: Render, results: Results) -> None:
    """Numbers are large at the top and stand in the table, with intervals; what was not measured is empty."""
    value = results.rows[0].metrics["gt_known"]
    page = render()
    interval = f'<small class="interval">{value.low:.1f} to {value.high:.1f}</small>'
    assert f"<dt>GT-known</dt><dd>{value.value:.1f} {interval}</dd>" in page
    assert "MaxBoxAcc" not in page
    assert '<th scope="row">FAM</th><td class="number">0.5 <small class="interval">fixed</small></td>' in page
    assert "flatters" in page
    bare = dataclasses.replace(results.rows[1], metrics={}, empty=None, tau=None, tau_from="")
    page = render(dataclasses.replace(results, rows=(results.rows[0], bare)))
    assert f'<th scope="row">{bare.title}</th>' + 4 * '<td class="number"></td>' + "</tr>" in page
    assert "flatters" not in page


def test_differences(render: Render, results: Results) -> None:
    """A difference has its sign; it is bold if its interval does not hold 0."""
    page = render()
    assert '<th scope="row">FAM minus CAM, oracle</th>' in page
    assert '<b>+12.5</b> <small class="interval">+3.0 to +22.0</small>' in page
    unclear = Difference("FAM", "CAM, oracle", "gt_known", Number(-1.0, -3.0, 2.0))
    page = render(dataclasses.replace(results, differences=(unclear,)))
    assert '"number">−1.0 <small class="interval">−3.0 to +2.0</small>' in page


def test_classes_and_charts(render: Render) -> None:
    """Classes have sortable heads and link to their images; a chart has a name and a table, and is well-formed."""
    page = render()
    assert page.count('<button type="button" class="sort">') == 6
    assert '<a href="#gallery" data-label="1">dog</a>' in page
    drawings = re.findall(r'<svg class="chart".*?</svg>', page, re.DOTALL)
    assert len(drawings) == page.count("<details>") == 3
    for drawing in drawings:
        assert ET.fromstring(drawing).get("aria-label")  # noqa: S314  (our own)


def test_sizes(render: Render, results: Results) -> None:
    """Each row has its accuracy by object size, with the ratio of areas; older results have no such table."""
    page = render()
    (found,) = re.findall(r'<table id="sizes">.*?</table>', page, re.DOTALL)
    assert tables.SIZE_NOTE.split("'")[0] in page
    assert re.findall(r'<th scope="row">(.*?)</th>', found) == ["FAM", "CAM, oracle"]
    cell = '20.0 <small class="interval">3.6 to 62.4</small> <small class="interval">area × 2.50</small>'
    assert found.count(cell) == 2
    older = tuple(dataclasses.replace(row, sizes=None) for row in results.rows)
    assert "object size" not in render(dataclasses.replace(results, rows=older))


def test_warnings_are_shouted(render: Render, results: Results) -> None:
    """A smoke check and a partial evaluation say so in capitals; the card has every fact."""
    odd = dataclasses.replace(results, kind="smoke check", data={**results.data, "partial": True})
    page = render(odd)
    assert '<p class="warning"><strong>SMOKE CHECK</strong> These numbers' in page
    assert "<strong>PARTIAL</strong> Only 30 of more images were scored." in page
    assert f"<dt>SHA-256 of the weights</dt><dd>{'ab' * 32}</dd>" in page
    assert '<section class="all"><h3>Rules</h3>' in page


def test_bare_results(render: Render, results: Results) -> None:
    """Results without charts, classes, differences and names are a page that says what they have not."""
    rows = tuple(
        dataclasses.replace(row, metrics={}, curve=None, iou_histogram=None, kinds=None, sizes=None, tau=None)
        for row in results.rows
    )
    data = {key: value for key, value in results.data.items() if key != "class_names"}
    bare = dataclasses.replace(results, rows=rows, data=data, classes=(), differences=(), taus=(), bootstrap={})
    page = render(bare)
    assert page.count("These results have none.") == 2
    assert data_of(page)["classes"] == []


ODD = "</script></title><script>alert(1)</script><!-- \" ' & \u2028 \udcff\x00\x1b"


def test_names_are_never_markup(
    make_records: Callable[..., list[ImageResult]], make_results: Callable[..., Results], tmp_path: Path
) -> None:
    """Class names, titles and file names with tags, quotes and odd bytes leave the page well-formed."""
    records = make_records(tmp_path / "photos", 3)
    records[1] = dataclasses.replace(records[1], name=ODD)
    for record in records:
        record.found[ODD] = record.found.pop("FAM")
    write_images(tmp_path / IMAGES_NAME, records)
    results = make_results(
        records,
        (ODD, "b", "c"),
        title=ODD,
        data={"name": ODD, "split": ODD, "images": 3, "class_names": [ODD, "b", "c"]},
        classes=tuple(ClassRow(i, ODD, 1, 1.0, 1.0, 1.0, 1.0) for i in range(3)),
        differences=(Difference(ODD, ODD, "gt_known", Number(1.0)),),
        protocol={"name": ODD, "rules": {ODD: ODD}},
        source={"kind": "model", "name": ODD},
        versions={ODD: ODD},
        created=ODD,
    )
    write_report(results, tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    assert page.count("alert(1)") > 20
    assert "<script>alert" not in page
    assert not re.search("[\x00\x1b]", page)
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert not re.search("[<>&\u2028]", data[1])
    assert json.loads(data[1])["images"][1][0] == ODD


def test_documentation_has_the_kinds() -> None:
    """The page about reports explains every kind of error with the program's own words."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "report.md").read_text(encoding="utf-8")
    for kind, meaning in ERROR_TYPES.items():
        assert f"| {kind} | {meaning} |" in page


def test_the_same_folder_gives_the_same_file(folder: Path, results: Results, tmp_path: Path) -> None:
    """A report has no date or chance of its own, whatever the number of threads."""
    for workers in (1, 3):
        write_report(results, folder, tmp_path / f"{workers}.html", workers=workers)
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "3.html").read_bytes()


@pytest.mark.parametrize(
    ("protocol", "view", "words"),
    [
        ("fam", [0, 0, 1, 1], None),
        ("psol", [1 / 16, 1 / 16, 15 / 16, 15 / 16], "true boxes are cut to it"),
        ("wsoleval-v2", [0, 0, 1, 1], "the best one for δ = 0.5"),
    ],
)
def test_the_part_that_maps_are_of(
    render: Render, results: Results, protocol: str, view: list[float], words: str | None
) -> None:
    """Maps of a protocol that looks at the central crop lie on it, and what is special of a protocol is said."""
    page = render(dataclasses.replace(results, protocol={"name": protocol}))
    assert data_of(page)["view"] == pytest.approx(view)
    assert words is None or words in page


def test_rows_without_boxes_are_not_offered(folder: Path, records: list[ImageResult], render: Render) -> None:
    """A row that no image has a box of cannot be chosen in the gallery; its scores are in the table."""
    write_images(folder / IMAGES_NAME, [dataclasses.replace(r, found={"FAM": r.found["FAM"]}) for r in records])
    data = data_of(render())
    assert data["boxRows"] == [0]
    assert len(data["rows"]) == 2
