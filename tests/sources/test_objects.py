"""From the rows of a flat listing to pages; the whole way is in the suite of each object store."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import checksums, entries, names
from refart.errors import InvalidInputError
from refart.sources.base import Identify
from refart.sources.listed import Row, batch_of, listed, rows_of
from refart.sources.objects import entry_of, objects_below, page_of, scan

MD5 = "md5:d41d8cd98f00b204e9800998ecf8427e"
# Without NUL: a listing may hold such a key, but no reference can (see `entries.check_page`).
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)


class Bucket:
    """A bucket of `b://b/` that lists what it was given."""

    def __init__(self, *rows: Row) -> None:
        self.rows = sorted(rows)

    def uris_of(self, keys: pa.StringArray) -> pa.StringArray:
        return entries.prefixed("b://b/", keys)

    def responses(self, prefix: str):
        rows = [row for row in self.rows if row.key.startswith(prefix)]
        yield listed(batch_of(rows), [row.key for row in rows], None)

    def ranged(self, prefix: str) -> None:
        return None

    def head(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.key == key), None)

    def by_hand(self, key: str) -> Row | None:
        return None

    def write_by_hand(self, row: Row) -> str:
        return f"b://b/{row.key}#1"


@given(st.lists(keys, min_size=1, max_size=20, unique=True), keys, st.sampled_from(["best", "none"]))
def test_the_uri_gives_the_key_back_and_the_path_is_acceptable(
    below: list[str], prefix: str, identify: Identify
) -> None:
    base = f"{prefix}/"
    page = page_of(
        batch_of(Row(base + key, 1, MD5, None) for key in below), Bucket(), base, identify=identify
    )
    entries.check_page(page, "test")
    for key, entry in zip(below, entries.entries_of(page), strict=True):
        assert entry.uri == f"b://b/{base}{key}"
        assert entry.path == names.path_from_key(key)


@pytest.mark.parametrize(
    ("content_id", "pin", "left"),
    [
        (MD5, "version:v1", "version:v1"),
        (MD5, "generation:1", "generation:1"),
        (MD5, None, f"etag:{MD5[4:]}"),
        ("etag:abc-2", None, "etag:abc-2"),
        ("none", None, None),
    ],
)
def test_without_identity_the_etag_still_pins(content_id: str, pin: str | None, left: str | None) -> None:
    row = Row("k", 1, content_id, pin)
    [best] = entries.entries_of(page_of(batch_of([row]), Bucket(), "", identify="best"))
    [bare] = entries.entries_of(page_of(batch_of([row]), Bucket(), "", identify="none"))
    assert (best.content_id, best.pin) == (content_id, pin)
    assert (bare.content_id, bare.pin) == (checksums.NONE, left)


def test_an_entry_has_its_base_name_as_path() -> None:
    entry = entry_of(Row("a/b/c", 3, MD5, None), Bucket())
    assert (entry.path, entry.uri, entry.size) == ("c", "b://b/a/b/c", 3)


@given(st.lists(keys, max_size=20), keys)
def test_below_is_whole_components_without_markers(below: list[str], prefix: str) -> None:
    base = f"{prefix}/"
    candidates = [Row(key, 0, MD5, None) for key in [prefix, base, f"{base}sub/", f"{prefix}2/x", *below]]
    candidates += [Row(base + key, 1, MD5, None) for key in below]
    found = [row.key for row in rows_of(objects_below(batch_of(candidates), base))]
    assert found == [
        row.key for row in candidates if row.key.startswith(base) and (row.size or row.key[-1] != "/")
    ]
    assert {base, f"{base}sub/", f"{prefix}2/x"}.isdisjoint(found) or prefix in "".join(below)


def look(bucket: Bucket, key: str, identify: Identify = "best"):
    return scan(bucket, f"b://b/{key}", key, identify=identify, keep=None, on_page=None)


def test_an_object_and_a_prefix_of_one_name_say_both_ways_out() -> None:
    bucket = Bucket(Row("a", 1, MD5, None), Row("a/b", 1, MD5, None))
    with pytest.raises(InvalidInputError, match=r"write b://b/a/ for what lies below it, or b://b/a#1"):
        look(bucket, "a")


def test_size_and_time_are_no_identity_of_objects() -> None:
    with pytest.raises(InvalidInputError, match="for file systems"):
        look(Bucket(), "a", "stat")
