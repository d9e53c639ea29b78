"""The page's files over HTTP: whole, held to themselves by the policy, and nothing beside them."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps import routes_page
from serve_apps.openapi import NoBackend
from tests.attacks.service import guarded_app, talk
from tests.unit.serve_apps.fakes import call

PAGE = Path(routes_page.__file__).with_name("page")
SCRIPTS = sorted(PAGE.glob("*.js"))


def get(path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return call(NoBackend(), lambda client: client.get(path, headers=headers or {}))


def test_index_may_run_no_script_but_its_own() -> None:
    answer = get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_index_holds_nothing_that_the_policy_would_stop() -> None:
    page = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", page) == []


def test_all_that_is_loaded_is_there_and_is_of_this_service() -> None:
    names = {path.name for path in PAGE.iterdir()} | {routes_page.WORDS}
    loaded = set(re.findall(r'(?:src|href)="/page/([^"]+)"', (PAGE / "index.html").read_text()))
    for script in SCRIPTS:
        loaded |= set(re.findall(r'from "\./([^"]+)"', script.read_text()))
        loaded |= set(re.findall(r'"/page/([^"]+)"', script.read_text()))
    assert loaded == names - {"index.html"}
    for path in PAGE.iterdir():
        addresses = set(re.findall(r"https?://[\w./-]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name  # a name, not an address
    for name in loaded:
        answer = get(f"/page/{name}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == routes_page.TYPES[name.rpartition(".")[2]]


@pytest.mark.parametrize(
    "name",
    ["index.html", "__init__.py", "..%2Fkeys.py", "../keys.py", "%2Fetc%2Fpasswd", "app.js%00"],
)
def test_nothing_else_can_be_asked_for(name: str) -> None:
    answer = get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_a_file_that_has_not_changed_is_not_sent_again() -> None:
    first = get("/page/app.js")
    again = get("/page/app.js", {"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert get("/page/style.css", {"if-none-match": first.headers["etag"]}).status_code == 200


def test_with_keys_the_page_and_its_files_want_one(tmp_path: Path) -> None:
    app, _ = guarded_app(tmp_path)
    paths = ["/", *(f"/page/{path.name}" for path in SCRIPTS), "/page/words.json"]

    async def statuses(client: httpx.AsyncClient) -> Any:
        return {(await client.get(path)).status_code for path in paths}

    assert talk(app, statuses) == {401}
    again, key = guarded_app(tmp_path)
    assert talk(again, statuses, key) == {200}


def test_only_with_keys_there_is_something_to_sign_out_of(tmp_path: Path) -> None:
    app, key = guarded_app(tmp_path)

    async def index(client: httpx.AsyncClient) -> Any:
        return (await client.get("/")).text

    assert 'data-keys="yes"' in talk(app, index, key)
    assert 'data-keys="no"' in get("/").text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_no_markup_of_text_and_stay_short(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert "localStorage" not in text
    assert len(text.splitlines()) <= 400
