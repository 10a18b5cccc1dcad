"""Columns found without a look at each element are those that an XML parser finds."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart.errors import SourceError
from refart.sources.listed import rows_of
from refart.sources.s3.elements import Elements
from refart.sources.s3.listing import parse

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
PATTERN_OF_TEXTS = r"[a-z<>&\"'\r\n\t ,+%=é\U0001f600]{0,8}"


def element(key: str, draw: Any, *, alike: bool, encode: bool, versions: bool) -> str:
    """An element as servers write it; `alike` ones differ in values only."""
    rare = st.just(False) if alike else st.booleans()
    quote = draw(st.sampled_from(["&quot;", "&#34;", '"'])) if draw(rare) else "&quot;"
    etag = draw(st.sampled_from([MD5, MD5[::-1], f"{MD5}-12", *(["odd", "&lt;", ""] if draw(rare) else [])]))
    text = (
        quote_plus(key, safe="/") if encode else escape(key, {"\r": "&#13;"} if draw(st.booleans()) else {})
    )
    is_latest = draw(st.sampled_from(["true", "false"]))
    version = draw(st.sampled_from(["null", "v1", "Vtr.lwN_gZ", *(["a&amp;b"] if draw(rare) else [])]))
    tag, told = "Contents", f"<Key>{text}</Key>"
    if versions:
        tag = "DeleteMarker" if draw(rare) else "Version"
        told += f"<VersionId>{version}</VersionId><IsLatest>{is_latest}</IsLatest>"
    told += "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    if tag != "DeleteMarker":
        size = draw(
            st.one_of(
                st.integers(0, 10**18 - 1), st.sampled_from(["x", "", "1" * 19]) if draw(rare) else st.just(1)
            )
        )
        told += f"<ETag>{quote}{etag}{quote}</ETag>" + "<ChecksumType>FULL</ChecksumType>" * draw(rare)
        told += f"<Size>{size}</Size><StorageClass>{'GLACIER' if draw(rare) else 'STANDARD'}</StorageClass>"
    told += "<Owner><ID>4c1029</ID></Owner>"
    return f"<{tag}>{told}</{tag}>{' ' * draw(rare)}"


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_every_way_to_read_a_listing_tells_the_same(
    data: st.DataObject, alike: bool, encode: bool, versions: bool
) -> None:
    keys = st.lists(st.from_regex(PATTERN_OF_TEXTS, fullmatch=True), min_size=1, max_size=6)
    elements = [
        element(key, data.draw, alike=alike, encode=encode, versions=versions) for key in data.draw(keys)
    ]
    root = "ListVersionsResult" if versions else "ListBucketResult"
    said = "<EncodingType>url</EncodingType>" * encode + "<IsTruncated>false</IsTruncated>"

    def told(end: str) -> Any:
        body = f"<{root}>{said}{''.join(elements)}{end}</{root}>".encode()
        try:
            found = parse(body, "test")
        except SourceError:
            return None
        return list(rows_of(found.objects)), found.keys, found.current_keys, found.in_order, found.resume_key

    assert told("") == told("<!-- read by the parser of XML -->")


class TestAlike:
    """The first element, again and again with other values."""

    @staticmethod
    def body(*values: tuple[str, str, str]) -> str:
        return "".join(
            f"<Version><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>true</IsLatest>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{MD5}&quot;</ETag><Size>{size}</Size>"
            "<Owner><ID>4c1029</ID></Owner></Version>"
            for key, version, size in values
        )

    def test_values_are_columns(self) -> None:
        elements = Elements(self.body(("a", "v1", "1"), ("ü,\n/\x1f", "null", "23")).encode(), b"Version")
        assert elements.are_alike
        assert elements.texts("Key") == pa.array(["a", "ü,\n/\x1f"])
        assert elements.texts("VersionId") == pa.array(["v1", "null"])
        assert elements.are_latest() == pa.array([True, True])
        assert elements.etags() == pa.array([MD5, MD5])
        assert elements.sizes() == pa.array([1, 23])

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("<Size>2</Size>", "<Size>2</Size><RestoreStatus></RestoreStatus>"),  # an element more
            ("<VersionId>v2</VersionId>", ""),  # one less
            ("<ID>4c1029</ID>", "<ID>4c1028</ID>"),  # a text that is another
            ("<Key>b</Key>", "<Key>b<Key/></Key>"),  # an element in a text
            ("&quot;</ETag>", "<a/>&quot;</ETag>"),
            ("</Version><Version>", "</Version>\n<Version>"),  # something between
            ("</Version><Version>", "</Version><DeleteMarker></DeleteMarker><Version>"),
            ("<Key>a</Key>", "<Key>a</Key><Key>a</Key>"),
            ("<Key>a</Key>", "<Key>&amp;</Key>"),
        ],
    )
    def test_what_differs_otherwise_is_not_alike(self, old: str, new: str) -> None:
        body = self.body(("a", "v1", "1"), ("b", "v2", "2"), ("c", "v3", "3"))
        changed = new.join(body.rsplit(old, 1))
        assert changed != body
        assert not Elements(changed.encode(), b"Version").are_alike

    def test_bytes_that_are_no_utf8_are_not_alike(self) -> None:
        body = self.body(("a", "v1", "1"), ("b", "v2", "2")).encode()
        assert not Elements(body.replace(b"<Key>b", b"<Key>\xff"), b"Version").are_alike

    def test_much_text_without_elements_takes_no_time_to_speak_of(self) -> None:
        """Quadratic, this would take hours."""
        body = self.body(("a", "v1", "1"), ("b" * 3_000_000, "v2", "2"))
        assert not Elements(body[: -len("</Owner></Version>")].encode() + b"</Version>", b"Version").are_alike
