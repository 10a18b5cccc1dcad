"""What a version was listed from: kept beside its shards, in no digest, checked when it is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart.errors import FormatError
from refart.manifest.draft import Draft
from refart.manifest.index import ManifestIndex
from refart.manifest.reader import Manifest
from refart.manifest.roots import CHECKSUMS, MAX_ROOTS, Root, joined
from tests.manifest.support import FolderStore, reference
from tests.manifest.test_index import altered
from tests.strategies import paged

ROOT = Root("s3://b/data", "in", ("*.csv",), ("tmp/",), "sha256", follow_symlinks=False)
patterns = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3).map(tuple)
roots = st.builds(
    Root, st.just("s3://b/a\nb"), st.none(), patterns, patterns, st.sampled_from(CHECKSUMS), st.booleans()
)


@pytest.fixture
def index(tmp_path) -> ManifestIndex:
    plain = FolderStore(tmp_path).write(paged([reference("a"), reference("b")], 2)).index
    return replace(plain, roots=(ROOT,))


@given(given_roots=st.lists(roots, max_size=3))
def test_round_trip(given_roots):
    index = ManifestIndex((), tuple(given_roots))
    again = ManifestIndex.from_json(index.to_json())
    assert again == index
    assert again.to_json() == index.to_json()


def test_roots_are_in_the_address_and_in_no_digest(index):
    plain = replace(index, roots=())
    assert (plain.format, index.format) == ("refart.manifest/2", "refart.manifest/3")
    assert plain.address != index.address
    assert (plain.manifest_digest, plain.content_digest) == (index.manifest_digest, index.content_digest)


def test_shards_of_the_first_format_may_have_roots(index):
    old = replace(index, shards=tuple(replace(shard, weak_rows=None) for shard in index.shards))
    again = ManifestIndex.from_json(old.to_json())
    assert (again, again.weak_count) == (old, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("roots"),
        lambda d: d.update(roots={}),
        lambda d: d.update(roots=[None]),
        lambda d: d["roots"][0].pop("uri"),
        lambda d: d["roots"][0].update(more=1),
        lambda d: d["roots"][0].update(uri="s3://key:secret@b/data"),
        lambda d: d["roots"][0].update(uri=7),
        lambda d: d["roots"][0].update(name="../up"),
        lambda d: d["roots"][0].update(include="*.csv"),
        lambda d: d["roots"][0].update(exclude=[1]),
        lambda d: d["roots"][0].update(checksum="md4"),
        lambda d: d["roots"][0].update(follow_symlinks=1),
    ],
)
def test_what_no_add_reference_takes_is_refused(index, change):
    with pytest.raises(FormatError):
        ManifestIndex.from_json(altered(index, change))


def test_a_draft_of_a_version_keeps_its_roots(tmp_path):
    store = FolderStore(tmp_path)
    built = store.write(paged([reference("a")], 1))
    base = Manifest(store, replace(built.index, roots=(ROOT,)))
    other = Root("s3://c/more")
    draft = Draft(base)
    draft.add(paged([reference("b")], 1), roots=(other, ROOT))
    assert draft.roots == (ROOT, other)


def test_too_many_are_not_kept_at_all():
    several = tuple(Root(f"s3://b/{number}") for number in range(MAX_ROOTS + 1))
    assert joined(several[1:]) == several[1:]
    assert joined(several) == ()
