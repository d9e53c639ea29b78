"""From the file to its deletion, as a person does it; and what goes wrong on the way."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from serve_apps.keys import add_key
from sleepmami.config import ServeConfig
from sleepmami.signals.deidentify import deidentify
from tests.browser.conftest import NewPage, drawn, shown, to_results
from tests.local_service import tiny_service, write_recording

NAME = b"JANE-DOE"


def text(page: Any, selector: str) -> str:
    return page.inner_text(selector)


def kept(state: Path) -> set[Path]:
    """Folders of uploads and jobs that the service holds."""
    return {*(state / "uploads").iterdir(), *(state / "jobs").iterdir()}


def small_parts(page: Any, kilobytes: int = 64) -> None:
    """As if the service took smaller parts, so that a small file has several."""

    def answer(route: Any) -> None:
        info = route.fetch().json()
        info["limits"]["max_part_mb"] = kilobytes / 1024
        route.fulfill(json=info)

    page.route("**/info", answer)
    page.reload()
    page.wait_for_selector("#retention:not([hidden])")


def test_a_name_in_the_header_never_leaves(
    service: str, new_page: NewPage, recording: Path
) -> None:
    page = new_page(service)
    sent: list[bytes] = []

    def note(request: Any) -> None:
        head = json.dumps([request.url, request.all_headers()]).encode()
        sent.extend((head, request.post_data_buffer or b""))

    page.on("requestfinished", note)
    to_results(page, recording)
    assert len(sent) > 8
    assert not [part for part in sent if NAME in part.upper() or b"1970" in part]
    clean = io.BytesIO()
    deidentify(recording, clean)
    assert clean.getvalue() in sent
    page.click("#step-results [data-delete]")
    shown(page, "deleted")


def test_results_tell_the_night_and_deleting_leaves_nothing(
    service: str, new_page: NewPage, recording: Path, state: Path
) -> None:
    before = kept(state)
    page = new_page(service)
    to_results(page, recording)
    assert "12 epochs of 30 s, 12 of them with a usable signal. Missing: ECG, RESP, SPO2." in text(
        page, "#results-summary"
    )
    assert re.search(r"Wake .*N3 ", text(page, "#hypnogram"))
    assert "Mean confidence 0." in text(page, "#hypnogram")
    assert page.locator("#overview .plot.band").count() == 3
    assert page.locator("#map circle").count() == 12 + 1
    assert page.locator("#neighbors li").count() == 5
    facts = text(page, "#facts")
    assert re.search(r"sleepmami-\w{12}", facts)
    assert re.search(r"[0-9a-f]{64}", facts)
    assert "EEG (as recorded)" in facts
    page.focus("#epoch")
    page.keyboard.press("End")
    assert text(page, "#epoch-text").startswith("12 of 12, 0:05:30 from the start; ")
    with page.expect_download() as download:
        page.click("#downloads a[download='embeddings.npz']")
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"
    assert len(kept(state) - before) == 2
    page.click("#step-results [data-delete]")
    shown(page, "deleted")
    told = text(page, "#deleted-list")
    assert "The job, with all results that it had." in told
    assert "The uploaded recording" in told
    assert kept(state) == before


def test_a_dropped_file_is_taken(service: str, new_page: NewPage, recording: Path) -> None:
    page = new_page(service)
    dropped = page.evaluate_handle(
        """(data) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(data)], "night.edf"));
          return transfer;
        }""",
        list(recording.read_bytes()[: 256 * 5 + 2000]),
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": dropped})
    assert page.locator("#drop.over").count() == 1
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    shown(page, "clean")
    assert "cut short" in text(page, "#clean-summary")
    assert "X X X X" in text(page, "#clean-table")


def test_everything_is_done_by_keyboard_alone(
    service: str, new_page: NewPage, recording: Path
) -> None:
    page = new_page(service)

    def tab_to(selector: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        pytest.fail(f"no way to {selector} with Tab")

    # Chromium is told in its own time that we want the dialog; it would open one that nobody sees
    with page.expect_file_chooser() as chooser:
        tab_to("#file")
        page.keyboard.press("Enter")
    chooser.value.set_files(recording)
    shown(page, "clean")
    assert page.evaluate("document.activeElement.id") == "clean-title"
    tab_to("#upload")
    page.keyboard.press("Enter")
    shown(page, "look")
    tab_to("#embed")
    page.keyboard.press("Enter")
    drawn(page)
    tab_to("#epoch")
    page.keyboard.press("ArrowRight")
    assert text(page, "#epoch-text").startswith("2 of 12")
    tab_to("#step-results [data-delete]")
    page.keyboard.press("Enter")
    shown(page, "deleted")
    assert page.evaluate("document.activeElement.id") == "deleted-title"


def test_a_cut_upload_goes_on_where_it_ended(
    service: str, new_page: NewPage, recording: Path, state: Path
) -> None:
    before = kept(state)
    page = new_page(service, allow_failures=True)
    small_parts(page)
    offsets: list[int] = []

    def cut(route: Any) -> None:
        offsets.append(int(route.request.headers["upload-offset"]))
        if len(offsets) == 3:
            route.fetch()  # it arrives, but its answer does not
            route.abort("connectionreset")
        elif len(offsets) in (5, 6):
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(
        re.compile("/v1/uploads/"),
        lambda route: cut(route) if route.request.method == "PATCH" else route.continue_(),
    )
    page.set_input_files("#file", recording)
    page.click("#upload")
    shown(page, "look")
    part = 64 * 1024
    assert [offset // part for offset in offsets] == [0, 1, 2, 3, 4, 4, 4, 5]
    clean = io.BytesIO()
    deidentify(recording, clean)
    (stored,) = kept(state) - before
    assert (stored / "data").read_bytes() == clean.getvalue()
    page.click("#step-look [data-delete]")
    shown(page, "deleted")


def test_an_upload_pauses_resumes_and_survives_a_reload(
    service: str, new_page: NewPage, recording: Path, state: Path
) -> None:
    before = kept(state)
    page = new_page(service)
    small_parts(page)
    parts = 0
    held: list[Any] = []

    def hold(route: Any) -> None:
        nonlocal parts
        if route.request.method != "PATCH":
            route.continue_()
            return
        parts += 1
        if parts in (2, 3):
            held.append(route)  # answered never
        else:
            route.continue_()

    page.route(re.compile("/v1/uploads/"), hold)
    page.set_input_files("#file", recording)
    page.click("#upload")
    page.wait_for_selector("#upload-text:has-text('66 kB of')")
    page.click("#pause")
    page.wait_for_selector("#resume:not([hidden])")
    assert text(page, "#upload-title") == "Upload paused"
    assert "What has arrived is kept" in text(page, "#status")
    page.click("#resume")
    while len(held) < 2:
        page.wait_for_timeout(20)
    page.on("dialog", lambda dialog: dialog.accept())  # leave, although it is not complete
    page.reload()
    page.wait_for_selector("#retention:not([hidden])")
    with page.expect_request(lambda request: request.method == "HEAD"):
        page.set_input_files("#file", recording)
        page.click("#upload")
    shown(page, "look")
    assert len(kept(state) - before) == 1
    page.click("#step-look [data-delete]")
    shown(page, "deleted")


def test_what_is_no_recording_is_refused_before_anything_is_sent(
    service: str, new_page: NewPage, tmp_path: Path
) -> None:
    page = new_page(service)
    posted: list[str] = []
    page.on(
        "request", lambda request: posted.append(request.url) if request.method != "GET" else None
    )
    path = tmp_path / "night.edf"
    path.write_text("Dear Jane, this is a letter.")
    page.set_input_files("#file", path)
    page.wait_for_selector("#error:not([hidden])")
    assert text(page, "#error-title") == "This file is not an EDF or BDF recording."
    assert "Nothing was sent" in text(page, "#error-advice")
    assert text(page, "#error-code") == "not_an_edf"
    assert page.evaluate("document.activeElement.id") == "error-title"
    assert posted == []


@pytest.mark.parametrize(("status", "code"), [(429, "overloaded"), (503, "model_not_ready")])
def test_a_busy_service_is_asked_again_when_it_says(
    status: int, code: str, service: str, new_page: NewPage, recording: Path
) -> None:
    page = new_page(service, allow_failures=True)
    refused: list[str] = []

    def refuse_once(route: Any) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route.request.url)
        body = {"error": {"code": code, "message": "", "request_id": "r-1"}}
        route.fulfill(status=status, json=body, headers={"retry-after": "2"})

    page.route(re.compile("/v1/jobs$"), refuse_once)
    page.set_input_files("#file", recording)
    page.click("#upload")
    shown(page, "look")
    page.click("#embed")
    page.wait_for_selector("#status:has-text('Trying again in 2 s.')")
    drawn(page)
    page.click("#step-results [data-delete]")
    shown(page, "deleted")


def test_a_failure_is_told_with_code_and_request_id(
    service: str, new_page: NewPage, recording: Path
) -> None:
    page = new_page(service, allow_failures=True)
    body = {"error": {"code": "quota_exceeded", "message": "", "request_id": "r-77"}}
    page.route(
        re.compile("/v1/uploads$"),
        lambda route: route.fulfill(status=429, json=body, headers={"retry-after": "60"}),
    )
    page.set_input_files("#file", recording)
    page.click("#upload")
    page.wait_for_selector("#error:not([hidden])")
    assert "quota of your key is used up" in text(page, "#error-title")
    assert "wait 60 s" in text(page, "#error-advice")
    assert (text(page, "#error-code"), text(page, "#error-request-id")) == (
        "quota_exceeded",
        "r-77",
    )
    page.unroute_all()
    page.click("#error-again")
    shown(page, "look")
    page.click("#step-look [data-delete]")
    shown(page, "deleted")


def test_a_job_is_found_again_by_the_address(
    service: str, new_page: NewPage, recording: Path
) -> None:
    page = new_page(service)
    to_results(page, recording)
    page.reload()
    drawn(page)
    assert page.locator("#map circle").count() == 13
    page.click("#step-results [data-delete]")
    shown(page, "deleted")
    assert "The uploaded recording" in text(page, "#deleted-list")


def test_a_service_with_keys_asks_for_one_and_again_when_the_session_is_over(
    tmp_path: Path, chromium: Any
) -> None:
    keys = tmp_path / "keys.json"
    key, _ = add_key(keys, "clinic-a")
    recording = tmp_path / "night.edf"
    write_recording(recording)
    with tiny_service(ServeConfig(keys_file=str(keys)), staging=False) as url:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(url)
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#retention:not([hidden])")
        page.set_input_files("#file", recording)
        shown(page, "clean")
        context.clear_cookies()
        page.click("#upload")
        page.wait_for_selector("#sign-in:not([hidden])")
        assert text(page, "#error-code") == "unauthorized"
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-wrong:not([hidden])")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        shown(page, "look")
        assert page.input_value("#key") == ""
        page.click("#embed")
        drawn(page)
        assert "no hypnogram" in text(page, "#hypnogram")
        assert "No cohort is served here" in text(page, "#neighbors")
        page.click("#sign-out")
        page.wait_for_selector("form[action='/session']")
        context.close()


def test_a_real_recording_is_taken_to_its_results(
    shared_data: Path, service: str, new_page: NewPage
) -> None:
    path = shared_data / "psg" / "Osas2002plusQRS.edf"
    if not path.exists():
        pytest.skip(f"no {path.name} among the real recordings")
    page = new_page(service)
    page.set_input_files("#file", path)
    page.click("#upload")
    shown(page, "look")
    assert page.locator("#modalities li.missing").count() == 0
    assert page.locator("#channels td.used").count() == 6
    page.click("#embed")
    drawn(page)
    assert "20 min in 40 epochs of 30 s" in text(page, "#results-summary")
    assert page.locator("#overview .plot.band").count() == 6
    page.click("#step-results [data-delete]")
    shown(page, "deleted")
