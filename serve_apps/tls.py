"""Certificate and key of the HTTP port, tried before a model is loaded.

Serve opens them in its proxy, long after the models are loaded, and a fault there is a proxy that
never answers.
"""

import os
import ssl
import stat
from contextlib import suppress
from pathlib import Path

from sleepmami.errors import ConfigError, ServiceError

HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"  # Ray 2.60 writes no certificate into its configuration
_NOT_FOR_THE_KEY = stat.S_IRWXO | stat.S_IWGRP  # a group may read it, as Debian's ssl-cert does


def require_proxy_with_tls() -> None:
    """ConfigError where Serve is told to put HAProxy in front, which would speak plain HTTP."""
    if os.environ.get(HAPROXY) == "1":
        raise ConfigError(
            f"ssl_certfile: found {HAPROXY}=1, a proxy without TLS; expected one of the two: a "
            "gateway can hold the certificate"
        )


def require_pair(certfile: str, keyfile: str) -> None:
    """ConfigError unless a server can use these two files, and a client would take the certificate.

    Who signed it and for which name is not asked: that is between its authority and the clients.

    Args:
        certfile: PEM, the server's own certificate first, then what leads to its authority.
        keyfile: PEM without a passphrase, of the first certificate; for its owner's eyes, or those
            of a group.
    """
    for name, file in (("ssl_certfile", certfile), ("ssl_keyfile", keyfile)):
        try:
            with open(file, "rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
        except OSError as error:
            raise ConfigError(f"{name} {file}: {error.strerror}; expected a PEM file") from None
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{name} {file}: found no file; expected a PEM file")
        if name == "ssl_keyfile" and mode & _NOT_FOR_THE_KEY:
            raise ConfigError(
                f"{name} {file}: found mode {stat.S_IMODE(mode):04o}; expected 0600 or 0640: who "
                "reads it can pass for this service"
            )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certfile, keyfile, _no_passphrase)
        _shake_hands(server, pinned(certfile))
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        raise ConfigError(f"ssl_certfile {certfile}: clients would refuse it: {reason}") from None
    except ssl.SSLError as error:
        raise ConfigError(_told(error, certfile, keyfile)) from None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """In memory, as far as the client has seen the certificate; ssl.SSLError when it refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()


def _no_passphrase() -> str:
    raise ConfigError("ssl_keyfile: found a passphrase; expected a key without: nobody is there")


def _told(error: ssl.SSLError, certfile: str, keyfile: str) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"ssl_keyfile {keyfile}: found the key of another certificate than {certfile} holds"
    if "-----BEGIN CERTIFICATE-----" not in Path(certfile).read_text("latin-1"):
        return f"ssl_certfile {certfile}: found no certificate; expected PEM"
    if "PRIVATE KEY-----" not in Path(keyfile).read_text("latin-1"):
        return f"ssl_keyfile {keyfile}: found no private key; expected PEM"
    return f"ssl_certfile {certfile}, ssl_keyfile {keyfile}: {error.reason or 'not usable'}"


def pinned(certfile: str) -> ssl.SSLContext:
    """For our own request to ourselves: this very certificate is trusted, by whatever name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be its own authority
    try:
        context.load_verify_locations(certfile)
    except ssl.SSLError as error:
        raise ServiceError(f"ssl_certfile {certfile}: {error.reason}") from None
    return context
