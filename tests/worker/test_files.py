import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from dtask.errors import Unavailable
from dtask.worker.files import Files, NotPut
from dtask.worker.spool import Folder


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def blob(data: bytes) -> str:
    return f"sha256:{digest(data)}"


class Source:
    """Gives out blobs, as bytes or as files, and counts."""

    def __init__(self, *blobs: bytes, directory: Path | None = None) -> None:
        self.blobs = {digest(data): data for data in blobs}
        self.asked: list[str] = []
        self._directory = directory

    async def fetch(self, cluster_id: str, wanted: str) -> bytes | Path:
        assert cluster_id == "c"
        self.asked.append(wanted)
        await asyncio.sleep(0)
        if wanted not in self.blobs:
            raise Unavailable("Nobody answered.", code="unreachable")
        if self._directory is None:
            return self.blobs[wanted]
        path = self._directory / f"fetched-{len(self.asked)}"
        path.write_bytes(self.blobs[wanted])
        return path


def folder(tmp_path: Path, name: str = "m") -> Folder:
    made = Folder(tmp_path / name, 1000)
    made.create()
    return made


def content(made: Folder) -> dict[str, bytes]:
    work = Path(made.work)
    files = [path for path in work.rglob("*") if path.is_file()]
    return {str(path.relative_to(work)): path.read_bytes() for path in files}


@pytest.mark.parametrize("files", ["as bytes", "as files"])
def test_files_are_copies_with_the_rights_that_programs_need(files: str, tmp_path: Path) -> None:
    source = Source(b"#!/bin/sh\n", b"data", directory=tmp_path if files == "as files" else None)
    made = folder(tmp_path)

    async def main() -> None:
        kept = Files(tmp_path / "blobs", source.fetch)
        kept.open()
        names = {"run.sh": blob(b"#!/bin/sh\n"), "a/b/data": blob(b"data"), "a/c": blob(b"data")}
        await kept.put("c", names, blob(b"data"), made)
        await kept.close()

    asyncio.run(main())
    assert content(made) == {"run.sh": b"#!/bin/sh\n", "a/b/data": b"data", "a/c": b"data"}
    assert Path(made.stdin).read_bytes() == b"data"
    assert Path(made.work, "run.sh").stat().st_mode & 0o777 == 0o700
    assert Path(made.work, "a/b/data").stat().st_mode & 0o777 == 0o600
    assert sorted(source.asked) == sorted([digest(b"#!/bin/sh\n"), digest(b"data")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs", "m"]


def test_several_that_want_a_blob_fetch_it_once_even_over_lives(tmp_path: Path) -> None:
    source = Source(b"data")

    async def main() -> None:
        for life in range(2):
            kept = Files(tmp_path / "blobs", source.fetch)
            kept.open()
            folders = [folder(tmp_path, f"{life}-{number}") for number in range(5)]
            await asyncio.gather(
                *(kept.put("c", {"x": blob(b"data")}, None, made) for made in folders)
            )
            assert [content(made) for made in folders] == [{"x": b"data"}] * 5
            await kept.close()

    asyncio.run(main())
    assert source.asked == [digest(b"data")]


def test_one_that_gives_up_spoils_it_for_nobody(tmp_path: Path) -> None:
    source = Source(b"data")
    first, second = folder(tmp_path, "1"), folder(tmp_path, "2")

    async def main() -> None:
        kept = Files(tmp_path / "blobs", source.fetch)
        puts = [
            asyncio.create_task(kept.put("c", {"x": blob(b"data")}, None, made))
            for made in (first, second)
        ]
        await asyncio.sleep(0)
        puts[0].cancel()
        await asyncio.wait(puts)
        assert puts[0].cancelled()
        await puts[1]
        await kept.close()

    asyncio.run(main())
    assert content(second) == {"x": b"data"}


def test_a_blob_that_was_changed_in_the_spool_is_fetched_again(tmp_path: Path) -> None:
    source = Source(b"data")

    async def main() -> None:
        kept = Files(tmp_path / "blobs", source.fetch)
        await kept.put("c", {"x": blob(b"data")}, None, folder(tmp_path, "1"))
        path = tmp_path / "blobs" / digest(b"data")
        path.chmod(0o600)
        path.write_bytes(b"evil")
        changed = folder(tmp_path, "2")
        await kept.put("c", {"x": blob(b"data")}, None, changed)
        assert content(changed) == {"x": b"data"}
        path.unlink()
        removed = folder(tmp_path, "3")
        await kept.put("c", {"x": blob(b"data")}, None, removed)
        assert content(removed) == {"x": b"data"}

    asyncio.run(main())
    assert len(source.asked) == 3


def test_blobs_not_used_for_the_longest_time_make_room(tmp_path: Path) -> None:
    blobs = [bytes([number]) * 100 for number in range(4)]
    source = Source(*blobs)

    async def main() -> None:
        kept = Files(tmp_path / "blobs", source.fetch, bytes_max=250)
        for number, data in enumerate([blobs[0], blobs[1], blobs[0], blobs[2]]):
            await kept.put("c", {"x": blob(data)}, None, folder(tmp_path, f"{number}"))
        there = {path.name for path in (tmp_path / "blobs").iterdir()}
        assert there == {digest(blobs[0]), digest(blobs[2])}
        many = folder(tmp_path, "many")
        await kept.put("c", {str(n): blob(data) for n, data in enumerate(blobs)}, None, many)
        assert len(content(many)) == 4
        assert len(list((tmp_path / "blobs").iterdir())) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "", ".", "a//b", "a/", "a\0b", "a" * 300, "x/y"]
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    source = Source(b"data")
    made = folder(tmp_path)

    async def main() -> None:
        kept = Files(tmp_path / "blobs", source.fetch)
        with pytest.raises(NotPut, match="can't be put") as refused:
            await kept.put("c", {"x": blob(b"data"), name: blob(b"data")}, None, made)
        assert refused.value.theirs

    asyncio.run(main())
    assert content(made) == {}
    assert source.asked == []


@pytest.mark.parametrize("name", ["sha256:short", "md5:" + "0" * 64, "sha256:" + "X" * 64])
def test_what_names_no_blob_is_refused(name: str, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(NotPut, match="names no blob") as refused:
            await Files(tmp_path / "blobs", None).put("c", {"x": name}, None, folder(tmp_path))
        assert refused.value.theirs

    asyncio.run(main())


def test_a_blob_that_does_not_come_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtask.worker.files.FETCH_S", 0.01)

    async def never(*_: str) -> bytes:
        return await asyncio.Future()

    async def main() -> None:
        with pytest.raises(NotPut, match="did not come within") as failed:
            await Files(tmp_path / "blobs", never).put(
                "c", {"x": blob(b"data")}, None, folder(tmp_path)
            )
        assert not failed.value.theirs

    asyncio.run(main())


def test_a_spool_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("no directory")

    async def main() -> None:
        with pytest.raises(NotPut, match=r"spool .* can't be written"):
            await Files(tmp_path / "blobs", Source(b"data").fetch).put(
                "c", {"x": blob(b"data")}, None, folder(tmp_path)
            )

    asyncio.run(main())
