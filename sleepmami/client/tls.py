"""Whom the client trusts over https, and what it says when the other side is not that.

A certificate that is refused is refused the next time too, so it is told at once and not asked
again like a broken connection.
"""

import os
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from sleepmami.errors import ConfigError, require

Verify = str | os.PathLike[str] | ssl.SSLContext | None
TLS_REFUSED = "tls_refused"  # code of a ClientError
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")  # how OpenSSL names what it reads of a folder
NOT_HTTPS = "WRONG_VERSION_NUMBER"  # OpenSSL's word for an answer that is no TLS, as plain HTTP


def context_of(verify: Verify, url: str) -> ssl.SSLContext | bool:
    """What httpx verifies the service's certificate with.

    Args:
        verify: file or folder of the authorities to trust, alone; a context of your own; None is
            what httpx trusts: certifi's list, or SSL_CERT_FILE.
        url: of the service.

    Raises:
        ConfigError: the URL is not https, so it could have no effect; or there is no certificate
            in what was given, or it is no path, as True and False are not.
    """
    if verify is None:
        return True
    is_https = urlsplit(url).scheme == "https"
    require(is_https, "verify", verify, "none with an http:// URL: no effect")
    if isinstance(verify, ssl.SSLContext):
        return verify
    is_path = isinstance(verify, str | os.PathLike)
    require(is_path, "verify", verify, "a file or folder of authorities, or an ssl.SSLContext")
    path = Path(verify)
    require(path.exists(), "verify", str(path), "a file or folder that is there")
    if path.is_dir():  # OpenSSL takes any folder, and would trust nobody
        found = any(_HASHED.fullmatch(name) for name in os.listdir(path))
        require(found, "verify", str(path), "a folder that `openssl rehash` was run on")
    where = {"capath" if path.is_dir() else "cafile": str(path)}
    try:
        return ssl.create_default_context(**where)  # type: ignore[arg-type]  # by its names
    except (ssl.SSLError, OSError):
        raise ConfigError(
            f"verify: found no certificate in {path}; expected PEM of the authority"
        ) from None


def tls_failure(error: BaseException) -> str | None:
    """Why TLS with this server cannot be, of an exception of httpx; None where it may pass."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is refused: {cause.verify_message.rstrip('.')}"
        if isinstance(cause, ssl.SSLError) and cause.reason == NOT_HTTPS:
            return "what answers at this port is not TLS"
        cause = cause.__cause__ or cause.__context__
    return None
