"""Whose certificates are trusted where a scheduler is reached over TLS."""

import os
import ssl
from collections.abc import Iterable

import httpx

from dtask.errors import InvalidRequest


def verified(urls: Iterable[str]) -> ssl.SSLContext | bool:
    """What httpx is to verify in front of these URLs: nothing, where none of them speaks TLS."""
    return trusted() if any(url.startswith("https:") for url in urls) else False


def trusted() -> ssl.SSLContext:
    """The well-known authorities, or those of SSL_CERT_FILE or SSL_CERT_DIR, as OpenSSL has it.

    Raises InvalidRequest if such a file can't be used. Takes 30 ms.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # what ssl raises is one
        file = os.environ.get("SSL_CERT_FILE")
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise InvalidRequest(
            f"SSL_CERT_FILE: {file} can't be used ({reason}): expected a file of certificates of "
            f"authorities, in PEM.",
            code="malformed",
            field="SSL_CERT_FILE",
        ) from None
