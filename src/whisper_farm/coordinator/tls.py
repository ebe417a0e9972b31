"""The certificate with which a server speaks HTTPS itself, without a proxy before it."""

from __future__ import annotations

import ssl
from pathlib import Path

from whisper_farm.errors import FarmError


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What the server shows and signs with; None for plain HTTP. Says which file is wrong, and how.

    Without a file of its own the key stands in that of the certificate.
    """
    if certificate is None:
        if key is not None:
            raise FarmError("A key needs its certificate: give --tls_cert, too.")
        return None
    for file in (certificate, key or certificate):
        try:
            file.open("rb").close()
        except OSError as error:
            raise FarmError(f"{file} cannot be read: {error.strerror}. Give files in PEM form.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_locked)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise FarmError(f"The key in {key or certificate} does not belong to the certificate.") from error
        raise FarmError(f"{certificate} and {key or certificate} hold no certificate and key in PEM form.") from error
    return context


def _locked() -> str:
    raise FarmError("The key is locked with a password, which nobody can type here: give one without.")
