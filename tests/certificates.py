"""An authority and certificates of its own, made by the program openssl, for tests of TLS."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

EXTENSIONS = "subjectAltName={names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage={use}\n"


class Certificate(NamedTuple):
    """Paths of PEM files."""

    ca: str
    certfile: str
    keyfile: str


def certificate(
    folder: Path,
    *,
    names: str = "IP:127.0.0.1,DNS:localhost",
    days: int = 2,
    use: str = "serverAuth",
) -> Certificate:
    """One by an authority that is made for it, in a folder that is made; skips without openssl.

    Args:
        folder: of the files.
        names: whom it is for, as OpenSSL writes them.
        days: until it expires; one of -1 has expired.
        use: of the key, as OpenSSL writes it.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there")
    folder.mkdir()
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority", "-days", "2"]
    _openssl(folder, "req", "-x509", *new_key, *authority)
    _openssl(folder, "req", *new_key, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=test")
    (folder / "extensions").write_text(EXTENSIONS.format(names=names, use=use))
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-days", str(days), "-extfile", "extensions"]
    _openssl(folder, "x509", "-req", "-in", "tls.csr", "-out", "tls.crt", *signed)
    (folder / "tls.key").chmod(0o600)
    return Certificate(*(str(folder / name) for name in ("ca.crt", "tls.crt", "tls.key")))


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
