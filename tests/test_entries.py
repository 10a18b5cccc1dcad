"""Entries and pages: round trips, and the gate that hostile rows do not pass."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from refart.entries import (
    PAGE_ROWS,
    SCHEMA,
    Entry,
    check_page,
    check_paths,
    entries_of,
    hash_key,
    object_key,
    page_of,
    text_of,
)
from refart.errors import FormatError, InvalidInputError
from tests import strategies

SHA256 = "sha256:" + "0" * 64
GOOD = {"path": "a", "size": 1, "content_id": "md5:" + "0" * 32, "uri": "s3://b/a", "pin": "version:x"}


def page(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([GOOD | row for row in rows], schema=SCHEMA)


@given(strategies.sorted_entries())
def test_entries_come_back_from_a_page_and_pass_the_gate(rows: list[Entry]) -> None:
    made = page_of(rows)
    assert list(entries_of(check_page(made, "test"))) == rows


def test_an_empty_page_passes() -> None:
    assert check_page(page_of([]), "test").num_rows == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "../up"}, "path '../up' is not an entry path"),
        ({"path": "x" * 4097}, "is not an entry path"),
        ({"content_id": "sha1:0"}, "content_id 'sha1:0' of 'a' is not algo:value"),
        ({"content_id": "none\n"}, "is not algo:value"),
        ({"size": -1}, "size '-1' of 'a' is negative"),
        ({"pin": "version"}, "pin 'version' of 'a' is not kind:value"),
        ({"pin": "version:\n"}, "is not kind:value"),
        ({"pin": "version:" + "x" * 2048}, "is not kind:value"),
        ({"uri": ""}, "is empty, holds"),
        ({"uri": "s3://" + "x" * 8192}, "or is longer than 8,192 bytes"),
        ({"uri": "s3://b/a\0"}, "holds a NUL character"),
        ({"uri": None}, "must be a sha256 where there is no URI"),
    ],
)
def test_a_bad_row_is_named_wherever_it_stands(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_page(page({}, row, {}), "s3://lake")
    assert str(caught.value).startswith("s3://lake: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "row", [{"size": None}, {"pin": None}, {"content_id": "none"}, {"uri": None, "content_id": SHA256}]
)
def test_what_may_be_unknown(row: dict[str, Any]) -> None:
    assert check_page(page(row), "test").num_rows == 1


@pytest.mark.parametrize("column", ["path", "content_id"])
def test_what_must_be_known(column: str) -> None:
    loose = pa.schema([field.with_nullable(True) for field in SCHEMA])
    rows = pa.RecordBatch.from_pylist([GOOD | {column: None}], schema=loose)
    with pytest.raises(FormatError):
        check_page(rows, "test")
    with pytest.raises(FormatError, match="must not be null"):
        check_page(pa.RecordBatch.from_arrays(rows.columns, schema=SCHEMA), "test")


def test_other_columns_and_overlong_pages_are_refused() -> None:
    with pytest.raises(FormatError, match="expected the columns"):
        check_page(page({}).drop_columns("pin"), "test")
    long = pa.concat_batches([page({})] * 2)
    columns = [pa.concat_arrays([column] * (PAGE_ROWS // 2 + 1)) for column in long.columns]
    with pytest.raises(FormatError, match="at most 65,536 rows"):
        check_page(pa.RecordBatch.from_arrays(columns, schema=SCHEMA), "test")


def test_a_message_shows_only_the_beginning_of_a_value() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_page(page({"path": "y" * 4000, "content_id": "x" * 100_000}), "test")
    assert len(str(caught.value)) < 1000


# -- the key under which bytes are kept -----------------------------------------------------------------


def test_a_hash_of_the_bytes_is_its_own_key_wherever_they_lie() -> None:
    assert hash_key(Entry("a", 1, SHA256)) == hash_key(Entry("b", 1, SHA256, "s3://x/y")) == SHA256
    assert hash_key(Entry("a", 1, "etag:x-2", "s3://b/k")) is None


def test_a_servers_word_counts_for_its_own_object_only() -> None:
    entry = Entry("a", 1, "etag:x-2", "s3://b/k", "version:1")
    others = [
        Entry("a", 1, "etag:x-2", "s3://b/other", "version:1"),
        Entry("a", 1, "etag:x-2", "s3://b/k", "version:2"),
        Entry("a", 1, "etag:x-3", "s3://b/k", "version:1"),
        Entry("a", 2, "etag:x-2", "s3://b/k", "version:1"),
    ]
    keys = {object_key(e) for e in [entry, *others]}
    assert len(keys) == 5
    assert None not in keys
    assert object_key(Entry("elsewhere", 1, "etag:x-2", "s3://b/k", "version:1")) == object_key(entry)


@pytest.mark.parametrize("content_id", ["none", "stat:12"])
def test_what_nothing_fixes_has_no_key(content_id: str) -> None:
    assert object_key(Entry("a", 1, content_id, "s3://b/k")) is None
    assert object_key(Entry("a", 1, content_id, "s3://b/k", "version:1")) is not None


def test_new_paths_alone_are_checked_as_those_of_a_page():
    good = page_of([Entry("a/b", None, "no content id")])
    assert check_paths(good, "test") is good
    with pytest.raises(InvalidInputError, match=r"below x: path 'x/\.\./y' is not an entry path"):
        check_paths(page_of([Entry("x/../y", 1)]), "below x")


def test_text_of_a_slice_is_that_of_its_rows():
    column = pa.array(["ab", "", None, "cde", "f"])
    assert text_of(column.slice(1, 3)).to_pybytes() == b"cde"
    assert text_of(column.slice(2, 1)).to_pybytes() == text_of(pa.array([], pa.string())).to_pybytes() == b""
