"""Content ids: one grammar, judged alike one by one and by the page; ETags; hashing streams."""

from __future__ import annotations

import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from refart import checksums
from refart.checksums import StreamHasher
from refart.entries import Entry, check_page, page_of
from refart.errors import InvalidInputError
from tests import strategies

_algos = st.sampled_from([*checksums.LADDER, "sha1", ""])
almost_ids = st.one_of(
    strategies.content_ids,
    st.builds("{}:{}".format, _algos, st.text("0123456789abcdefA-\n\"\x85é", max_size=70)),
    st.builds("{}\n".format, strategies.content_ids),
    st.text(st.characters(codec="utf-8"), max_size=20),
)  # fmt: skip


def is_one(content_id: str) -> bool:
    try:
        checksums.split(content_id)
    except InvalidInputError:
        return False
    return True


@given(almost_ids)
@example("none\n")
@example("generation:１")
@example("etag:" + "é" * 1500)
def test_one_id_and_a_page_of_ids_are_judged_alike(content_id: str) -> None:
    try:
        check_page(page_of([Entry("a", 0, content_id, "s3://b/k")]), "a source")
        accepted = True
    except InvalidInputError:
        accepted = False
    assert is_one(content_id) == accepted


@given(strategies.content_ids)
def test_every_rung_of_the_ladder_splits(content_id: str) -> None:
    algo, value = checksums.split(content_id)
    assert algo in checksums.LADDER
    assert content_id == (f"{algo}:{value}" if value else algo)


@pytest.mark.parametrize(
    ("etag", "content_id"),
    [
        ('"d41d8cd98f00b204e9800998ecf8427e"', "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ("d41d8cd98f00b204e9800998ecf8427e", "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ('"d41d8cd98f00b204e9800998ecf8427e-12"', "etag:d41d8cd98f00b204e9800998ecf8427e-12"),
        ('"D41D8CD98F00B204E9800998ECF8427E"', "etag:D41D8CD98F00B204E9800998ECF8427E"),
        ("0x8D4BCC2E4835CD0", "etag:0x8D4BCC2E4835CD0"),
    ],
)
def test_only_a_plain_md5_is_taken_for_one(etag: str, content_id: str) -> None:
    assert checksums.from_etag(etag) == content_id
    assert checksums.etag_of(content_id) == etag.strip('"')


def test_other_ids_stand_for_no_etag() -> None:
    assert checksums.etag_of("none") is None
    assert checksums.etag_of("sha256:" + "0" * 64) is None


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_a_stream_is_hashed_once_for_every_algorithm(chunks: list[bytes]) -> None:
    hasher = StreamHasher("sha256", "md5")
    for chunk in chunks:
        hasher.update(memoryview(chunk))
    whole = b"".join(chunks)
    assert hasher.size_bytes == len(whole)
    assert hasher.content_id() == "sha256:" + hashlib.sha256(whole).hexdigest()
    assert hasher.content_id("md5") == "md5:" + hashlib.md5(whole).hexdigest()
