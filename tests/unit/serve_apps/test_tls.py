"""Certificate and key are tried before anything starts, and each fault is told by its name."""

import subprocess
from pathlib import Path

import pytest

from serve_apps.serve_config import problems_of
from serve_apps.tls import pinned, require_pair
from sleepmami.config import ServeConfig
from sleepmami.errors import ConfigError, ServiceError
from tests.certificates import Certificate, certificate


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls") / "a")


def test_a_pair_that_fits_is_taken(pair: Certificate) -> None:
    require_pair(pair.certfile, pair.keyfile)
    Path(pair.keyfile).chmod(0o640)  # root:ssl-cert
    require_pair(pair.certfile, pair.keyfile)
    Path(pair.keyfile).chmod(0o600)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_a_key_that_others_can_read_or_change_is_refused(pair: Certificate, mode: int) -> None:
    Path(pair.keyfile).chmod(mode)
    with pytest.raises(ConfigError, match=f"ssl_keyfile .*found mode {mode:04o}; expected 0600"):
        require_pair(pair.certfile, pair.keyfile)
    Path(pair.keyfile).chmod(0o600)


def test_the_key_of_another_certificate_is_refused(pair: Certificate, tmp_path: Path) -> None:
    other = certificate(tmp_path / "b")
    with pytest.raises(ConfigError, match=r"found the key of another certificate"):
        require_pair(pair.certfile, other.keyfile)


def test_one_that_clients_would_refuse_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    old = certificate(tmp_path / "old", days=-1)
    with pytest.raises(ConfigError, match=r"ssl_certfile .*: certificate has expired"):
        require_pair(old.certfile, old.keyfile)
    theirs = certificate(tmp_path / "theirs", use="clientAuth")
    with pytest.raises(ConfigError, match=r"ssl_certfile .*: un(supported|suitable) certificate p"):
        require_pair(theirs.certfile, theirs.keyfile)


def test_whose_it_is_and_for_which_name_is_not_asked(tmp_path: Path) -> None:
    elsewhere = certificate(tmp_path / "b", names="DNS:sleep.example.org", use="serverAuth")
    require_pair(elsewhere.certfile, elsewhere.keyfile)


def test_a_file_that_is_absent_or_none_is_named(pair: Certificate, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match=r"ssl_certfile .*absent.pem: No such file"):
        require_pair(absent, pair.keyfile)
    with pytest.raises(ConfigError, match=r"ssl_keyfile .*absent.pem: No such file"):
        require_pair(pair.certfile, absent)
    with pytest.raises(ConfigError, match=r"ssl_certfile .*: (Is a directory|found no file)"):
        require_pair(str(tmp_path), pair.keyfile)
    text = tmp_path / "text"
    text.write_text("no PEM")
    text.chmod(0o600)
    with pytest.raises(ConfigError, match=r"ssl_keyfile .*: found no private key"):
        require_pair(pair.certfile, str(text))
    with pytest.raises(ConfigError, match=r"ssl_certfile .*: found no certificate"):
        require_pair(pair.keyfile, pair.keyfile)


def test_a_passphrase_is_not_asked_for(pair: Certificate, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = [
        "openssl",
        "ec",
        "-in",
        pair.keyfile,
        "-out",
        locked,
        "-aes256",
        "-passout",
        "pass:x",
    ]
    subprocess.run(command, check=True, capture_output=True)
    locked.chmod(0o600)
    with pytest.raises(ConfigError, match=r"found a passphrase"):
        require_pair(pair.certfile, str(locked))


def test_a_file_without_certificates_cannot_be_pinned(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ServiceError, match=r"ssl_certfile"):
        pinned(str(tmp_path / "none.pem"))


def test_one_without_the_other_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ssl_certfile .*together with ssl_keyfile"):
        ServeConfig(ssl_certfile="tls.crt")
    with pytest.raises(ConfigError, match=r"ssl_keyfile .*together with ssl_certfile"):
        ServeConfig(ssl_keyfile="tls.key")


def test_haproxy_would_speak_plain_http_and_is_refused(
    pair: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"host": "127.0.0.1", "ssl_certfile": pair.certfile, "ssl_keyfile": pair.keyfile}
    application = {"import_path": "serve_apps.embedding_app:build", "args": {"bundle": "runs/a"}}
    content = {"http_options": options, "applications": [application]}
    assert problems_of(content) == []
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    (problem,) = problems_of(content)
    assert problem.startswith("http_options.ssl_certfile: found RAY_SERVE_ENABLE_HA_PROXY=1")
