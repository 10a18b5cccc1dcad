"""What a resource of the JSON API becomes."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import checksums
from refart.errors import SourceError
from refart.sources.gcs.listing import content_id_of, parse, row_of
from refart.sources.listed import Row


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@given(data=st.binary(), crc=st.binary(min_size=4, max_size=4), generation=st.integers(1, 2**63 - 1))
def test_the_strongest_hash_is_the_content_id(data: bytes, crc: bytes, generation: int) -> None:
    md5 = hashlib.md5(data).digest()
    assert content_id_of(base64_of(md5), base64_of(crc), str(generation)) == f"md5:{md5.hex()}"
    assert content_id_of(None, base64_of(crc), str(generation)) == f"crc32c:{crc.hex()}"
    assert content_id_of(None, None, str(generation)) == f"generation:{generation}"
    for given_md5, given_crc in ((base64_of(md5), None), ("", base64_of(crc)), ("", "")):
        checksums.split(content_id_of(given_md5, given_crc, str(generation)))


@pytest.mark.parametrize(
    ("md5", "crc32c"), [("AAAA", None), ("not base64!", None), (None, "AAAAAAA="), (None, "?")]
)
def test_what_is_no_hash_is_refused(md5: str | None, crc32c: str | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        content_id_of(md5, crc32c, "1")


@given(keys=st.lists(st.text(min_size=1), unique=True))
def test_order_is_that_of_utf8(keys: list[str]) -> None:
    """GCS lists so; it is what lets a listing stop early."""
    items = [{"name": key, "size": "0", "generation": "1"} for key in keys]
    listed = parse({"items": items}, "listing gs://lake/")
    encoded = [key.encode("utf-8", "surrogatepass") for key in keys]
    assert listed.in_order == (encoded == sorted(encoded))
    assert listed.last_key.encode("utf-8", "surrogatepass") == max(encoded, default=b"")
    assert listed.objects.column("key").to_pylist() == keys


def test_a_listing_of_nothing() -> None:
    listed = parse({}, "listing gs://lake/")
    assert (listed.objects.num_rows, listed.last_key, listed.is_last, listed.following) == (0, "", True, None)


def test_the_last_page_is_the_one_without_a_token() -> None:
    for answer, token in (({"nextPageToken": "x"}, "x"), ({"nextPageToken": ""}, None), ({}, None)):
        listed = parse(answer, "listing gs://lake/")
        assert (listed.following, listed.is_last) == (token, token is None)


def test_a_resource_with_more_than_was_asked_for() -> None:
    """Emulators do not look at the field mask."""
    resource = {
        "kind": "storage#object",
        "name": "k",
        "size": "3",
        "generation": "17",
        "etag": "CPjg",
        "acl": [],
    }
    assert row_of(resource, "gs://lake/k") == Row("k", 3, "generation:17", "generation:17")


@pytest.mark.parametrize("missing", ["name", "size", "generation"])
def test_a_resource_that_lacks_something(missing: str) -> None:
    resource = {"name": "k", "size": "3", "generation": "17"}
    del resource[missing]
    with pytest.raises(SourceError, match=f"gs://lake/k: .*JSON API of GCS .*{missing}"):
        row_of(resource, "gs://lake/k")
