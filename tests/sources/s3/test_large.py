"""Prefixes of many responses: split into ranges, with version ids as long as these do not cost too much."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from refart.errors import InvalidInputError, PermissionDeniedError, SourceError
from refart.sources import splitting
from refart.sources.clients import Refused
from refart.sources.s3 import lister as s3_lister
from refart.sources.s3 import listing as s3_listing
from refart.sources.s3.lister import S3Lister
from refart.sources.s3.source import S3Source
from refart.testing import Lake, S3Requests
from tests.sources.suite import listed

KEYS = [f"{folder}/{number:02}" for folder in ("a", "b/c", "b/d", "e+ f%") for number in range(15)]


@pytest.fixture
def pages_of_five(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "5")


@pytest.fixture
def source(s3: Any, pages_of_five: None) -> S3Source:
    return S3Source({})


@pytest.fixture(params=["versioned", "unversioned"])
def lake(request: pytest.FixtureRequest) -> Lake:
    lake: Lake = request.getfixturevalue(f"{request.param}_lake")
    for key in KEYS:
        lake.put(f"data/{key}", key.encode())
    return lake


def test_every_object_is_listed_once_and_many_are_at_once(
    source: S3Source, lake: Lake, s3_requests: S3Requests
) -> None:
    entries = [path for page in source.scan(f"{lake.uri}/data").pages for path in page["path"].to_pylist()]
    assert sorted(entries) == sorted(KEYS)
    asked = s3_requests.count("ListObjectVersions") + s3_requests.count("ListObjectsV2")
    assert asked < 2 * len(KEYS) / 5 + splitting.FREE_MISSES


def test_siblings_of_a_large_prefix_are_not_listed(source: S3Source, lake: Lake) -> None:
    for number in range(30):
        lake.put(f"data2/{number:02}", b"x")
        lake.put(f"data-{number:02}", b"x")
    assert listed(source, f"{lake.uri}/data").keys() == set(KEYS)


def test_a_bucket_that_does_not_list_in_order_is_listed_one_response_after_another(
    source: S3Source, lake: Lake, s3_requests: S3Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, turned = s3_listing.parse, 0

    def turn(body: bytes, what: str) -> Any:
        nonlocal turned
        turned += 1
        found = parse(body, what)
        return found if turned < 10 else replace(found, in_order=False, resume_key=None)

    monkeypatch.setattr(s3_listing, "parse", turn)
    with pytest.raises(SourceError, match="does not list keys in order; nothing was added: try again"):
        listed(source, f"{lake.uri}/data")
    s3_requests.clear()
    assert listed(source, f"{lake.uri}/data").keys() == set(KEYS)
    asked = s3_requests.count("ListObjectVersions") + s3_requests.count("ListObjectsV2")
    assert asked == len(KEYS) // 5 + 1  # beside KEYS, the lake has objects of its own


def test_who_only_continues_a_listing_keeps_its_versions(
    source: S3Source, versioned_lake: Lake, pages_of_five: None
) -> None:
    """As a worker of an executor does, which was not asked to begin one."""
    for key in KEYS[:15]:
        versioned_lake.put(f"data/{key}", b"x")
    prefix, what = "data/", "listing"
    lister = S3Lister(source._client, versioned_lake.bucket)
    following = lister.ask(prefix, what, "", None).following
    continued = S3Lister(source._client, versioned_lake.bucket).ask(prefix, what, "", following)
    assert "KeyMarker" in continued.following
    assert all(continued.objects.column("pin").to_pylist())


class TestOldVersions:
    """A prefix that is written again and again has far more old versions than objects."""

    @pytest.fixture
    def lake(self, versioned_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
        monkeypatch.setattr(s3_lister, "JUDGED_FROM", 30)
        monkeypatch.setattr(s3_lister, "MAX_OLD", 0.8)
        for number in range(12):
            for write in range(9):
                versioned_lake.put(f"data/{number:02}", f"{number} {write}".encode())
        for number in range(12, 40):
            versioned_lake.put(f"data/{number:02}", b"x")
        return versioned_lake

    def test_the_listing_goes_on_without_them_and_says_so(
        self, source: S3Source, lake: Lake, s3_requests: S3Requests, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "refart"):
            entries = listed(source, f"{lake.uri}/data")
        assert entries.keys() == {f"{number:02}" for number in range(40)}
        assert entries["00"].pin is not None
        assert entries["39"].pin is None  # the ETag pins
        assert s3_requests.count("ListObjectVersions") < 12 * 9 / 5
        assert s3_requests.count("ListObjectsV2") > 0
        [record] = caplog.records
        assert "versions are old, so it goes on without version ids" in record.getMessage()

    @pytest.mark.parametrize(("wanted", "listing"), [(True, "ListObjectVersions"), (False, "ListObjectsV2")])
    def test_version_aware_decides(
        self, pages_of_five: None, lake: Lake, s3_requests: S3Requests, wanted: bool, listing: str
    ) -> None:
        entries = listed(S3Source({"version_aware": wanted}), f"{lake.uri}/data")
        assert len(entries) == 40
        assert {entry.pin is not None for entry in entries.values()} == {wanted}
        assert {name for name in s3_requests.operations if name.startswith("List")} == {listing}

    def test_few_old_versions_change_nothing(
        self, source: S3Source, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_lister, "MAX_OLD", 0.99)
        entries = listed(source, f"{lake.uri}/data")
        assert len(entries) == 40
        assert all(entry.pin for entry in entries.values())


def test_version_ids_denied_in_the_middle_are_an_error_and_not_left_out(
    source: S3Source, versioned_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Denied at the beginning, ETags pin instead; later, the entries of one listing would be pinned in two ways."""
    for key in KEYS:
        versioned_lake.put(f"data/{key}", b"x")
    call, asked = source._client.call, 0

    def deny(operation: str, what: str, **parameters: Any) -> Any:
        nonlocal asked
        asked += operation == "ListObjectVersions"
        if asked > 6:
            error = PermissionDeniedError(f"{what}: access is denied")
            error.__cause__ = Refused("AccessDenied", 403)
            raise error
        return call(operation, what, **parameters)

    monkeypatch.setattr(source._client, "call", deny)
    with pytest.raises(PermissionDeniedError):
        listed(source, f"{versioned_lake.uri}/data")


@pytest.mark.parametrize("wrong", [0, -1, "many"])
def test_max_concurrency_is_a_number_of_requests(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_concurrency"):
        S3Source({"max_concurrency": wrong})


def test_max_concurrency_bounds_the_requests_at_once(lake: Lake, pages_of_five: None) -> None:
    assert listed(S3Source({"max_concurrency": 1}), f"{lake.uri}/data").keys() == set(KEYS)
