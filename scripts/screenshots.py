"""Take the pictures of the page that docs/guides/page.md shows.

    python scripts/screenshots.py

Needs Chromium and its driver, the extra 'app' and selenium. The photographs are those of `fam demo`.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

from famcli.web.server import serving
from famcli_models.checkpoint import DEFAULT_MODEL

ASSETS = Path(__file__).parent.parent / "docs" / "assets"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
BESIDE = f"{DEFAULT_MODEL} · CAM"
PHOTOGRAPH = 4  # the cup of coffee, in the gallery


def main() -> int:
    """Open the page with the examples, once wide and light with CAM beside FAM, and once narrow and dark."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if not all(programs.values()):
        sys.exit("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs["chromedriver"]))
    try:
        with serving([DEFAULT_MODEL]) as url:
            take(driver, url, "page.webp", (1280, 1010), "light", beside=True)
            take(driver, url, "page-narrow.webp", (390, 1560), "dark", beside=False)
    finally:
        driver.quit()
    return 0


def take(driver: Any, url: str, name: str, size: tuple[int, int], scheme: str, *, beside: bool) -> None:
    """Show the examples, choose one, and write what is shown."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme_wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_wanted)
    driver.get(url)

    def found(selector: str) -> list[Any]:
        return list(driver.find_elements("css selector", selector))

    until(lambda: found("#examples"))
    found("#examples")[0].click()
    until(lambda: found("#gallery img"))
    driver.execute_script("document.querySelectorAll('#gallery button')[arguments[0]].click()", PHOTOGRAPH)
    until(lambda: "coffee" in found("#left-facts")[0].text)
    if beside:
        found("#right-model input")[0].click()
        until(lambda: found("[role=option]"))
        next(option for option in found("[role=option]") if BESIDE in option.text).click()
        until(lambda: found("#right-picture img"))
    driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    time.sleep(1)  # pictures fade in
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture.save(ASSETS / name, quality=82, method=6)
    print(ASSETS / name)


def until(true: Callable[[], Any]) -> None:
    """Wait for something, half a minute at most."""
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
