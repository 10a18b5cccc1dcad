"""Ranges of URIs: never too narrow, few, and tight where prefixes are."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given

from refart.manifest.uris import MAX_RANGES, UriRange, UriRanges, joined

URIS = st.builds(
    lambda bucket, folders, name: "/".join([bucket, *folders, name]),
    st.sampled_from(["s3://a", "s3://b", "gs://a", "file://"]),
    st.lists(st.sampled_from(["x", "y", "é", ""]), max_size=3),
    st.text(st.characters(codec="utf-8"), max_size=3),
)


def ranges_of(*pages: list[str | None]) -> tuple[UriRange, ...]:
    ranges = UriRanges()
    for page in pages:
        ranges.add(pa.array(page, pa.string()))
    return ranges.ranges()


@given(st.lists(st.lists(st.none() | URIS, max_size=40), max_size=4))
def test_every_uri_lies_in_a_range_and_ranges_are_few_and_ascend(pages: list[list[str | None]]) -> None:
    found = ranges_of(*pages)
    assert len(found) <= MAX_RANGES
    assert list(found) == sorted(found)
    assert all(left.last < right.first for left, right in pairwise(found))
    uris = [uri for page in pages for uri in page if uri is not None]
    assert all(any(first <= uri <= last for first, last in found) for uri in uris)
    assert {bound for each in found for bound in each} <= set(uris), "no wider than what is there"


def test_a_page_below_one_prefix_is_one_range() -> None:
    assert ranges_of([f"s3://b/{n:03}" for n in range(500)]) == (("s3://b/000", "s3://b/499"),)


def test_managed_files_have_none() -> None:
    assert ranges_of([None, None], []) == ()


def test_prefixes_that_alternate_stay_apart() -> None:
    alternating = [f"s3://{bucket}/data/{n}" for n in range(9) for bucket in "az"]
    assert ranges_of(alternating) == (
        ("s3://a/data/0", "s3://a/data/8"),
        ("s3://z/data/0", "s3://z/data/8"),
    )
    assert len(ranges_of(["s3://a/1", "s3://z/1"])) == 2, "also where they ascend"


def test_the_nearest_become_one() -> None:
    ranges = [UriRange(uri, uri) for uri in ("s3://a/1", "s3://a/2", "s3://z/1", "s3://z/2")]
    assert joined(ranges, 2) == [("s3://a/1", "s3://a/2"), ("s3://z/1", "s3://z/2")]
