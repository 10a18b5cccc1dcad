"""What every source does: one behaviour suite, run for each source by subclassing `SourceSuite`.

A subclass gives two fixtures, `source` and `place`, and declares what its kind of storage can do. A `Place`
writes and deletes objects without the code under test.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ClassVar, Protocol

import pytest

from refart import checksums, entries, names
from refart.entries import Entry
from refart.errors import NotFoundError, ReferenceChangedError, ReferenceMissingError
from refart.sources.base import Held, Source


class Place(Protocol):
    """Where a test puts its objects: a bucket, a folder."""

    uri: str
    """Without a slash at the end; the object `key` lies at `f"{uri}/{key}"`. Empty when a test begins."""

    def put(self, key: str, data: bytes) -> object: ...

    def delete(self, key: str) -> None: ...


def listed(source: Source, uri: str, **options: bool) -> dict[str, Entry]:
    """All entries of a scan by path; each page passes the gate that hostile pages are stopped at."""
    found = [
        entry
        for page in source.scan(uri, **options).pages
        for entry in entries.entries_of(entries.check_page(page, uri))
    ]
    assert len({entry.path for entry in found}) == len(found)
    return {entry.path: entry for entry in found}


def read(source: Source, entry: Entry) -> bytes:
    with source.fetch(entry) as fetched:
        return b"".join(fetched.chunks)


class SourceSuite:
    """Subclass, set the attributes, give the fixtures."""

    held: ClassVar[Held]
    """What a fetch of a freshly listed entry is held by."""

    keeps_versions: ClassVar[bool]
    """An overwritten or deleted object can still be read by its pin."""

    refuses_changed: ClassVar[bool]
    """An overwritten object is refused (False where it is read as it is, for the caller to hash)."""

    content_algo: ClassVar[str]
    """The rung of the ladder that a scan with `identify=True` gives."""

    missing_prefix_is_error: ClassVar[bool]
    """A folder that does not exist is a `NotFoundError` (an object store cannot tell it from an empty
    prefix)."""

    has_folder_markers: ClassVar[bool] = False
    """`folder/` can be an object of its own."""

    object_beside_prefix: ClassVar[bool] = False
    """The names `data` and `data/x` can exist at the same time."""

    odd_keys: ClassVar[tuple[str, ...]] = (
        "plain.txt",
        "with space.txt",
        "hash#tag",
        "question?mark=1",
        "per%cent",
        "%41",
        "plus+plus",
        "amp&lt;<>\"'",
        "한국어/ключ/ñ.txt",
        "emoji-😀",
        "new\nline",
        "carriage\rreturn",
        "back\\slash",
        "colon:semi;comma,",
        "deep/er/and/deeper",
        ".hidden",
        "trailing.",
    )
    """Keys this storage can hold; add what else it allows."""

    @pytest.fixture
    def source(self) -> Source:
        raise NotImplementedError

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    # -- scan
    # -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ["", "/"])
    def test_a_prefix_gives_every_object_below_it(self, source: Source, place: Place, end: str) -> None:
        place.put("data/a.txt", b"alpha")
        place.put("data/sub/b.txt", b"beta!!")
        found = listed(source, f"{place.uri}/data{end}")
        assert {path: entry.size for path, entry in found.items()} == {"a.txt": 5, "sub/b.txt": 6}
        assert found["sub/b.txt"].uri == f"{place.uri}/data/sub/b.txt"
        assert not source.scan(f"{place.uri}/data{end}").is_object

    def test_the_whole_place_is_a_prefix_too(self, source: Source, place: Place) -> None:
        place.put("a", b"1")
        place.put("b/c", b"22")
        assert listed(source, place.uri).keys() == listed(source, place.uri + "/").keys() == {"a", "b/c"}

    def test_a_single_object_has_its_base_name_as_path(self, source: Source, place: Place) -> None:
        place.put("data/sub/b.txt", b"beta")
        assert source.scan(f"{place.uri}/data/sub/b.txt").is_object
        [entry] = listed(source, f"{place.uri}/data/sub/b.txt").values()
        assert (entry.path, entry.size, entry.uri) == ("b.txt", 4, f"{place.uri}/data/sub/b.txt")

    def test_a_prefix_is_whole_path_components(self, source: Source, place: Place) -> None:
        """PITFALLS 2: siblings that begin alike (`data2/`, `data.csv`, `data-x/`) are not below `data`."""
        for key in ("data/x", "data2/x", "data.csv", "data-old/x", "dat/x"):
            place.put(key, b"x")
        assert listed(source, f"{place.uri}/data").keys() == {"x"}
        assert source.scan(f"{place.uri}/data.csv").is_object

    def test_an_object_is_found_beside_longer_names(self, source: Source, place: Place) -> None:
        for key in ("k", "k.bak", "k2", "k-/x"):
            place.put(key, key.encode())
        assert listed(source, f"{place.uri}/k").keys() == {"k"}

    def test_empty_objects_are_entries(self, source: Source, place: Place) -> None:
        """PITFALLS 3: zero-byte objects are not dropped from prefixes."""
        place.put("data/empty", b"")
        place.put("data/full", b"x")
        found = listed(source, f"{place.uri}/data")
        assert found["empty"].size == 0
        assert read(source, found["empty"]) == b""
        assert listed(source, f"{place.uri}/data/empty").keys() == {"empty"}

    def test_folder_markers_are_not_entries(self, source: Source, place: Place) -> None:
        if not self.has_folder_markers:
            pytest.skip("this storage has no folder markers")
        place.put("data/", b"")
        place.put("data/sub/", b"")
        place.put("data/sub/x", b"x")
        assert listed(source, f"{place.uri}/data").keys() == {"sub/x"}

    def test_a_prefix_of_nothing_but_a_marker_is_empty(self, source: Source, place: Place) -> None:
        if not self.has_folder_markers:
            pytest.skip("this storage has no folder markers")
        place.put("data/", b"")
        assert listed(source, f"{place.uri}/data") == listed(source, f"{place.uri}/data/") == {}

    def test_a_prefix_that_matches_nothing(self, source: Source, place: Place) -> None:
        place.put("data/x", b"x")
        if self.missing_prefix_is_error:
            with pytest.raises(NotFoundError, match="nothing-here"):
                listed(source, f"{place.uri}/nothing-here")
        else:
            assert listed(source, f"{place.uri}/nothing-here") == {}
            assert listed(source, f"{place.uri}/dat") == {}

    def test_every_key_survives_scan_stat_and_fetch(self, source: Source, place: Place) -> None:
        """PITFALLS 11: URIs are opaque; nothing in a key is an escape, a query or a fragment."""
        for key in self.odd_keys:
            place.put(f"odd/{key}", key.encode())
        found = listed(source, f"{place.uri}/odd")
        assert {entry.uri for entry in found.values()} == {f"{place.uri}/odd/{key}" for key in self.odd_keys}
        for key in self.odd_keys:
            entry = found[names.path_from_key(key)]
            assert read(source, entry) == key.encode()
            current = source.stat(entry.uri or "")
            assert current is not None
            assert (current.size, current.content_id, current.pin) == (
                entry.size,
                entry.content_id,
                entry.pin,
            )

    @pytest.mark.parametrize(
        "key", ["hash#tag", "question?mark=1", "per%cent", "plus+plus", "with space", "%2F"]
    )
    def test_an_odd_key_alone_is_an_object(self, source: Source, place: Place, key: str) -> None:
        place.put(f"odd/{key}", b"odd")
        [entry] = listed(source, f"{place.uri}/odd/{key}").values()
        assert (entry.path, entry.uri) == (key, f"{place.uri}/odd/{key}")

    def test_identity_follows_the_bytes(self, source: Source, place: Place) -> None:
        place.put("d/a", b"same")
        place.put("d/b", b"same")
        place.put("d/c", b"else")
        ids = {path: entry.content_id for path, entry in listed(source, f"{place.uri}/d").items()}
        assert {checksums.split(value)[0] for value in ids.values()} == {self.content_algo}
        assert ids["a"] == ids["b"] != ids["c"]

    def test_without_identity_an_entry_can_still_be_read(self, source: Source, place: Place) -> None:
        """PITFALLS 12: `checksum=False` references can be downloaded."""
        place.put("d/a", b"bytes")
        [entry] = listed(source, f"{place.uri}/d", identify=False).values()
        assert entry.content_id == checksums.NONE
        assert read(source, entry) == b"bytes"

    def test_progress_counts_every_object_once(self, source: Source, place: Place) -> None:
        for n in range(7):
            place.put(f"d/{n}", b"x")
        counts: list[int] = []
        rows = sum(page.num_rows for page in source.scan(f"{place.uri}/d", on_page=counts.append).pages)
        assert sum(counts) == rows == 7

    # -- stat
    # -------------------------------------------------------------------------------------------------

    def test_stat_says_what_scan_says(self, source: Source, place: Place) -> None:
        place.put("d/a", b"bytes")
        [entry] = listed(source, f"{place.uri}/d").values()
        assert source.stat(f"{place.uri}/d/a") == entry

    def test_stat_of_nothing_is_none(self, source: Source, place: Place) -> None:
        place.put("d/a", b"bytes")
        assert source.stat(f"{place.uri}/d/b") is None

    # -- fetch
    # ------------------------------------------------------------------------------------------------

    def logged(self, source: Source, place: Place, data: bytes = b"logged") -> Entry:
        place.put("d/a", data)
        [entry] = listed(source, f"{place.uri}/d").values()
        return entry

    def test_fetch_streams_what_was_listed(self, source: Source, place: Place) -> None:
        data = bytes(range(256)) * 12_000  # 3 MB, several chunks
        entry = self.logged(source, place, data)
        with source.fetch(entry) as fetched:
            assert (fetched.size, fetched.held, fetched.hash_is_plain) == (len(data), self.held, True)
            assert b"".join(fetched.chunks) == data
            if self.held != "local":
                assert fetched.content_id == entry.content_id

    def test_fetch_may_be_left_early(self, source: Source, place: Place) -> None:
        entry = self.logged(source, place, b"x" * 3_000_000)
        with source.fetch(entry) as fetched:
            next(iter(fetched.chunks))
        with source.fetch(entry):
            pass
        assert len(read(source, entry)) == 3_000_000

    def test_an_overwritten_object_is_never_taken_for_the_logged_one(
        self, source: Source, place: Place
    ) -> None:
        entry = self.logged(source, place)
        place.put("d/a", b"newer!")
        if self.keeps_versions:
            assert read(source, entry) == b"logged"
        elif self.refuses_changed:
            with pytest.raises(ReferenceChangedError) as error:
                read(source, entry)
            said = str(error.value)
            assert entry.path in said
            assert entry.uri in said
            assert entry.content_id in said
            current = source.stat(entry.uri or "")
            assert current is not None
            assert current.content_id in said
        else:
            with source.fetch(entry) as fetched:
                assert fetched.held in ("local", "current")
                assert b"".join(fetched.chunks) == b"newer!"

    def test_the_same_bytes_written_again_are_still_the_entry(self, source: Source, place: Place) -> None:
        """PITFALLS 9."""
        entry = self.logged(source, place)
        place.put("d/a", b"newer!")
        place.put("d/a", b"logged")
        assert read(source, entry) == b"logged"

    def test_a_deleted_object(self, source: Source, place: Place) -> None:
        entry = self.logged(source, place)
        place.delete("d/a")
        if self.keeps_versions:
            assert read(source, entry) == b"logged"
        else:
            with pytest.raises(ReferenceMissingError) as error:
                read(source, entry)
            assert entry.path in str(error.value)
            assert entry.uri in str(error.value)
        assert source.stat(entry.uri or "") is None

    def test_many_threads_share_one_source(self, source: Source, place: Place) -> None:
        for n in range(24):
            place.put(f"d/{n}", b"%d" % n * 100)
        found = listed(source, f"{place.uri}/d")
        with ThreadPoolExecutor(8) as pool:
            read_back = dict(zip(found, pool.map(lambda e: read(source, e), found.values()), strict=True))
        assert read_back == {str(n): b"%d" % n * 100 for n in range(24)}

    # -- open
    # -------------------------------------------------------------------------------------------------

    def test_open_is_a_seekable_read_only_stream(self, source: Source, place: Place) -> None:
        data = bytes(n * 7 % 251 for n in range(300_000))
        entry = self.logged(source, place, data)
        with source.open(entry).file as stream:
            assert stream.readable()
            assert stream.seekable()
            assert not stream.writable()
            assert stream.read(10) == data[:10]
            assert stream.tell() == 10
            for start, count in ((0, 1), (299_990, 100), (150_000, 70_000), (5, 0), (299_999, 1)):
                stream.seek(start)
                assert stream.read(count) == data[start : start + count]
            assert stream.seek(-8, 2) == 299_992
            assert stream.read() == data[-8:]
            assert stream.read() == b""
            stream.seek(0)
            assert stream.read() == data

    def test_open_of_an_empty_object(self, source: Source, place: Place) -> None:
        entry = self.logged(source, place, b"")
        with source.open(entry).file as stream:
            assert stream.read() == b""
            assert stream.seek(0, 2) == 0

    def test_open_of_a_missing_object_says_so_at_once(self, source: Source, place: Place) -> None:
        entry = self.logged(source, place)
        place.delete("d/a")
        if self.keeps_versions:
            with source.open(entry).file as stream:
                assert stream.read() == b"logged"
        else:
            with pytest.raises(ReferenceMissingError):
                source.open(entry)

    def test_bytes_of_two_writes_are_never_mixed(self, source: Source, place: Place) -> None:
        """An object overwritten while it is read: the logged bytes or an error."""
        if self.held == "local":
            pytest.skip("a file opened once stays the file it was only where writers replace it by rename")
        old, new = b"o" * 4_000_000, b"n" * 4_000_000
        entry = self.logged(source, place, old)
        with source.open(entry).file as stream:
            seen = stream.read(1000)
            place.put("d/a", new)
            stream.seek(2_000_000)
            with suppress(ReferenceChangedError):
                seen += stream.read()
                assert self.keeps_versions
        assert set(seen) == {ord("o")}
