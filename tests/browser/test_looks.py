"""Readable in light and dark, on a phone and on a wide screen, and by a screen reader."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import NewPage, drawn, shown

# every visible text's colour against what lies behind it, by WCAG 2.1
CONTRASTS = """() => {
  const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  let count = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".hide, .skip, noscript, svg")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count++;
    if (ratio < 4.5) low.push(`${element.tagName} ${element.textContent.trim().slice(0, 40)} ${ratio.toFixed(2)}`);
  }
  return { count, low };
}"""
UNNAMED = """() => [...document.querySelectorAll("button, input, select, a, progress, meter, [role=img]")]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length))
  .map((element) => element.outerHTML.slice(0, 80))"""


def look_at(page: Any) -> None:
    """The checks of one state."""
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window
    found = page.evaluate(CONTRASTS)
    assert found["count"] > 10
    assert found["low"] == []
    assert page.evaluate(UNNAMED) == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_every_state_fits_and_can_be_read(
    scheme: str, width: int, service: str, new_page: NewPage, recording: Path, tmp_path: Path
) -> None:
    page = new_page(service, viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")  # fmt: skip
    bad = tmp_path / "letter.edf"
    bad.write_text("no recording")
    look_at(page)
    page.set_input_files("#file", bad)
    page.wait_for_selector("#error:not([hidden])")
    look_at(page)
    page.set_input_files("#file", recording)
    shown(page, "clean")
    page.click("#labels-summary")
    look_at(page)
    page.click("#upload")
    shown(page, "look")
    look_at(page)
    page.click("#embed")
    drawn(page)
    look_at(page)
    durations = page.evaluate(
        "[...document.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)"
    )
    assert {part for each in durations for part in each.split(", ")} == {"0s"}
    page.click("#step-results [data-delete]")
    shown(page, "deleted")
    look_at(page)


def test_a_screen_reader_finds_landmarks_headings_and_news(
    service: str, new_page: NewPage, recording: Path
) -> None:
    page = new_page(service)
    tree = page.locator("body").aria_snapshot()
    for landmark in ("banner", "main", "contentinfo", 'navigation "Service"', "status"):
        assert re.search(rf"^\s*- {landmark}", tree, re.MULTILINE), landmark
    assert 'heading "SleepMaMi" [level=1]' in tree
    assert 'heading "Choose a recording" [level=2]' in tree
    news: list[str] = []
    page.expose_function("heard", lambda said: news.append(said))
    page.evaluate(
        """() => new MutationObserver(() => heard(document.getElementById("status").textContent))
             .observe(document.getElementById("status"), { childList: true })"""
    )
    page.set_input_files("#file", recording)
    page.click("#upload")
    shown(page, "look")
    page.click("#embed")
    drawn(page)
    assert {"Reading the header.", "0 % uploaded.", "Looking at the channels.", "Done."} <= set(
        news
    )
    label = page.get_attribute("#hypnogram .stages", "aria-label")
    assert label.startswith("Sleep stages over the night. Wake ")
    page.click("#step-results [data-delete]")
    shown(page, "deleted")


def test_on_paper_are_the_pictures_and_not_the_buttons(
    service: str, new_page: NewPage, recording: Path
) -> None:
    page = new_page(service, color_scheme="dark")
    page.set_input_files("#file", recording)
    page.click("#upload")
    shown(page, "look")
    page.click("#embed")
    drawn(page)
    page.emulate_media(media="print")
    assert page.is_visible("#hypnogram")
    assert page.is_visible("#facts")
    assert not page.is_visible("#downloads")
    assert not page.is_visible("#step-results [data-delete]")
    assert page.evaluate(CONTRASTS)["low"] == []
    assert (
        page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    page.emulate_media(media="screen")
    page.click("#step-results [data-delete]")
    shown(page, "deleted")
