"""What drivers say about files, as content ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from fsspec import AbstractFileSystem
from hypothesis import given
from hypothesis import strategies as st

from refart import checksums
from refart.sources.generic.identity import of_file, of_info

SHA256 = "ab" * 32
MD5 = "cd" * 16


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"sha256": SHA256.upper()}, f"sha256:{SHA256}"),
        ({"lfs": {"sha256": SHA256}, "blob_id": "1"}, f"sha256:{SHA256}"),
        ({"md5Checksum": MD5}, f"md5:{MD5}"),
        ({"ETag": '"abc"'}, "etag:W/abc"),
        ({"etag": 'W/"abc"'}, "etag:W/abc"),
        ({"e_tag": MD5}, f"etag:W/{MD5}"),  # what it is of, nobody says
        ({"CRC": 305419896, "date_time": (2026, 1, 1, 0, 0, 0)}, "etag:W/305419896"),
        ({"sha": "f00", "mode": "100644"}, "etag:W/f00"),
        ({"mtime": 1.5}, "stat:1500000000"),
        ({"mtime": -1}, "stat:-1000000000"),
        ({"modificationTime": 1500}, "stat:1500000000"),
        ({"LastModified": datetime(1970, 1, 1, 0, 0, 1, 7, tzinfo=UTC)}, "stat:1000007000"),
        ({"modified": datetime(1970, 1, 1, 0, 0, 1)}, "stat:1000000000"),
        ({"modified": datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, "stat:0"),
        ({"updated": "1970-01-01T00:00:01.5+00:00"}, "stat:1500000000"),
        ({"Last-Modified": "Thu, 01 Jan 1970 00:00:01 GMT"}, "stat:1000000000"),
        ({"ETag": '"abc"', "mtime": 1}, "etag:W/abc"),
    ],
)
def test_the_strongest_that_is_told(info: dict[str, Any], expected: str) -> None:
    found = of_info(info)
    assert found[0] == expected
    checksums.split(found[0])


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"sha256": "abc", "md5": 5, "lfs": None},
        {"etag": None, "ETag": "", "e_tag": '""', "Etag": "line\nend", "CRC": True},
        {"mtime": "yesterday", "modified": None, "updated": float("nan"), "LastModified": 10**30},
        {"created": 1.5, "time": 7, "name": "a", "size": 3, "type": "file"},
    ],
)
def test_nothing_is_made_up(info: dict[str, Any]) -> None:
    assert of_info(info) == ()


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_one_moment_is_one_identity_however_it_is_told(moment: datetime) -> None:
    """Some drivers list a moment as a number of seconds and give it as a `datetime` for a single file."""
    moment = moment.replace(tzinfo=UTC)
    expected = of_info({"mtime": moment})
    assert of_info({"mtime": moment.isoformat()}) == of_info({"mtime": moment.timestamp()}) == expected
    second = moment.replace(microsecond=0)
    assert of_info({"mtime": int(second.timestamp())}) == of_info({"mtime": second})


class Silent(AbstractFileSystem):  # type: ignore[misc]
    pass


class Talking(Silent):
    def modified(self, path: str) -> datetime:
        return datetime(1970, 1, 1, 0, 0, 1)

    def checksum(self, path: str) -> int:
        return 17


class Unwilling(Talking):
    def modified(self, path: str) -> datetime:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("driver", "expected"),
    [(Silent, ()), (Talking, ("stat:1000000000", "etag:W/17")), (Unwilling, ("etag:W/17",))],
)
def test_a_driver_is_asked_where_its_listing_is_silent(
    driver: type[Silent], expected: tuple[str, ...]
) -> None:
    """The base class's `checksum` is not: it hashes access times and all."""
    assert of_file(driver(skip_instance_cache=True), "/a", {"name": "/a", "size": 1}) == expected
    assert of_file(driver(skip_instance_cache=True), "/a", {"etag": "1"}) == ("etag:W/1",)
