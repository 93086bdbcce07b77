"""The page in a browser: what a visitor drops, moves, types and takes away."""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from famcli.demo import PHOTOS, photo_folder
from famcli.inference.predictor import Predictor
from famcli_models.checkpoint import DEFAULT_MODEL

pytestmark = pytest.mark.slow
keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


class Page:
    """What a test asks of the page; elements are found by CSS selectors."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def until(self, true: Callable[[], Any], seconds: float = 30) -> Any:
        end = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < end, (self.text("body"), self.driver.get_log("browser"))
            time.sleep(0.05)
        return value

    def upload(self, *paths: Path, folder: bool = False) -> None:
        kind = "#folder" if folder else "#files"
        inputs = self.driver.find_elements("css selector", "input[type=file]")
        chosen = [i for i in inputs if (i.get_dom_attribute("webkitdirectory") is not None) == folder]
        assert chosen, kind
        chosen[0].send_keys("\n".join(map(str, paths)))

    def click(self, selector: str) -> None:
        element = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def box(self, side: str = "left") -> list[float]:
        """The corners of the first box below the picture, or none."""
        found = re.search(r"(\d+), (\d+), (\d+), (\d+)", self.text(f"#{side}-facts"))
        return [float(corner) for corner in found.groups()] if found else []

    def choose(self, selector: str, title: str) -> None:
        self.click(f"{selector} input")
        options = self.until(lambda: self.driver.find_elements("css selector", "[role=option]"))
        next(option for option in options if title in option.text).click()

    def download(self, kind: str) -> Path:
        """The file that comes when a kind is chosen and the button pressed."""
        before = set(self.downloads.iterdir())
        labels = self.driver.find_elements("css selector", "fieldset label")
        label = next(label for label in labels if label.text == kind)
        self.run("arguments[0].scrollIntoView({block: 'center'})", label)
        label.click()
        self.click("#download")

        def new() -> list[Path]:
            return [p for p in self.downloads.iterdir() if p not in before and p.suffix != ".crdownload"]

        (path,) = self.until(new)
        return path


@pytest.fixture
def page(driver: Any, served: str, tmp_path: Path) -> Page:
    """The page, freshly opened, 1200 pixels wide and light, with a folder for downloads."""
    (tmp_path / "downloads").mkdir()
    page = Page(driver, tmp_path / "downloads")
    given = {"behavior": "allow", "downloadPath": str(page.downloads)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", given)
    show(page, 1200, "light")
    driver.get_log("performance")  # what was there before
    driver.get(served)
    page.until(lambda: driver.find_elements("css selector", "#files input[type=file]"))
    return page


def show(page: Page, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)


def rounded(box: Any) -> list[float]:
    return [round(corner) for corner in box]


def test_upload_slider_and_downloads(page: Page) -> None:
    """A photograph is found, the slider moves the box, and what is downloaded has the box that is shown."""
    cat = photo_folder() / "chelsea.png"
    page.upload(cat)
    first = page.until(page.box)
    assert first == rounded(Predictor(DEFAULT_MODEL)(cat).boxes[0])
    assert "Egyptian cat" in page.text("#left-facts")
    alt = "return document.querySelector('#left-picture img')?.alt ?? ''"
    assert page.until(lambda: page.run(alt)).startswith("chelsea.png: Egyptian cat, box 35")
    assert page.until(lambda: page.run("return document.querySelector('#left-parts img')?.naturalWidth"))

    slider = page.one("#left-tau input[type=range]")
    page.run("arguments[0].focus()", slider)
    slider.send_keys(keys.ARROW_RIGHT * 25)  # keyboard alone
    assert page.one("#left-tau input[type=number]").get_attribute("value") == "0.75"
    moved = rounded(Predictor(DEFAULT_MODEL, tau=0.75)(cat).boxes[0])
    page.until(lambda: page.box() == moved != first)

    coco = json.loads(page.download("COCO").read_text())
    x, y, w, h = coco["annotations"][0]["bbox"]
    assert rounded([x, y, x + w, y + h]) == moved
    assert coco["images"][0]["file_name"] == "chelsea.png"
    with zipfile.ZipFile(page.download("YOLO")) as found:
        line = found.read("labels/chelsea.txt").decode().split()
        assert found.read("images/chelsea.png") == cat.read_bytes()
    cx, cy, bw, bh = (float(value) for value in line[1:])
    assert rounded([(cx - bw / 2) * 451, (cy - bh / 2) * 300, (cx + bw / 2) * 451, (cy + bh / 2) * 300]) == moved
    with zipfile.ZipFile(page.download("Pascal VOC")) as found:
        (name,) = (name for name in found.namelist() if name.endswith("chelsea.xml"))
        corners = dict(re.findall(r"<(xmin|ymin|xmax|ymax)>([\d.]+)<", found.read(name).decode()))
    assert float(corners["xmax"]) == pytest.approx(moved[2], abs=1)
    with zipfile.ZipFile(page.download("Pictures")) as found, found.open(found.namelist()[0]) as file:
        assert Image.open(file).size == (451, 300)


def test_a_folder_with_a_gallery(page: Page, tmp_path: Path) -> None:
    """Names keep their folders, other files are left out, a broken one is named, and a click shows a photograph."""
    for number, photo in enumerate(PHOTOS[2:4]):
        path = tmp_path / "mine" / f"day {number}" / "same name.png"
        path.parent.mkdir(parents=True)
        path.write_bytes((photo_folder() / photo.file).read_bytes())
    (tmp_path / "mine" / "notes.txt").write_text("not a photograph by its name")
    (tmp_path / "mine" / "broken.jpg").write_text("no photograph")
    page.upload(tmp_path / "mine", folder=True)
    page.until(lambda: "broken.jpg" in page.text("#messages"))
    assert page.text("#messages").startswith("1 of 3 could not be read:")
    shown = "return [...document.querySelectorAll('#gallery .caption-label')].map((e) => e.textContent)"
    names = ["broken.jpg", "day 0/same name.png", "day 1/same name.png"]
    page.until(lambda: page.run(shown) == names)
    page.run("document.querySelectorAll('#gallery button')[2].click()")
    page.until(lambda: page.text("#left-facts").startswith("day 1/same name.png"))
    assert page.driver.find_elements("css selector", "#left-picture img")
    coco = json.loads(page.download("COCO").read_text())
    assert [image["file_name"] for image in coco["images"]] == names[1:]
    assert len(coco["annotations"]) == 2
    page.click("#again")
    page.until(lambda: not page.text("#left-facts"))
    page.until(lambda: not page.one("#download").is_enabled())


def test_two_methods_beside_each_other(page: Page) -> None:
    """CAM on the same photograph has its own threshold and another box."""
    page.upload(photo_folder() / "coffee.png")
    page.until(page.box)
    page.choose("#right-model", f"{DEFAULT_MODEL} · CAM")
    right = page.until(lambda: page.box("right"))
    assert right == rounded(Predictor(DEFAULT_MODEL, method="cam")(photo_folder() / "coffee.png").boxes[0])
    assert page.one("#right-tau input[type=number]").get_attribute("value") == "0.2"
    assert page.driver.find_elements("css selector", "#left-picture img, #right-picture img")
    page.choose("#right-model", "nothing")
    page.until(lambda: not page.driver.find_elements("css selector", "#right-tau"))


def test_another_model(page: Page) -> None:
    """It comes with its own threshold, and the gallery has its boxes on the photographs."""
    names = [photo.file for photo in PHOTOS[2:5:2]]
    page.upload(*(photo_folder() / name for name in names))
    first = page.until(page.box)
    sources = "return [...document.querySelectorAll('#gallery img')].map((e) => e.src)"
    shapes = "return [...document.querySelectorAll('#gallery img')].map((e) => e.naturalWidth / e.naturalHeight)"
    page.until(lambda: page.run(shapes) == [240 / 160] * 2)
    before = page.run(sources)
    page.choose("#left-model", f"{DEFAULT_MODEL} · CAM")
    predictor = Predictor(DEFAULT_MODEL, method="cam")
    page.until(lambda: page.box() == rounded(predictor(photo_folder() / names[0]).boxes[0]) != first)
    assert page.one("#left-tau input[type=number]").get_attribute("value") == "0.2"
    page.until(lambda: not set(before) & set(page.run(sources)))
    page.until(lambda: page.run(shapes) == [240 / 160] * 2)  # they are no blanks
    coco = json.loads(page.download("COCO").read_text())
    assert [annotation["image_id"] for annotation in coco["annotations"]] == [1, 2]


def test_the_network_is_not_asked(page: Page, served: str) -> None:
    """Everything that the page loads, from its start to a picture, is from its own server."""
    page.click("#examples")
    page.until(page.box)
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith(served) for url in urls)
    assert [url for url in urls if not url.startswith((served, "data:", "blob:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_narrow_and_dark(page: Page, served: str, width: int, scheme: str) -> None:
    """Nothing sticks out at 390 pixels, and text has contrast in light and in dark."""
    show(page, width, scheme)
    page.driver.get(served)
    page.until(lambda: page.driver.find_elements("css selector", "#examples"))
    page.click("#examples")
    page.until(page.box)
    page.until(lambda: page.driver.find_elements("css selector", "#gallery img"))
    assert page.run("return document.documentElement.scrollWidth") <= width
    colours = page.run(
        "const of = (e, what) => getComputedStyle(e)[what].match(/[\\d.]+/g).slice(0, 3).map(Number);"
        "return [of(document.body, 'backgroundColor'), of(document.querySelector('#left-facts p'), 'color')]"
    )
    back, text = (luminance(colour) for colour in colours)
    assert (back > 0.5) == (scheme == "light")
    assert (max(back, text) + 0.05) / (min(back, text) + 0.05) >= 4.5


def luminance(rgb: list[float]) -> float:
    """WCAG's relative luminance of a colour."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_by_keyboard_alone(page: Page) -> None:
    """Tab reaches the drop area, the buttons, models, slider and download; Enter presses a button."""
    reached: list[str] = []
    for _ in range(60):
        page.driver.switch_to.active_element.send_keys(keys.TAB)
        reached.append(page.run("return document.activeElement.closest('[id]')?.id ?? ''"))
        if reached[-1] == "examples":
            page.driver.switch_to.active_element.send_keys(keys.ENTER)
            page.until(page.box)
        if reached[-1] == "download":
            break
    assert {"examples", "again", "download"} <= set(reached)
    inside = "return !!document.activeElement.closest(arguments[0])"
    page.run("document.querySelector('#left-tau input[type=range]').focus()")
    assert page.run(inside, "#left-tau")
