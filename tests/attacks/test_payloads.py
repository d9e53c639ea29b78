"""The payload corpus over HTTP, where ray.data's extension types are registered: nothing runs."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps import request_body
from tests.attacks.service import guarded_app, talk
from tests.payload_corpus import NPZ, SAFETENSORS, attacks, good_arrays, npz

EDF = {"content-type": "application/edf"}
IDS = ["..", "../..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a" * 25, "a" * 27, "A" * 26, "%C3%A9" * 26, "%00" * 26,
       "." * 26, "-" * 26, "/etc/passwd", "C:\\x", "~root", "a%0ab", "%ff", "con", "a" * 5000, "'; drop", "{{7*7}}"]  # fmt: skip


def test_no_body_of_the_corpus_runs_or_breaks_the_service(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    app, key = guarded_app(tmp_path)
    corpus = list(attacks(canary))

    async def steps(client: httpx.AsyncClient) -> tuple[list[int], int]:
        statuses = []
        for attack in corpus:
            for path in ("/v1/encode", "/v1/embeddings", "/v2/models/default/infer"):
                kind = attack.content_type if path == "/v1/encode" else "application/edf"
                headers = {"content-type": kind}
                sent = await client.post(path, content=attack.body, headers=headers)
                statuses.append(sent.status_code)
        good = npz(good_arrays())
        after = await client.post("/v1/encode", content=good, headers={"content-type": NPZ})
        return statuses, after.status_code

    statuses, after = talk(app, steps, key)
    print(f"{len(statuses)} bodies of {len(corpus)} kinds: {sorted(set(statuses))}")
    assert not canary.exists()
    assert max(statuses) < 500
    assert after == 200  # it still serves
    unread = sum(attack.name.startswith(("batch with", "schema with")) for attack in corpus)
    assert statuses.count(200) <= unread


READ_ALL = """
import sys
from pathlib import Path
import ray.data  # registers the extension types that run code on reading
import pyarrow as pa
from serve_apps.http_errors import HttpError
from serve_apps.window_payload import windows_of
from tests.payload_corpus import attacks
canary = Path(sys.argv[1])
refused = 0
for attack in attacks(canary):
    try:
        windows_of(attack.body, attack.content_type, 2**26)
    except HttpError:
        refused += 1
print("guard", refused, canary.exists())
for attack in attacks(canary):
    if attack.name == "extension type plain":
        try:
            pa.ipc.open_stream(attack.body).read_all().to_pylist()
        except FileExistsError:  # the second row runs too
            pass
print("careless", canary.exists())
"""


def test_in_a_process_with_ray_data_the_guard_holds_and_a_careless_reader_does_not(
    tmp_path: Path,
) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ_ALL, str(tmp_path / "canary")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    guard, careless = run.stdout.splitlines()[-2:]
    assert guard.startswith("guard ")
    assert guard.endswith(" False")
    assert int(guard.split()[1]) > 50
    assert careless == "careless True", run.stderr  # the attack is real


def test_ids_that_are_paths_reach_no_file(tmp_path: Path) -> None:
    app, key = guarded_app(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.name != "keys.json"}
    tus = {"tus-resumable": "1.0.0"}

    async def steps(client: httpx.AsyncClient) -> set[int]:
        found = set()
        for name in IDS:
            for method in ("HEAD", "DELETE"):
                url = httpx.URL("http://127.0.0.1", raw_path=f"/v1/uploads/{name}".encode())
                found.add((await client.request(method, url, headers=tus)).status_code)
            for suffix in ("", "/events", "/embeddings.npz", "/report.html"):
                url = httpx.URL("http://127.0.0.1", raw_path=f"/v1/jobs/{name}{suffix}".encode())
                answer = await client.get(url)
                if answer.request.url.path != "/":  # httpx walks up "../..", and asks for the page
                    found.add(answer.status_code)
            body = {"upload_id": name}
            found.add((await client.post("/v1/embeddings", json=body)).status_code)
            found.add((await client.post("/v1/jobs", json=body)).status_code)
        return found

    statuses = talk(app, steps, key)
    assert statuses <= {404, 405, 422}
    assert (tmp_path / "keys.json").exists()
    assert {p for p in before if p.is_file()} == {p for p in before if p.exists() and p.is_file()}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/embeddings", "application/edf"),
        ("/v1/inspect", "application/edf"),
        ("/v1/encode", SAFETENSORS),
        ("/v2/models/default/infer", "application/octet-stream"),
    ],
)
def test_a_body_that_is_too_large_or_stops_coming_is_let_go(
    tmp_path: Path, path: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "STALL_S", 0.05)
    app, key = guarded_app(tmp_path, max_ongoing_requests=1, max_queued_requests=1)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 256 * 2**20:
            sent += 2**20
            yield bytes(2**20)

    async def dripping() -> AsyncIterator[bytes]:
        yield b"0"
        await asyncio.sleep(30)
        yield b"0"

    async def steps(client: httpx.AsyncClient) -> list[Any]:
        headers = {"content-type": kind}
        found = []
        for body in (endless(), dripping(), b""):
            response = await client.post(path, content=body, headers=headers)
            text = response.json()["error"]
            code = text.partition(":")[0] if isinstance(text, str) else text["code"]
            found.append((response.status_code, code))
        return found

    assert talk(app, steps, key) == [
        (413, "payload_too_large"),
        (408, "upload_stalled"),
        (400, "empty_body"),
    ]
    assert sent <= 18 * 2**20  # no more is read than fits
