"""The report of several evaluations."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from famcli.report.comparison import write_comparison_report
from famcli.results.schema import Number, SizeScore
from famcli_models.errors import DataError

Make = Callable[..., Path]
FAM, CAM = [0.9, 0.8, 0.7, 0.4], [0.8, 0.1, 0.7, None]


@pytest.fixture
def folders(make_evaluation: Make) -> list[Path]:
    curve = (10.0, 50.0, 30.0)
    return [make_evaluation("fam", FAM, "FAM", curve=curve), make_evaluation("cam", CAM, "CAM", curve=curve[::-1])]


def pictures(page: str) -> list[ET.Element]:
    """The photos with their boxes, in order."""
    found = re.findall(r'<svg viewBox="0 0 60 40".*?</svg>', page, re.DOTALL)
    return [ET.fromstring(svg) for svg in found]  # noqa: S314  (our own page)


def boxes(picture: ET.Element) -> list[str]:
    """Classes of its boxes, without the shades below them."""
    return [name for rect in picture.iter("rect") if (name := rect.attrib["class"]) != "shade"]


def test_page(folders: list[Path], tmp_path: Path) -> None:
    """Tables, a curve of each, and the images with the widest range of IoU first, each with the box of every row."""
    written = write_comparison_report(folders, tmp_path / "page.html", gallery=3)
    assert (written.shown, written.scored, written.missing) == (3, 4, [])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "{{" not in page
    assert page.count('<path class="line s0 d0"') == page.count('<path class="line s1 d0"') == 1
    shown, both = pictures(page), ["true-box", "box s0 d0", "box s1 d0"]
    assert [picture.attrib["aria-label"] for picture in shown] == ["1.png", "3.png", "0.png"]
    assert list(map(boxes, shown)) == [both, both[:2], both]
    ranges = ["IoU 0.10 to 0.80", "IoU 0.00 to 0.40", "IoU 0.80 to 0.90"]
    assert re.findall(r"<summary>(IoU.*?)</summary>", page) == ranges
    assert '<th scope="row">FAM minus CAM</th>' in page
    width = float(next(r.attrib["width"] for r in shown[0].iter("rect") if "s0" in r.attrib["class"]))
    assert width == pytest.approx(2 + 20 * 0.8)


def test_sizes(make_evaluation: Make, tmp_path: Path) -> None:
    """The accuracy by object size of each method that has it."""
    sizes = (SizeScore(4, Number(75.0, 30.1, 95.4), 1.5), *[SizeScore(0, None, None)] * 4)
    folders = [make_evaluation("fam", FAM, "FAM", sizes=sizes), make_evaluation("older", CAM, "CAM")]
    write_comparison_report(folders, tmp_path / "page.html")
    (table,) = re.findall(r'<table id="sizes">.*?</table>', (tmp_path / "page.html").read_text(), re.DOTALL)
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["FAM"]
    assert '75.0 <small class="interval">30.1 to 95.4</small> <small class="interval">area × 1.50</small>' in table


def test_nothing_runs_or_is_loaded(folders: list[Path], tmp_path: Path) -> None:
    """The page has no script and no link to elsewhere, and what users call things is no markup."""
    write_comparison_report(folders[:1], tmp_path / "page.html", groups={"<script>x</script>": folders[1:]})
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "script-src &#39;none&#39;" in page
    assert "<script" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;") >= 4
    markup = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"""\s(on\w+|style|src|srcset)\s*=""", markup)
    assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]*)"', markup))


def test_seeds_are_drawn_once(make_evaluation: Make, tmp_path: Path) -> None:
    """Their curve is the mean, their boxes those of the first, and the page says both."""
    curves = [(10.0, 50.0), (30.0, 60.0)]
    source = {"settings_sha256": "s"}
    folders = [
        make_evaluation(f"{seed}", [FAM, CAM][seed], "CAM", curve=curves[seed], source={**source, "seed": seed})
        for seed in (0, 1)
    ]
    write_comparison_report(folders, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "CAM <small>2 seeds</small>" in page
    assert re.findall(r'<tr><th scope="row">0.[19]</th><td class="number">(.*?)</td>', page) == ["20.0", "55.0"]
    assert all(boxes(picture).count("box s0 d0") == 1 for picture in pictures(page))
    assert "A curve of several seeds is their mean." in page
    assert (
        "Of several seeds the first one&#39;s box is drawn." in page or "Of several seeds the first one's box" in page
    )


def test_missing_photos(folders: list[Path], tmp_path: Path) -> None:
    """One that is gone is blank and named; without any there is no page."""
    photos = tmp_path / "photos"
    (photos / "1.png").unlink()
    written = write_comparison_report(folders, tmp_path / "page.html")
    assert written.missing == [(str(photos / "1.png"), "no such file")]
    assert [len(list(picture.iter("image"))) for picture in pictures((tmp_path / "page.html").read_text())] == [
        0,
        1,
        1,
        1,
    ]
    (tmp_path / "page.html").unlink()
    photos.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"not one photo can be read.*--images DIR"):
        write_comparison_report(folders, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    assert write_comparison_report(folders, tmp_path / "page.html", images=tmp_path / "moved").shown == 4
