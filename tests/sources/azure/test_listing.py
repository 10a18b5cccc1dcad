"""Listings of Azure, parsed from their bytes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import checksums
from refart.errors import SourceError
from refart.sources.azure.listing import parse, row_of
from refart.sources.listed import rows_of
from tests.sources.azure.account import Blobs

MD5 = bytes(range(16))


def listing(*blobs: str) -> bytes:
    return f"<EnumerationResults><Blobs>{''.join(blobs)}</Blobs><NextMarker/></EnumerationResults>".encode()


def blob(name: str = "<Name>a</Name>", extra: str = "", properties: str = "") -> str:
    return (
        f"<Blob>{name}{extra}<Properties><Etag>0x1</Etag><Content-Length>3</Content-Length>"
        f"{properties}</Properties></Blob>"
    )


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), max_size=20))
def test_every_name_comes_back_in_the_order_of_the_server(keys: set[str]) -> None:
    blobs = Blobs()
    for key in keys:
        blobs.put(key, b"x")
    listed = parse(blobs.listing({}), "listing", None)
    by_utf16 = sorted(keys, key=lambda key: key.encode("utf-16-be"))
    assert listed.objects.column("key").to_pylist() == by_utf16
    assert listed.last_key == max(keys, default="")
    assert listed.in_order == (by_utf16 == sorted(keys))


def test_names_beyond_the_first_plane_come_out_of_order() -> None:
    """UTF-16 has U+1F600 before U+E000, UTF-8 after it; nothing may be concluded from such an order."""
    names = [blob("<Name>\U0001f600</Name>"), blob("<Name>\ue000</Name>")]
    assert not parse(listing(*names), "listing", None).in_order
    assert parse(listing(*reversed(names)), "listing", None).in_order


@pytest.mark.parametrize(
    "extra",
    [
        "<Snapshot>2026-11-24T00:00:00.0000000Z</Snapshot>",
        "<Deleted>true</Deleted>",
        "<VersionId>v1</VersionId>",
        "<VersionId>v1</VersionId><IsCurrentVersion>false</IsCurrentVersion>",
    ],
)
def test_what_is_not_the_blob_itself_is_no_row(extra: str) -> None:
    listed = parse(listing(blob(extra=extra)), "listing", "more")
    assert (listed.objects.num_rows, listed.last_key, listed.is_last) == (0, "a", False)


@pytest.mark.parametrize(
    ("properties", "metadata"),
    [
        ("<ResourceType>directory</ResourceType>", ""),
        ("", "<Metadata><hdi_isfolder>true</hdi_isfolder></Metadata>"),
        ("", "<Metadata><x>1</x><Hdi_isfolder>true</Hdi_isfolder></Metadata>"),
    ],
)
def test_a_blob_that_stands_for_a_folder_is_no_row(properties: str, metadata: str) -> None:
    assert not parse(listing(blob(extra=metadata, properties=properties)), "listing", None).objects.num_rows


@pytest.mark.parametrize(
    "metadata", ["<Metadata/>", "<Metadata><hdi_isfolder>false</hdi_isfolder></Metadata>"]
)
def test_other_metadata_says_nothing(metadata: str) -> None:
    properties = "<ResourceType>file</ResourceType>"
    assert parse(listing(blob(extra=metadata, properties=properties)), "listing", None).objects.num_rows


@pytest.mark.parametrize(
    ("md5", "content_id", "pin"),
    [
        (base64.b64encode(MD5).decode(), f"md5:{MD5.hex()}", "etag:0x1"),
        ("", "etag:0x1", None),
        (base64.b64encode(MD5[:8]).decode(), "etag:0x1", None),
        ("not base64!", "etag:0x1", None),
    ],
)
def test_a_blob_is_known_by_its_md5_or_else_its_etag(md5: str, content_id: str, pin: str | None) -> None:
    properties = f"<Content-MD5>{md5}</Content-MD5>"
    [row] = rows_of(parse(listing(blob(properties=properties)), "listing", None).objects)
    assert (row.size, row.content_id, row.pin) == (3, content_id, pin)


@pytest.mark.parametrize("etag", ["0x8DCE", '"0x8DCE"'])
def test_etags_have_one_form(etag: str) -> None:
    """Azure quotes them in headers only."""
    assert row_of("a", 1, None, etag, None, "BlockBlob").content_id == "etag:0x8DCE"
    assert row_of("a", 1, MD5, etag, None, "BlockBlob").pin == "etag:0x8DCE"


@pytest.mark.parametrize("blob_type", ["AppendBlob", "PageBlob"])
def test_blobs_that_change_in_place_are_pinned_by_etag(blob_type: str) -> None:
    assert row_of("a", 1, MD5, "0x1", "v1", "BlockBlob").pin == "version:v1"
    assert row_of("a", 1, MD5, "0x1", "v1", blob_type).pin == "etag:0x1"


def test_a_server_without_etags_identifies_nothing() -> None:
    assert row_of("a", 1, None, "", None, None) == ("a", 1, checksums.NONE, None)


@pytest.mark.parametrize(
    ("body", "transient"),
    [
        (b"", True),
        (b"<EnumerationResults><Blobs><Blob>", True),
        (b"<html/>", False),
        (b"<Error><Code>No</Code></Error>", False),
        (listing("<Blob/>"), False),
        (listing(blob().replace(">3<", ">three<")), False),
        (listing(blob('<Name Encoded="true">%FF</Name>')), False),
    ],
)
def test_what_is_no_listing_is_an_error(body: bytes, transient: bool) -> None:
    with pytest.raises(SourceError, match=r"listing az://c/: the server's answer is not a listing") as error:
        parse(body, "listing az://c/", None)
    assert error.value.transient is transient
