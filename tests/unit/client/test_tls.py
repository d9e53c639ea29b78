"""The client over https: whom it trusts, and what it says, once and at once, of who it does not."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve_apps.local_app import local_app
from serve_apps.tls import pinned
from sleepmami.client import AsyncClient, Client, Retries
from sleepmami.client.tls import tls_failure
from sleepmami.errors import ClientError, ConfigError
from tests.bundles import random_bundle
from tests.certificates import Certificate, certificate
from tests.local_service import served, write_recording

# whoever asks again would sleep for longer than any test
ONCE = Retries(count=3, first_s=10_000, most_s=10_000, chance=lambda: 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Certificate:
    return certificate(folder / "ours")


@pytest.fixture(scope="module")
def url(ours: Certificate) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        with served(local_app(random_bundle()), ours) as url:
            yield url


@pytest.fixture(scope="module")
def other(folder: Path) -> str:
    """An authority that did not sign the service's certificate."""
    return certificate(folder / "other").ca


def test_parts_events_and_results_pass_through_tls(
    url: str, ours: Certificate, folder: Path
) -> None:
    write_recording(folder / "night.edf")
    with Client(url, verify=ours.ca, part_bytes=50_000) as client:
        job = client.submit(folder / "night.edf", progress=False)  # three parts
        assert [status.state for status in job.events()][-1] == "done"
        stored = job.embeddings()
        assert (stored.micro == client.embed(folder / "night.edf").micro).all()
        job.delete()


def test_a_context_is_taken_as_it_is(url: str, ours: Certificate) -> None:
    context = ssl.create_default_context(cafile=ours.ca)
    with Client(url, verify=context) as client:
        assert client.info()["models"]


def test_an_authority_that_did_not_sign_is_told_at_once(url: str, other: str, folder: Path) -> None:
    for verify in (other, None):  # and those that everybody trusts
        with (
            Client(url, verify=verify, retries=ONCE) as client,
            pytest.raises(ClientError, match=r"certificate is refused: .*issuer") as caught,
        ):
            client.info()
        assert caught.value.code == "tls_refused"
    with (
        Client(url, verify=other, retries=ONCE) as client,
        pytest.raises(ClientError, match=r"tls_refused"),
    ):
        client.upload(b"0" * 100, progress=False)


def test_the_event_loop_is_told_the_same(url: str, ours: Certificate, other: str) -> None:
    async def ask(ca: str) -> object:
        async with AsyncClient(url, verify=ca, retries=ONCE) as client:
            return await client.info()

    assert asyncio.run(ask(ours.ca))
    with pytest.raises(ClientError, match=r"certificate is refused"):
        asyncio.run(ask(other))


def test_a_certificate_for_another_name_is_refused(url: str, folder: Path) -> None:
    theirs = certificate(folder / "theirs", names="DNS:sleep.example.org")
    with (
        served(local_app(random_bundle()), theirs) as elsewhere,
        Client(elsewhere, verify=theirs.ca, retries=ONCE) as client,
        pytest.raises(ClientError, match=r"certificate is not valid for '127\.0\.0\.1'"),
    ):
        client.info()


def test_one_that_has_expired_is_refused_also_by_the_service_itself(folder: Path) -> None:
    """`sleepmami serve` asks its own port once before it says that it is ready."""
    old, fine = certificate(folder / "old", days=-1), certificate(folder / "fine")
    app = local_app(random_bundle())
    with (
        served(app, old) as url,
        Client(url, verify=old.ca, retries=ONCE) as client,
        pytest.raises(ClientError, match=r"certificate has expired"),
    ):
        client.info()
    with served(app, old) as url, pytest.raises(httpx.ConnectError) as caught:
        httpx.get(f"{url}/ready", verify=pinned(old.certfile), trust_env=False)
    assert tls_failure(caught.value) == "the certificate is refused: certificate has expired"
    with served(app, fine) as url:
        answer = httpx.get(f"{url}/ready", verify=pinned(fine.certfile), trust_env=False)
        assert answer.status_code == 200  # without its authority, and by whatever name
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/ready", verify=pinned(old.certfile), trust_env=False)


def test_https_to_a_port_that_speaks_http_is_told_at_once() -> None:
    with (
        served(local_app(random_bundle())) as plain,
        Client(plain.replace("http:", "https:"), retries=ONCE) as client,
        pytest.raises(ClientError, match=r"what answers at this port is not TLS"),
    ):
        client.info()


def test_what_could_have_no_effect_or_is_no_authority_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"verify .*http://"):
        Client("http://127.0.0.1:1", verify="ca.crt")
    with pytest.raises(ConfigError, match=r"verify .*absent\.crt"):
        Client("https://127.0.0.1:1", verify=folder / "absent.crt")
    for answer in (True, False, 1):  # as other libraries take it; the check cannot be turned off
        with pytest.raises(ConfigError, match=r"verify must be a file or folder .*SSLContext"):
            Client("https://127.0.0.1:1", verify=answer)  # type: ignore[arg-type]
    (folder / "authorities").mkdir()
    shutil.copy(certificate(folder / "an authority").ca, folder / "authorities")
    with pytest.raises(ConfigError, match=r"verify must be a folder that `openssl rehash`"):
        Client("https://127.0.0.1:1", verify=folder / "authorities")
    (folder / "text.crt").write_text("no PEM")
    with pytest.raises(ConfigError, match=r"found no certificate in"):
        Client("https://127.0.0.1:1", verify=folder / "text.crt")


def test_a_folder_of_authorities_is_trusted_once_openssl_knows_its_names(
    url: str, ours: Certificate, folder: Path
) -> None:
    known = folder / "known"
    known.mkdir()
    shutil.copy(ours.ca, known)
    subprocess.run(["openssl", "rehash", known], check=True, capture_output=True)
    with Client(url.replace("https:", "HTTPS:"), verify=known) as client:
        assert client.info()["models"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_with_the_authority_is_answered_and_without_is_not(
    url: str, ours: Certificate
) -> None:
    command = ["curl", "-s", "--noproxy", "*", f"{url}/health"]
    assert subprocess.run([*command, "--cacert", ours.ca], check=False).returncode == 0
    assert subprocess.run(command, check=False).returncode == 60  # of curl: peer not trusted
