"""The pictures of docs/page: `python -m tests.browser.screenshots RECORDING`, random weights."""

import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from sleepmami.config import ServeConfig
from tests.browser.conftest import CHROMIUM, drawn, shown
from tests.bundles import random_bundle
from tests.local_service import tiny_service
from tests.unit.serve_apps.test_cohort import write_cohort

FOLDER = Path(__file__).resolve().parents[2] / "docs/page"
LARGEST = 150_000  # bytes of a picture in its own colours


def save(page: Any, name: str, height: int | None = None) -> None:
    """The whole page, at most `height` pixels of it."""
    page.evaluate("window.scrollTo(0, 0)")
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, height or picture.height)))
    file = FOLDER / f"{name}.png"
    picture.save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        picture.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(file, optimize=True)


def take(browser: Any, url: str, recording: Path, scheme: str, width: int) -> None:
    """All states of one look."""
    page = browser.new_page(
        viewport={"width": width, "height": 700}, color_scheme=scheme, locale="en-GB"
    )
    page.goto(url)
    page.wait_for_selector("#retention:not([hidden])")
    wide = width > 1000
    if wide:
        save(page, f"choose-{scheme}")
    else:
        page.set_input_files(
            "#file", {"name": "letter.edf", "mimeType": "", "buffer": b"Dear Jane,"}
        )
        page.wait_for_selector("#error:not([hidden])")
        save(page, f"error-{scheme}-{width}")
    page.set_input_files("#file", recording)
    shown(page, "clean")
    if wide:
        page.click("#labels-summary")
    save(page, f"clean-{scheme}-{width}")
    held: list[Any] = []
    page.route(re.compile("/v1/uploads/"), lambda route: held.append(route))
    page.click("#upload")
    shown(page, "upload")
    while not held:
        page.wait_for_timeout(20)
    page.click("#pause")
    page.wait_for_selector("#resume:not([hidden])")
    if not wide:
        save(page, f"upload-{scheme}-{width}")
    page.unroute_all()
    page.click("#resume")
    shown(page, "look")
    if wide:
        save(page, f"look-{scheme}-{width}")
    page.click("#embed")
    drawn(page)
    page.evaluate("epoch.value = Math.floor(epoch.max / 3); epoch.oninput()")
    save(page, f"results-{scheme}-{width}", None if wide else 2600)
    page.click("#step-results [data-delete]")
    shown(page, "deleted")
    page.close()


def main(recording: Path) -> None:
    """Light on a wide screen, dark on a phone."""
    FOLDER.mkdir(exist_ok=True)
    bundle = random_bundle()
    assert bundle.macro is not None
    nights = np.random.default_rng(1).standard_normal((5, 2 * bundle.macro.model.dim))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        cohort = write_cohort(
            Path(folder), nights.astype(np.float32), weights=bundle.weights_sha256
        )
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with tiny_service(ServeConfig(cohort=cohort)) as url:
            take(browser, url, recording, "light", 1440)
            take(browser, url, recording, "dark", 375)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
