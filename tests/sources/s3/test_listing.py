"""Listing responses: what is parsed from them, and the way from keys to paths and URIs and back."""

from __future__ import annotations

from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from botocore import parsers
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from refart.errors import SourceError
from refart.sources.listed import Row, rows_of
from refart.sources.s3.listing import content_id_of, parse, row_of
from refart.sources.s3.source import split

LIST_VERSIONS = Session().get_service_model("s3").operation_model("ListObjectVersions")
ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'
NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
sizes = st.integers(0, 5 << 40)
version_ids = st.one_of(
    st.none(), st.from_regex(r"[A-Za-z0-9._]{1,32}", fullmatch=True).filter(lambda v: v != "null")
)
rows = st.lists(st.builds(row_of, keys, sizes, st.just(ETAG), version_ids), max_size=20)


def versions_xml(rows: list[Row], *, namespace: str = NAMESPACE, encode: str = "plus") -> bytes:
    encoding = {"plus": lambda key: quote_plus(key, safe="/"), "percent": quote, "none": escape}[encode]
    body = "".join(
        f"<Version><Key>{encoding(row.key)}</Key><VersionId>{(row.pin or 'version:null')[8:]}</VersionId>"
        f"<IsLatest>true</IsLatest><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>{escape(ETAG, {chr(34): '&quot;'})}</ETag><Size>{row.size}</Size>"
        "<Owner><ID>o</ID><DisplayName>n</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Version>"
        for row in rows
    )
    said = "" if encode == "none" else "<EncodingType>url</EncodingType>"
    return f"<ListVersionsResult{namespace}>{said}<IsTruncated>false</IsTruncated>{body}</ListVersionsResult>".encode()


class TestParse:
    @given(rows, st.sampled_from([NAMESPACE, ""]), st.sampled_from(["plus", "percent"]))
    def test_every_key_comes_back_as_it_was(self, rows: list[Row], namespace: str, encode: str) -> None:
        listed = parse(versions_xml(rows, namespace=namespace, encode=encode), "test")
        assert list(rows_of(listed.objects)) == rows
        assert listed.following is None
        assert listed.is_last
        assert listed.last_key == max((row.key for row in rows), default="")
        assert listed.in_order == (
            sorted(row.key.encode() for row in rows) == [row.key.encode() for row in rows]
        )

    @given(rows)
    def test_it_reads_what_botocore_reads(self, rows: list[Row]) -> None:
        body = versions_xml(rows)
        response = {"body": body, "headers": {}, "status_code": 200}
        parsed = parsers.create_parser("rest-xml").parse(response, LIST_VERSIONS.output_shape)
        mine = [
            (quote_plus(row.key, safe="/"), row.size, ETAG) for row in rows_of(parse(body, "test").objects)
        ]
        assert mine == [(v["Key"], v["Size"], v["ETag"]) for v in parsed.get("Versions", [])]

    def test_old_versions_and_delete_markers_are_no_rows(self) -> None:
        body = b"""<ListVersionsResult>
            <Version><Key>a</Key><VersionId>2</VersionId><IsLatest>true</IsLatest><Size>1</Size></Version>
            <Version><Key>a</Key><VersionId>1</VersionId><IsLatest>false</IsLatest><Size>1</Size></Version>
            <DeleteMarker><Key>b</Key><VersionId>4</VersionId><IsLatest>true</IsLatest></DeleteMarker>
            <Version><Key>b</Key><VersionId>3</VersionId><IsLatest>false</IsLatest><Size>1</Size></Version>
            <DeleteMarker><Key>c</Key><VersionId>5</VersionId><IsLatest>true</IsLatest></DeleteMarker>
        </ListVersionsResult>"""
        listed = parse(body, "test")
        assert list(rows_of(listed.objects)) == [row_of("a", 1, "", "2")]
        assert listed.last_key == "c"

    def test_where_it_goes_on(self) -> None:
        def following(fields: str) -> dict[str, str] | None:
            head = "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
            return parse(
                f"<ListVersionsResult>{head}{fields}</ListVersionsResult>".encode(), "test"
            ).following

        assert following("<NextContinuationToken>a+b%20</NextContinuationToken>") == {
            "ContinuationToken": "a+b%20"
        }
        assert following("<NextKeyMarker>a+b%2B</NextKeyMarker>") == {"KeyMarker": "a b+"}
        assert following("<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v+</NextVersionIdMarker>") == {
            "KeyMarker": "k",
            "VersionIdMarker": "v+",
        }

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "ParseError"),
            (b"<html><body>Sign in</body></html>", "<html>"),
            (b"<ListBucketResult><Contents><Key>a", "ParseError"),
            (b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>", "Key"),
            (b"<ListBucketResult><Contents><Key>a</Key><Size>x</Size></Contents></ListBucketResult>", "'x'"),
            (b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "no token"),
            (
                b"<ListBucketResult><EncodingType>url</EncodingType>"
                b"<Contents><Key>%ff</Key><Size>1</Size></Contents></ListBucketResult>",
                "UnicodeDecodeError",
            ),
            (
                b"<ListBucketResult><Contents><Key>a\rb</Key><Size>1</Size></Contents></ListBucketResult>",
                "line breaks",
            ),
            (
                b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
                + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
                + b"]><ListBucketResult>&j;</ListBucketResult>",
                "ParseError",
            ),
        ],
    )
    def test_what_is_no_listing_is_an_error(self, body: bytes, says: str) -> None:
        with pytest.raises(
            SourceError, match=f"listing s3://b: the server's answer is not a listing .*{says}"
        ):
            parse(body, "listing s3://b")

    @given(rows, st.data())
    def test_a_body_that_was_cut_off_is_never_taken_for_whole(
        self, rows: list[Row], data: st.DataObject
    ) -> None:
        body = versions_xml(rows)
        with pytest.raises(SourceError) as error:
            parse(body[: data.draw(st.integers(0, len(body) - 1))], "test")
        assert error.value.transient


def test_what_pins() -> None:
    md5 = ETAG.strip('"')
    assert row_of("k", 1, ETAG, "v1") == Row("k", 1, f"md5:{md5}", "version:v1")
    assert row_of("k", 1, ETAG, None) == row_of("k", 1, ETAG, "null") == Row("k", 1, f"md5:{md5}", None)
    assert row_of("k", 1, '"abc-2"', None) == Row("k", 1, "etag:abc-2", None)
    assert row_of("k", 1, "", None) == Row("k", 1, "none", None)


def test_a_weak_etag_says_nothing_about_bytes() -> None:
    assert content_id_of('W/"abc"') == "none"


@given(st.from_regex(r"[a-z0-9.-]{3,20}", fullmatch=True), keys)
def test_the_key_is_everything_after_the_first_slash(bucket: str, key: str) -> None:
    assert split(f"s3://{bucket}/{key}") == (f"s3://{bucket}/", bucket, key)
    assert split(f"s3a://{bucket}/{key}")[0] == f"s3a://{bucket}/"
