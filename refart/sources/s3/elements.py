"""The texts of a listing's elements as columns, found without a look at each element.

For elements as Amazon S3 and most others write them, without attributes, comments or space between them. A page of
1,000 is nearly always one text repeated, in which only a few values differ: the first element tells which, one regular
expression takes them out, and they count where the same text with these values in it is the page again, byte by byte.
Otherwise each value has a regular expression of its own, and must be found once in each element.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums
from refart.entries import text_of

_QUOTES: Final = (b"&quot;", b"&#34;", b'"')
_PATTERNS: Final = {
    "Key": [re.compile(rb"<Key>([^<]+)</Key>")],
    "VersionId": [re.compile(rb"<VersionId>([^<]+)</VersionId>")],
    "IsLatest": [re.compile(rb"<IsLatest>(true|false)</IsLatest>")],
    "ETag": [
        re.compile(b'<ETag>%b([^<&"]+)%b</ETag>' % (q, q)) for q in _QUOTES
    ],  # one for all is half as fast
    "Size": [re.compile(rb"<Size>([0-9]+)</Size>")],
}
_VALUE: Final = re.compile(
    rb"<(?:(Key|VersionId|IsLatest|LastModified|Size)>([^<&]+)(?=<)"
    rb'|(ETag)>(?:&quot;|&#34;|")([^<&"]+)(?=[&"]))'
)
"""A value that may differ from element to element."""
_ETAGS: Final = re.compile(rb"(?:[0-9a-f]{32}(?:-[0-9]{1,5})?\n)*")
POOL: Final = pa.system_memory_pool()
"""Arrow's own keeps megabytes for each thread that ever asked it for a few columns."""
_SIZE_DIGITS: Final = 18
_MD5_DIGITS: Final = checksums.HEX_DIGITS["md5"]


class Elements:
    """Elements of one kind, one after another; their texts as columns, None where they cannot be told for sure."""

    def __init__(self, body: bytes, tag: bytes, start: int = 0, end: int | None = None) -> None:
        """Of a part of `body`. What it holds between elements `tag` is not looked at, where they are not alike."""
        self._body, self._tag, self._start, self._end = body, tag, start, len(body) if end is None else end
        self._alike = _alike(body, tag, self._start, self._end)

    @property
    def are_alike(self) -> bool:
        """Whether they were found to be the same text with other values, and nothing between them."""
        return self._alike is not None

    def texts(self, name: str) -> pa.StringArray | None:
        """The one text of each that is named so, as it stands there: no entity is part of it."""
        if self._alike is not None:
            found = self._alike.get(name)
        else:
            tried = map(self._find, _PATTERNS[name])
            found = next((texts for texts in tried if texts is not None), None)
        return None if found is None or _has(found, b"&") else found

    def are_latest(self) -> pa.BooleanArray | None:
        """Which of them are the newest of their keys."""
        texts = self.texts("IsLatest")
        if texts is None:
            return None
        latest = pc.equal(texts, "true")
        told = latest.true_count + pc.equal(texts, "false").true_count if latest.false_count else len(texts)
        return latest if told == len(texts) else None

    def etags(self) -> pa.StringArray | None:
        """Their ETags without quotes, where all are MD5s or those of multipart uploads."""
        etags = self.texts("ETag")
        if etags is None or not _has(etags, b"-"):
            # This takes a third of the time of a pattern, and most have no parts.
            is_hex = etags is not None and not text_of(etags).to_pybytes().translate(
                None, b"0123456789abcdef"
            )
            return (
                etags if is_hex and pc.all(pc.equal(pc.binary_length(etags), _MD5_DIGITS)).as_py() else None
            )
        return etags if _ETAGS.fullmatch(b"".join(b"%b\n" % etag for etag in _bytes_of(etags))) else None

    def keys(self, *, is_encoded: bool) -> pa.StringArray | None:
        """Their keys."""
        keys = self.texts("Key")
        if keys is None:
            return None
        if not is_encoded:
            return None if _has(keys, b"\r") else keys
        if not (_has(keys, b"%") or _has(keys, b"+")):
            return keys
        encoded = _bytes_of(keys)
        joined = b"\n".join(encoded)
        if b"%0A" in joined or b"%0a" in joined:  # a line feed would end a key
            decoded = [unquote_plus(key.decode(), errors="strict") for key in encoded]
        else:
            decoded = unquote_to_bytes(joined.replace(b"+", b" ")).decode().split("\n")
        return pa.array(decoded, pa.string()) if len(decoded) == len(keys) else None

    def _find(self, pattern: re.Pattern[bytes]) -> pa.StringArray | None:
        """What a pattern finds, where that is one text in each element."""
        found = pattern.findall(self._body, self._start, self._end)
        count = self._body.count(b"<%b>" % self._tag, self._start, self._end)
        return pa.array(found, pa.string()) if len(found) == count else None

    def sizes(self) -> pa.Int64Array | None:
        """Their sizes."""
        sizes = self.texts("Size")
        if sizes is None or text_of(sizes).to_pybytes().translate(None, b"0123456789"):
            return None
        digits = pc.min_max(pc.binary_length(sizes))
        is_size = len(sizes) == 0 or (digits["min"].as_py() > 0 and digits["max"].as_py() <= _SIZE_DIGITS)
        return sizes.cast(pa.int64(), memory_pool=POOL) if is_size else None


def _alike(body: bytes, tag: bytes, start: int, end: int) -> dict[str, pa.StringArray] | None:
    """The values of elements that differ from the first one by nothing else; None where they differ by more."""
    first = body[start : body.find(b"</%b>" % tag, start, end) + len(tag) + 3]
    try:
        told = [(child.tag, child.text) for child in ElementTree.fromstring(first)]  # noqa: S314
        if not body.isascii():
            body.decode()
    except (ElementTree.ParseError, UnicodeDecodeError):
        return None
    found = [(value, value.lastindex or 0) for value in _VALUE.finditer(first)]
    spans = {value[index - 1].decode(): value.span(index) for value, index in found}
    if "Key" not in spans or len(spans) < len(found):
        return None
    for name, span in spans.items():
        text = first[slice(*span)].decode()
        if told.count((name, f'"{text}"' if name == "ETag" else text)) != 1:
            return None
    elements = memoryview(body)[start:end]
    if ("IsLatest", "true") in told:  # as nearly everywhere
        latest = spans.pop("IsLatest")
        if (alike := _again(elements, first, spans)) is not None:
            return alike | {"IsLatest": pa.repeat("true", len(alike["Key"]))}
        spans = dict(sorted([*spans.items(), ("IsLatest", latest)], key=lambda span: span[1]))
    return _again(elements, first, spans)


def _again(
    body: memoryview, first: bytes, spans: dict[str, tuple[int, int]]
) -> dict[str, pa.StringArray] | None:
    """The values in these spans of the first element, and in the others; None where `body` is not the first element,
    again and again, with those."""
    starts, ends = (
        [0, *(end for _, end in spans.values())],
        [*(start for start, _ in spans.values()), len(first)],
    )
    between = [first[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    # What a value ends with is one character: several take twice the time. Skipped ones cost nothing, and what is not
    # alike is skipped to its end: nothing is looked at twice.
    skips = [b"(?s:.{%d})" % (end - start) for start, end in zip(starts, ends, strict=True)]
    values = [b"([^%b]*+)" % first[end : end + 1] for _, end in spans.values()]
    alike = re.compile(
        b"".join([*chain.from_iterable(zip(skips, values, strict=False)), skips[-1], b"|(?s:.+)"])
    )
    cells, count = alike.split(body), len(spans)
    if cells[-2] is None:
        return None
    # All of the body is UTF-8, and so is what lies between two of its ASCII characters.
    binary = [pa.array(cells[at :: count + 1], pa.binary(), memory_pool=POOL) for at in range(1, count + 1)]
    columns = [column.view(pa.string()) for column in binary]
    again = pc.binary_join_element_wise(
        *chain.from_iterable(zip(between, columns, strict=False)),
        between[-1],
        "",
        memory_pool=POOL,
    )
    if not text_of(again).equals(pa.py_buffer(body)) or any(_has(column, b"<") for column in columns):
        return None
    return dict(zip(spans, columns, strict=True))


def _bytes_of(texts: pa.StringArray) -> list[bytes]:
    return texts.cast(pa.binary()).to_pylist()  # type: ignore[no-any-return]


def _has(texts: pa.StringArray, character: bytes) -> bool:
    """Whether any of them holds a character."""
    return character in text_of(texts).to_pybytes()
