"""A prefix as it stood at a time: from all versions of S3 (over moto, and over answers of any order) and GCS."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import refart
from refart.errors import InvalidInputError, NotFoundError, SourceError
from refart.sources.listed import Row
from refart.sources.s3 import history as s3_history
from tests.clocks import next_second

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def logged(uri: str, at: datetime | str, **how) -> dict[str, bytes]:
    """Path → bytes of what is logged of `uri` as of a time."""
    with refart.init() as run:
        draft = refart.Artifact("past", "dataset")
        draft.add_reference(uri, as_of=at, **how)
        version = run.log_artifact(draft)
        return {entry.path: entry.open().read() for entry in version}


def test_a_prefix_of_s3_as_it_stood(refart_workspace, versioned_lake, s3_requests):
    before = datetime.now(UTC) - timedelta(days=1)
    versioned_lake.put("d/kept", b"kept")
    versioned_lake.put("d/changed", b"old")
    versioned_lake.put("d/gone", b"gone")
    then = next_second()
    versioned_lake.put("d/changed", b"new")
    versioned_lake.delete("d/gone")
    versioned_lake.put("d/more", b"more")
    uri = f"{versioned_lake.uri}/d"
    s3_requests.clear()
    assert logged(uri, then) == {"kept": b"kept", "changed": b"old", "gone": b"gone"}
    assert s3_requests.count("ListObjectVersions") == 1
    assert s3_requests.count("HeadObject") == 0
    now = next_second().isoformat()
    assert logged(uri, now) == {"kept": b"kept", "changed": b"new", "more": b"more"}
    assert logged(f"{uri}/gone", then) == {"gone": b"gone"}
    with pytest.raises(NotFoundError):
        logged(uri, before)


def test_what_no_history_can_tell_is_refused(refart_workspace, unversioned_lake, tmp_path):
    with pytest.raises(InvalidInputError, match="never versioned"):
        logged(unversioned_lake.uri, BEGIN)
    with pytest.raises(InvalidInputError, match="keeps no history"):
        logged(str(tmp_path), BEGIN)
    for wrong in (
        "yesterday",
        "2026-01-01T00:00:00",
        datetime(2026, 1, 1),
        datetime.now(UTC) + timedelta(days=1),
    ):
        with pytest.raises(InvalidInputError, match="as_of"):
            logged(unversioned_lake.uri, wrong)


def test_a_prefix_of_gcs_as_it_stood(refart_workspace, fake_gcs, tmp_path):
    versioned, plain = fake_gcs.bucket(versioned=True), fake_gcs.bucket(versioned=False)
    options = "\n".join(f"{name} = {json.dumps(value)}" for name, value in fake_gcs.storage_options.items())
    (tmp_path / "refart-config.toml").write_text(f"[storage_options.'gs://']\n{options}\n")
    versioned.put("d/changed", b"old")
    versioned.put("d/gone", b"gone")
    then = next_second()
    versioned.put("d/changed", b"new")
    versioned.delete("d/gone")
    versioned.put("d/more", b"more")
    assert logged(f"{versioned.uri}/d", then) == {"changed": b"old", "gone": b"gone"}
    assert logged(f"{versioned.uri}/d", next_second()) == {"changed": b"new", "more": b"more"}
    plain.put("d/k", b"k")
    with pytest.raises(InvalidInputError, match="keeps no versions"):
        logged(plain.uri, then)


# --- the writes of a key


writes = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.booleans()), max_size=12)


def answer(told, *, markers_last: bool) -> bytes:
    """A response of these (key, second, is a marker), as a server writes it."""
    parts = []
    latest = {}
    for number, (key, second, is_marker) in enumerate(told):
        latest[key] = number
        del second, is_marker
    for number, (key, second, is_marker) in enumerate(told):
        kind = "DeleteMarker" if is_marker else "Version"
        size = "" if is_marker else f"<Size>{number}</Size><ETag>&quot;{number:032x}&quot;</ETag>"
        stamp = (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        is_latest = str(latest[key] == number).lower()
        text = (
            f"<{kind}><Key>{key}</Key><VersionId>v{number}</VersionId><IsLatest>{is_latest}</IsLatest>"
            f"<LastModified>{stamp}</LastModified>{size}</{kind}>"
        )
        parts.append(((is_marker if markers_last else False), key, -number, text))
    body = "".join(text for *_, text in sorted(parts))
    return f"<ListVersionsResult><IsTruncated>false</IsTruncated>{body}</ListVersionsResult>".encode()


@given(told=writes, at=st.integers(0, 5), markers_last=st.booleans())
def test_the_last_write_until_then_stood(told, at, markers_last):
    """Told in the order in which they were made, with times that only ascend within a key."""
    told = [(key, second + 6 * number, is_marker) for number, (key, second, is_marker) in enumerate(told)]
    moment = BEGIN + timedelta(seconds=6 * at)
    expected: dict[str, str] = {}
    for number, (key, second, is_marker) in enumerate(told):
        if BEGIN + timedelta(seconds=second) <= moment:
            expected.pop(key, None)
            if not is_marker:
                expected[key] = f"version:v{number}"
    found, following = s3_history.parse(answer(told, markers_last=markers_last), "x")
    rows = list(s3_history.Standing(moment).of(found))
    assert following is None
    assert {row.key: row.pin for row in rows} == expected


def test_a_key_that_goes_on_in_the_next_response_is_told_once():
    def write(second: int, row: Row | None) -> s3_history.Write:
        return s3_history.Write("k", False, BEGIN + timedelta(seconds=second), row)

    new, old = Row("k", 1, "md5:" + "0" * 32, "version:2"), Row("k", 2, "md5:" + "1" * 32, None)
    standing = s3_history.Standing(BEGIN + timedelta(seconds=5))
    assert list(standing.of([write(9, new), write(4, new)])) == [new]
    assert list(standing.of([write(3, old)])) == []
    earlier = s3_history.Standing(BEGIN + timedelta(seconds=3))
    assert list(earlier.of([write(9, new), write(4, None)])) == []
    # A write of before versioning is read as version null, once another has taken its place.
    assert list(earlier.of([write(3, old)])) == [old._replace(pin="version:null")]


@pytest.mark.parametrize(
    "body",
    [
        b"<ListVersionsResult><IsTruncated>false",
        b"<Other/>",
        b"<ListVersionsResult><Version><Key>k</Key></Version></ListVersionsResult>",
        b"<ListVersionsResult><DeleteMarker><Key>k</Key><VersionId>1</VersionId><LastModified>now</LastModified>"
        b"</DeleteMarker></ListVersionsResult>",
    ],
)
def test_what_is_no_listing_of_versions_is_an_error(body):
    with pytest.raises(SourceError, match="not a listing of versions"):
        s3_history.parse(body, "listing s3://b/")
