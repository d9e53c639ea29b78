"""A Chromium of this machine, driven by Playwright; every page is held to its promises at the end."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from sleepmami.config import ServeConfig
from tests.bundles import random_bundle
from tests.local_service import tiny_service, write_recording
from tests.unit.serve_apps.test_cohort import write_cohort

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
# what Chromium itself says when an answer is an error that a test asked for
EXPECTED_ERRORS = "Failed to load resource: "

NewPage = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")  # its event loop would be in the way of other folders' tests
def chromium() -> Iterator[Any]:
    """The browser; skips where it or Playwright is absent."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install 'sleepmami[browser]'"
    )
    if CHROMIUM is None:
        pytest.skip("needs a Chromium on the PATH, or its path in CHROMIUM")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium: Any) -> Iterator[NewPage]:
    """Opens pages; none of them may have asked another host or failed in its script."""
    contexts = []

    def open_page(url: str, *, allow_failures: bool = False, **settings: Any) -> Any:
        context = chromium.new_context(**settings)
        page = context.new_page()
        page.set_default_timeout(60_000)
        seen: dict[str, list[str]] = {"hosts": [], "errors": []}
        page.on("request", lambda request: seen["hosts"].append(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: seen["errors"].append(str(error)))
        page.on(
            "console",
            lambda said: (
                seen["errors"].append(said.text)
                if said.type in ("error", "warning")
                and not (allow_failures and said.text.startswith(EXPECTED_ERRORS))
                else None
            ),
        )
        contexts.append((context, url, seen))
        page.goto(url)
        page.wait_for_selector("#retention:not([hidden])")
        return page

    yield open_page
    for context, url, seen in contexts:
        context.close()
        assert set(seen["hosts"]) <= {urlsplit(url).netloc, ""}  # blob: has none
        assert seen["errors"] == []


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service keeps uploads and jobs."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def service(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a staging probe and five nights to compare with."""
    bundle = random_bundle()
    assert bundle.macro is not None
    nights = np.random.default_rng(1).standard_normal((5, 2 * bundle.macro.model.dim))
    folder = tmp_path_factory.mktemp("cohort")
    cohort = write_cohort(folder, nights.astype(np.float32), weights=bundle.weights_sha256)
    with tiny_service(ServeConfig(cohort=cohort, state_dir=str(state))) as url:
        yield url


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Six minutes of noise of somebody whose name is in the header."""
    path = tmp_path / "JANE-DOE-1970.edf"
    write_recording(path, 360, patient="P7 F 01-JAN-1970 JANE-DOE")
    return path


def shown(page: Any, step: str) -> None:
    """Wait until a step is on the screen."""
    page.wait_for_selector(f"#step-{step}:not([hidden])")


def to_results(page: Any, path: Path) -> None:
    """From an open page to its last step."""
    page.set_input_files("#file", path)
    shown(page, "clean")
    page.click("#upload")
    shown(page, "look")
    page.click("#embed")
    drawn(page)


def drawn(page: Any) -> None:
    """Wait until the results are all there."""
    shown(page, "results")
    page.wait_for_selector("#status:text-is('Done.')")
