"""Blobs in their directory."""

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from dtask.errors import InvalidRequest, NotFound, Unavailable
from dtask.scheduler.blobs import BLOB_BYTES_MAX, UNUSED_S, Blobs

DATA = b"hello"
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def age(blobs: Blobs, digest: str, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(blobs.path(digest), (when, when))


def test_a_blob_is_there_once_it_was_put(blobs: Blobs, tmp_path: Path) -> None:
    assert not blobs.has(DIGEST)
    blobs.put(DIGEST, DATA)
    blobs.put(DIGEST, DATA)
    assert blobs.has(DIGEST)
    assert blobs.read(DIGEST) == DATA
    assert files(tmp_path) == [DIGEST]
    assert blobs.path(DIGEST).stat().st_mode & 0o77 == 0


def test_bytes_of_another_hash_leave_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=f"have the hash {DIGEST}") as refusal:
        blobs.put("0" * 64, DATA)
    assert refusal.value.code == "wrong_hash"
    assert files(tmp_path) == []


def test_a_blob_over_the_limit_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        blobs.put(DIGEST, b"x" * (BLOB_BYTES_MAX + 1))
    assert refusal.value.facts == {"limit_bytes": BLOB_BYTES_MAX}
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["", "abc", "../" * 20 + "etc/passwd", "A" * 64, "g" * 64])
def test_what_is_no_hash_names_no_file(blobs: Blobs, name: str) -> None:
    for act in (blobs.path, blobs.has, blobs.read):
        with pytest.raises(InvalidRequest, match="expected the SHA-256 as 64 hexadecimal"):
            act(name)


def test_a_blob_that_is_not_there_is_told(blobs: Blobs) -> None:
    with pytest.raises(NotFound) as refusal:
        blobs.read(DIGEST)
    assert refusal.value.code == "no_blob"


def test_a_directory_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    (tmp_path / "blobs" / DIGEST[:2]).symlink_to("/dev/full")
    with pytest.raises(Unavailable, match="can't be written") as refusal:
        blobs.put(DIGEST, DATA)
    assert refusal.value.code == "store_failed"


def test_what_was_asked_for_lately_is_in_use(blobs: Blobs) -> None:
    blobs.put(DIGEST, DATA)
    assert blobs.unused() == set()
    age(blobs, DIGEST, UNUSED_S + 60)
    assert blobs.unused() == {DIGEST}
    assert blobs.has(DIGEST)  # a job comes that names it
    assert blobs.unused() == set()
    assert blobs.remove({DIGEST}) == 0
    age(blobs, DIGEST, UNUSED_S + 60)
    assert blobs.remove({DIGEST}) == 1
    assert not blobs.has(DIGEST)


def test_what_a_crash_left_half_written_goes_in_time(blobs: Blobs, tmp_path: Path) -> None:
    upload = blobs.begin(DIGEST)
    upload.write(DATA)
    (part,) = files(tmp_path)
    os.utime(blobs.path(DIGEST).with_name(part), (0, 0))
    assert not blobs.has(DIGEST)
    assert blobs.remove(blobs.unused()) == 1
    upload.drop()
    assert files(tmp_path) == []
