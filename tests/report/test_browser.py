"""The report in a browser: what a reader sees, clicks and types."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from famcli.report.page import write_report
from famcli.results.images import ImageResult
from famcli.results.io import IMAGES_NAME, write_images
from famcli.results.schema import Results
from famcli_models.files import sha256_file

pytestmark = pytest.mark.slow

IMAGES = 60  # more than a page of the gallery
ODD = "<script>document.title='run'</script> & \"dog\""


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory,
    make_records: Callable[..., list[ImageResult]],
    make_results: Callable[..., Results],
    checkpoint: Path,
) -> tuple[list[ImageResult], Results, Path]:
    """Records, results and report; a photo is missing, names are odd, and some images have parts."""
    folder = tmp_path_factory.mktemp("report")
    records = make_records(folder / "photos", IMAGES)
    records[1] = dataclasses.replace(records[1], name="a 'b' <img src=x onerror=alert(1)>.png", path="/nowhere.png")
    names = ("cat", ODD, "cup")
    source = {"kind": "model", "name": str(checkpoint)}
    source["weights_sha256"] = sha256_file(checkpoint / "model.safetensors")
    results = make_results(records, names, source=source)
    write_images(folder / IMAGES_NAME, records)
    write_report(results, folder, folder / "report.html", device="cpu")
    return records, results, folder / "report.html"


class Page:
    """What a test asks of the page; elements are found by CSS selectors."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def click(self, selector: str) -> None:
        element = self.one(selector)
        self.run("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)
        element.click()

    def choose(self, selector: str, value: str) -> None:
        """Choose in a list as a hand does: its value, then the event."""
        self.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            self.one(selector),
            value,
        )

    def keys(self, *keys: str) -> None:
        """Type where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for something, ten seconds at most."""
        end = time.monotonic() + 10
        while not true():
            assert time.monotonic() < end
            time.sleep(0.02)

    def names(self) -> list[str]:
        return self.run("return [...document.querySelectorAll('.card-button')].map((e) => e.title)")

    def size(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)

    def background(self) -> str:
        return self.run("return getComputedStyle(document.body).backgroundColor")


@pytest.fixture
def page(driver: Any, shown: tuple[list[ImageResult], Results, Path]) -> Page:
    """The report, freshly opened, 1200 pixels wide."""
    page = Page(driver)
    page.size(1200)
    page.prefer("light")
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # what was there before
    driver.get(shown[2].as_uri())
    assert page.run("return document.documentElement.dataset.ready") == "yes"
    return page


def test_numbers(page: Page, shown: tuple[list[ImageResult], Results, Path]) -> None:
    """The numbers of the results stand at the top and in the table, with intervals."""
    number = shown[1].rows[0].metrics["gt_known"]
    assert page.texts(".tile dd")[0] == f"{number.value:.1f} {number.low:.1f} to {number.high:.1f}"
    head = page.texts("#scores thead th")
    first = page.texts("#scores tbody tr:first-child > *")
    assert dict(zip(head, first, strict=True))["GT-known"].startswith(f"{number.value:.1f}")
    assert page.texts("#differences b") == ["+12.5"]


def test_filter_by_kind(page: Page, shown: tuple[list[ImageResult], Results, Path]) -> None:
    """A click on a kind leaves the images of that kind, and says how many there are."""
    expected = [record.name for record in shown[0] if record.found["FAM"].kind == "too much"]
    before = page.names()
    assert page.one("[data-kind='too much']").text == f"too much {len(expected)}"
    page.click("[data-kind='too much']")
    assert page.names() == expected != before
    assert set(page.texts(".caption > :last-child")) == {"✗ too much"}
    assert page.one("#count").text == f"1 to {len(expected)} of {len(expected)} images"
    assert page.one("[data-kind='too much']").get_attribute("aria-pressed") == "true"
    page.click("[data-kind='']")
    assert page.names() == before


def test_filter_by_class_and_text(page: Page, shown: tuple[list[ImageResult], Results, Path]) -> None:
    """A class and a text each leave fewer images; text that fits none says so."""
    page.choose("#class", "2")
    assert sorted(page.names()) == [record.name for record in shown[0] if record.label == 2]
    assert set(page.texts(".caption .name")) == {"cup"}
    page.one("#find").send_keys("PHOTO 05")
    assert page.names() == ["photo 05.png"]
    page.one("#find").send_keys("no such thing")
    assert page.names() == []
    assert page.one("#count").text == "No image passes these filters."


def test_order(page: Page, shown: tuple[list[ImageResult], Results, Path]) -> None:
    """Best, worst and random first are three orders; in the worst an image without a box comes first."""
    best = page.names()
    assert best[0] == shown[0][0].name
    page.choose("#order", "worst")
    assert page.names()[0] == next(r.name for r in shown[0] if r.found["FAM"].box is None)
    page.choose("#order", "random")
    random = page.names()
    assert random not in (best, best[::-1])
    page.choose("#order", "name")
    assert page.names() == sorted(record.name for record in shown[0])[:48]


def test_pages(page: Page) -> None:
    """Only one page of images is in the document; the next page has the others."""
    first = page.names()
    assert len(first) == 48
    assert page.one("#page").text == "Page 1 of 2"
    page.click("#next-page")
    second = page.names()
    assert len(second) == IMAGES - 48
    assert not set(first) & set(second)


def test_row_and_layers(page: Page) -> None:
    """Another row has its own IoU, box and map; map and boxes can be hidden."""
    pixels = "return document.querySelector('.card-button canvas').toDataURL()"
    fam, box = page.run(pixels), page.one(".found-box").get_attribute("width")
    assert page.one(".caption .iou").text == "IoU 1.00"
    page.choose("#row", "1")
    assert set(page.texts(".caption .iou")) == {"IoU 0.25"}
    assert page.run(pixels) != fam
    assert page.one(".found-box").get_attribute("width") != box == "19.5"
    assert page.one(".card-button canvas").is_displayed()
    page.click("#show-map")
    assert not page.one(".card-button canvas").is_displayed()
    assert page.one(".card-button svg").is_displayed()
    page.click("#show-boxes")
    assert not page.one(".card-button svg").is_displayed()
    assert page.one("#view-map").get_attribute("checked") is None


def test_map_has_the_values_of_the_record(page: Page, shown: tuple[list[ImageResult], Results, Path]) -> None:
    """What is drawn is the record's map: as many pixels, the more opaque the higher the value."""
    drawn = page.run(
        "const c = document.querySelector('.card-button canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return [c.height, c.width, [...d].filter((_, i) => i % 4 === 3)]"
    )
    values = shown[0][0].maps["FAM"]
    assert (drawn[0], drawn[1]) == values.shape
    assert drawn[2] == pytest.approx((values * 0.5).ravel().tolist(), abs=1)


def test_pictures_are_decoded(page: Page) -> None:
    """Thumbnails are real pictures in the photo's shape; one that is missing says so."""
    page.run("document.querySelector('#cards').scrollIntoView({behavior: 'instant'})")
    page.driver.set_script_timeout(10)
    sizes = page.driver.execute_async_script(
        "const done = arguments[0]; const all = [...document.querySelectorAll('.photo img')].slice(0, 4);"
        "Promise.all(all.map((i) => i.decode())).then(() => done(all.map((i) => [i.naturalWidth, i.naturalHeight])))"
    )
    assert sizes == [[40, 30]] * 4
    assert page.texts(".missing") == ["no photo"]
    shape = page.run("const r = document.querySelector('.photo').getBoundingClientRect(); return r.width / r.height")
    assert shape == pytest.approx(40 / 30, rel=0.02)


def test_classes_are_sorted_and_found(page: Page) -> None:
    """A click sorts by a column, another turns it round, and only the sorted column says so."""
    first = "#classes-table tbody th"
    assert page.texts(first) == ["cat", ODD, "cup"]
    head = "#classes-table th:nth-child(3)"
    page.click(f"{head} button")
    assert page.texts(first) == [ODD, "cat", "cup"]  # 9, 50 and 100 percent: as numbers, not as text
    assert page.one(head).get_attribute("aria-sort") == "ascending"
    page.run("document.querySelector(arguments[0]).focus()", f"{head} button")
    page.keys("\ue007")
    assert page.texts(first) == ["cup", "cat", ODD]
    assert page.one(head).get_attribute("aria-sort") == "descending"
    page.click("#classes-table th:nth-child(1) button")
    assert len(page.driver.find_elements("css selector", "[aria-sort]")) == 1
    page.one("#find-class").send_keys("cup")
    assert page.texts("#classes-table tbody tr:not([hidden]) th") == ["cup"]
    assert page.one("#class-count").text == "1 of 3 classes"
    page.click("[data-label='2']")
    assert set(page.texts(".caption .name")) == {"cup"}


def test_theme(page: Page) -> None:
    """Dark and light follow the system until the button is pressed."""
    light = page.background()
    page.prefer("dark")
    dark = page.background()
    assert dark != light
    page.until(lambda: page.one("#theme").text == "Light")  # the page hears of the change a moment later
    page.click("#theme")
    assert page.background() == light
    page.click("#theme")
    assert page.background() == dark


@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_sideways_scrolling(page: Page, width: int) -> None:
    """On a telephone nothing is wider than the screen; wide tables scroll by themselves."""
    page.size(width)
    for details in page.driver.find_elements("css selector", "details"):
        page.run("arguments[0].open = true", details)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.click(".card-button")
    assert page.run("const v = document.getElementById('view'); return v.scrollWidth - v.clientWidth") == 0


def test_keyboard(page: Page, shown: tuple[list[ImageResult], Results, Path]) -> None:
    """Without a mouse: the gallery is one stop of Tab, arrows move in it, Enter enlarges, Escape goes back."""
    focused = "return document.activeElement.title || document.activeElement.id || document.activeElement.dataset.kind"
    page.run("document.querySelector('[data-kind=empty]').focus()")
    page.keys("\ue004")
    names = page.names()
    assert page.run(focused) == names[0]
    page.keys("\ue014")
    page.keys("\ue014")
    assert page.run(focused) == names[2]
    page.keys("\ue010")
    assert page.run(focused) == names[-1]
    page.keys("\ue011")
    assert page.run(focused) == names[0]
    page.keys("\ue014", "\ue014")
    assert page.run(focused) == names[2]
    page.keys("\ue004")
    assert page.run(focused) == "next-page"
    page.run("document.activeElement.blur(); document.querySelector('.card-button[tabindex=\"0\"]').focus()")
    page.keys("\ue007")
    assert page.one("#view").is_displayed()
    assert page.one("#view-title").text == names[2]
    page.keys("\ue014")
    assert page.one("#view-title").text == names[3]
    assert page.one("#view-place").text == f"4 of {IMAGES}"
    page.keys("\ue00c")
    assert not page.one("#view").is_displayed()
    assert page.run(focused) == names[3]
    outline = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, parseFloat(s.outlineWidth)]"
    assert page.run(outline) == ["solid", 3]


def test_large_view(page: Page, shown: tuple[list[ImageResult], Results, Path]) -> None:
    """The large view has a larger picture, all rows, the classes and, of some images, the parts with weights."""
    page.click(".card-button")
    record = shown[0][0]
    cells = page.texts("#view-facts tbody:first-of-type tr:first-child > *")
    assert cells[:4] == ["FAM", "1.000", record.found["FAM"].kind, "1 2 21 25"]
    assert "✓ cat" in page.texts("#view-facts th")
    parts = page.texts("#view-facts .part-row > span")
    weights = [float(text.split("t = ")[1]) for text in parts]
    assert sum(weights) == pytest.approx(1, abs=0.01 * len(weights))
    assert page.texts("#part-rows h3") != []
    source = page.run("return document.querySelector('#view-picture img').src.length")
    assert source > page.run("return document.querySelector('.card-button img').src.length") * 0.5
    page.choose("#view-row", "1")
    assert page.one("#view-picture .found-box").get_attribute("width") == "9"


def test_nothing_odd_and_nothing_from_outside(page: Page) -> None:
    """The console stays empty, no name runs as code, nothing is asked for from elsewhere, and nothing may be."""
    page.choose("#order", "worst")
    page.click("#next-page")
    assert page.driver.title.endswith("on drawn/test")
    assert page.driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked
    assert {url.split(":", 1)[0] for url in asked} <= {"file", "data"}
    blocked = page.driver.execute_async_script(
        "const done = arguments[0]; document.addEventListener('securitypolicyviolation', (e) => done(e.blockedURI));"
        "new Image().src = 'http://127.0.0.1:9/x.png'"
    )
    assert blocked.startswith("http://127.0.0.1:9")
