"""Multipart ETags: computed again from the bytes, where the server tells of which parts they were uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import refart
from refart.entries import Entry, entries_of
from refart.errors import ChecksumError, PermissionDeniedError, ReferenceChangedError, SourceError
from refart.sources.pinned import NotThat
from refart.sources.s3.parts import parts_of
from refart.sources.s3.source import S3Source
from refart.testing import Lake, S3Requests
from refart.workspace import Workspace
from tests.faults import FaultProxy, s3_error
from tests.servers import SeaweedFS
from tests.sources.s3.uploads import PART_BYTES, PARTS, upload_parts
from tests.sources.suite import read_checked

DIGEST = "0123456789abcdef" * 2
UNEVEN = (PARTS[0], PARTS[1] + b"!", PARTS[2])
AT_ONCE = {"config_kwargs": {"retries": {"max_attempts": 0}}}


def stat(source: S3Source, uri: str) -> Entry:
    entry = source.stat(uri)
    assert entry is not None
    return entry


class TestPartsOf:
    """What follows from the answers to HEADs."""

    def look(self, content_id: str, size: int, *part_sizes: int, **first: Any) -> tuple[Any, list[int]]:
        asked: list[int] = []

        def head_part(number: int) -> dict[str, Any]:
            asked.append(number)
            return {"ContentLength": part_sizes[number - 1], **first}

        return parts_of(content_id, size, head_part, "'key'"), asked

    @given(st.integers(1, 50), st.integers(2, 30), st.data())
    def test_even_parts(self, part_bytes: int, count: int, data: st.DataObject) -> None:
        last = data.draw(st.integers(1, part_bytes))
        sizes = [part_bytes] * (count - 1) + [last]
        parts, asked = self.look(f"etag:{DIGEST}-{count}", sum(sizes), *sizes, PartsCount=count)
        assert parts.part_bytes == part_bytes
        assert asked == [1]
        assert parts.are_even()
        assert asked == [1, *range(2, count + 1)]

    @given(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    def test_uneven_parts_are_never_called_even(self, sizes: list[int]) -> None:
        parts, _ = self.look(f"etag:{DIGEST}-{len(sizes)}", sum(sizes), *sizes)
        is_even = len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0]
        assert (parts is not None and parts.are_even()) == is_even

    def test_the_first_uneven_part_ends_the_asking(self) -> None:
        parts, asked = self.look(f"etag:{DIGEST}-4", 16, 4, 5, 4, 3)
        assert not parts.are_even()
        assert asked == [1, 2]

    def test_one_part_needs_no_request(self) -> None:
        for size in (0, 7):
            parts, asked = self.look(f"etag:{DIGEST}-1", size)
            assert (parts.part_bytes, parts.are_even(), asked) == (max(size, 1), True, [])

    @pytest.mark.parametrize(
        "content_id", ["none", f"md5:{DIGEST}", f"etag:{DIGEST}", "etag:abc-2", f"etag:{DIGEST}-0"]
    )
    def test_other_content_ids_are_not_asked_about(self, content_id: str) -> None:
        assert self.look(content_id, 7, 7) == (None, [])

    def test_a_server_that_ignores_the_number_answers_with_the_whole(self) -> None:
        assert self.look(f"etag:{DIGEST}-2", 7, 7)[0] is None

    def test_another_number_of_parts_than_the_etag_says(self) -> None:
        assert self.look(f"etag:{DIGEST}-2", 7, 4, 3, PartsCount=3)[0] is None

    @pytest.mark.parametrize("error", [NotThat(), PermissionDeniedError("no"), SourceError("501")])
    def test_a_server_that_does_not_tell(self, error: Exception) -> None:
        def head_part(number: int) -> dict[str, Any]:
            raise error

        assert parts_of(f"etag:{DIGEST}-2", 7, head_part, "'key'") is None


@pytest.fixture(params=[True, False], ids=["versioned", "unversioned"])
def lake(request: pytest.FixtureRequest, seaweed: SeaweedFS) -> Lake:
    return seaweed.bucket(versioned=request.param)


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultProxy]:
    proxy = FaultProxy(seaweed.url)
    yield proxy
    proxy.close()


@pytest.fixture
def source(seaweed: SeaweedFS, proxy: FaultProxy) -> S3Source:
    return S3Source({**seaweed.storage_options, **AT_ONCE, "endpoint_url": proxy.url})


class TestOnSeaweedFS:
    def test_even_parts_cost_one_head_more_and_ordinary_objects_none(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        entry = stat(source, upload_parts(lake, "large"))
        assert entry.content_id.endswith("-3")
        proxy.requests.clear()
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"".join(PARTS), "multipart")
        assert proxy.requests.operations == ["GetObject", "HeadObject"]
        lake.put("small", b"bytes")
        entry = stat(source, f"{lake.uri}/small")
        proxy.requests.clear()
        assert read_checked(source, entry)[1].rung == "md5"
        assert proxy.requests.operations == ["GetObject"]

    def test_garbled_bytes_are_a_checksum_error(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        """PITFALLS 7."""
        entry = stat(source, upload_parts(lake, "large"))
        proxy.add("GetObject", garble=True)
        proxy.requests.clear()
        with pytest.raises(ChecksumError, match=f"large.*expected {entry.content_id}"):
            read_checked(source, entry)
        assert proxy.requests.operations == ["GetObject"] + ["HeadObject"] * 3

    def test_a_body_that_breaks_off_is_checked_whole(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        entry = stat(source, upload_parts(lake, "large"))
        proxy.add("GetObject", times=2, cut_at=3_000_000)
        assert read_checked(source, entry)[1].rung == "multipart"
        assert proxy.requests.count("GetObject") == 3

    def test_uneven_parts_are_confirmed_by_the_server_only(self, source: S3Source, lake: Lake) -> None:
        data, checked = read_checked(source, stat(source, upload_parts(lake, "large", UNEVEN)))
        assert (data, checked.rung) == (b"".join(UNEVEN), "etag")

    def test_a_single_part_is_computed_without_asking(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        entry = stat(source, upload_parts(lake, "small", (b"bytes",)))
        assert entry.content_id.endswith("-1")
        proxy.requests.clear()
        assert read_checked(source, entry)[1].rung == "multipart"
        proxy.add("GetObject", garble=True)
        with pytest.raises(ChecksumError):
            read_checked(source, entry)
        assert proxy.requests.operations == ["GetObject"] * 2

    def test_open_asks_for_no_parts(self, source: S3Source, lake: Lake, proxy: FaultProxy) -> None:
        entry = stat(source, upload_parts(lake, "large"))
        proxy.requests.clear()
        with source.open(entry).file as file:
            assert file.read() == b"".join(PARTS)
        assert proxy.requests.count("HeadObject") == 0

    def test_nobody_compares_the_etag_of_an_entry_that_records_another_identity(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        uri = upload_parts(lake, "large")
        [page] = source.scan(uri, identify="none").pages
        [entry] = entries_of(page)
        proxy.requests.clear()
        assert entry.pin is not None
        assert read_checked(source, entry)[1].rung == entry.pin.partition(":")[0]
        assert proxy.requests.operations == ["GetObject"]

    def test_the_etag_of_an_encrypted_object_is_not_computed(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        def encrypt(headers: dict[str, str], body: bytes) -> bytes:
            headers["x-amz-server-side-encryption"] = "aws:kms"
            return body

        entry = stat(source, upload_parts(lake, "large"))
        proxy.add("GetObject", edit=encrypt)
        proxy.requests.clear()
        assert read_checked(source, entry)[1].rung == "etag"
        assert proxy.requests.operations == ["GetObject"]

    def test_a_server_that_knows_no_parts(self, source: S3Source, lake: Lake, proxy: FaultProxy) -> None:
        entry = stat(source, upload_parts(lake, "large"))
        for status in (400, 403, 405, 501):
            proxy.add("HeadObject", times=1, status=status)
            assert read_checked(source, entry)[1].rung == "etag"

    def test_a_server_that_is_busy_may_not_lower_the_rung(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        entry = stat(source, upload_parts(lake, "large"))
        proxy.add("HeadObject", **s3_error(503, "SlowDown"))
        with pytest.raises(SourceError) as error:
            read_checked(source, entry)
        assert error.value.transient

    def test_damage_is_not_excused_by_an_object_that_changed_since(
        self, source: S3Source, seaweed: SeaweedFS, proxy: FaultProxy
    ) -> None:
        lake = seaweed.bucket(versioned=False)
        entry = stat(source, upload_parts(lake, "large"))
        proxy.add("GetObject", garble=True)
        proxy.add("HeadObject", times=1, then=lambda: lake.put("large", b"newer"))
        with pytest.raises(ReferenceChangedError, match="while it was being checked"):
            read_checked(source, entry)


def test_a_download_says_that_it_compared(
    seaweed: SeaweedFS,
    lake: Lake,
    refart_workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    upload_parts(lake, "d/even")
    upload_parts(lake, "d/uneven", UNEVEN)
    draft = refart.Artifact("things", "dataset")
    draft.add_reference(f"{lake.uri}/d")
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    report = artifact.download_report(tmp_path / "root")
    assert report.checked_by == {"multipart": 1, "etag": 1}
    assert (report.confirmed_by_server, report.unverified) == (1, [])
    assert (tmp_path / "root" / "even").read_bytes() == b"".join(PARTS)


class TestOnMoto:
    """Its answer to a HEAD of a part speaks of that part alone, by another ETag: nothing to rely on."""

    def test_several_parts_are_confirmed_by_the_server_only(
        self, versioned_lake: Lake, unversioned_lake: Lake
    ) -> None:
        source = S3Source({})
        for lake in (versioned_lake, unversioned_lake):
            data, checked = read_checked(source, stat(source, upload_parts(lake, "large")))
            assert (len(data), checked.rung) == (2 * PART_BYTES + len(PARTS[2]), "etag")

    def test_a_single_part_is_computed(self, unversioned_lake: Lake, s3_requests: S3Requests) -> None:
        source = S3Source({})
        entry = stat(source, upload_parts(unversioned_lake, "small", (b"bytes",)))
        s3_requests.clear()
        assert read_checked(source, entry)[1].rung == "multipart"
        assert s3_requests.operations == ["GetObject"]
