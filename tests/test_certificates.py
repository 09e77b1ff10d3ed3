"""Whose certificates are trusted; that one of an own authority works is proven in tests/deploy."""

from pathlib import Path

import pytest

from dtask import Client, certificates
from dtask.errors import InvalidRequest


def test_nothing_is_verified_and_no_file_read_where_nobody_speaks_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    assert certificates.verified(["http://one:8080", "http://two:8080"]) is False


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(InvalidRequest, match=r"/no/such/file can't be used \(No such file"):
        certificates.verified(["http://one:8080", "https://two"])


def test_a_file_without_certificates_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "authority.pem"
    file.write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with (
        Client("https://127.0.0.1:1", token="a-token-for-tests-only") as client,
        pytest.raises(InvalidRequest, match="it holds no certificate"),
    ):
        client.workers()
