"""What every source does: one behaviour suite, run for each source by subclassing `SourceSuite`.

A subclass gives the fixtures `source` and `place` (and `stranger`, where its storage keeps strangers out), and declares
what its kind of storage can do. What it cannot do is skipped with the reason declared here, never in silence. A `Place`
writes and deletes objects without the code under test.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import pytest

from refart import checksums, entries, names
from refart.entries import Entry
from refart.errors import (
    ChecksumError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.ops.stream import Checked, Rung, VerifiedStream
from refart.sources import ahead
from refart.sources.base import Held, Source


class Place(Protocol):
    """Where a test puts its objects: a bucket, a folder."""

    uri: str
    """Without a slash at the end; the object `key` lies at `f"{uri}/{key}"`. Empty when a test begins."""

    def put(self, key: str, data: bytes) -> object: ...

    def delete(self, key: str) -> None: ...


def uri_of(place: Place, key: str) -> str:
    """The URI of an object; a place whose URIs do not carry keys as they are (HTTP) has a method of this name."""
    own = getattr(place, "uri_of", None)
    return own(key) if own is not None else f"{place.uri}/{key}"


def put_many(place: Place, objects: dict[str, bytes]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(place.put, objects, objects.values()))


def listed(source: Source, uri: str, **options: Any) -> dict[str, Entry]:
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


def read_checked(source: Source, entry: Entry) -> tuple[bytes, Checked]:
    """The bytes as a user gets them: compared with everything that is recorded about the entry."""
    with source.fetch(entry) as fetched:
        stream = VerifiedStream(entry, fetched)
        data = b"".join(stream)
    assert stream.checked is not None
    return data, stream.checked


class SourceSuite:
    """Subclass, set the attributes, give the fixtures."""

    held: ClassVar[Held]
    """What a fetch of a freshly listed entry is held by."""

    keeps_versions: ClassVar[bool]
    """An overwritten or deleted object can still be read by its pin."""

    refuses_changed: ClassVar[bool]
    """An overwritten object is refused (False where it is read as it is, for the caller to hash)."""

    content_algo: ClassVar[str]
    """The rung of the ladder that a scan with `identify="best"` gives."""

    rung: ClassVar[Rung]
    """What confirms the bytes of a freshly listed entry."""

    is_weak: ClassVar[bool] = False
    """The identity of entries is weak: a change of the same size within the tick of a clock can go unnoticed."""

    recognises_bytes: ClassVar[bool] = True
    """The same bytes written again have the same identity (False: it is made of times, or by an opaque rule)."""

    lists: ClassVar[bool] = True
    """Prefixes can be listed (False: only single objects can be referenced)."""

    many: ClassVar[int] = 2_500
    """Objects of one large prefix."""

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
        "caf\u00e9 composed",
        "cafe\u0301 decomposed",
        "!#$&'()*+,;=@[]^`{|}~",
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

    @pytest.fixture
    def stranger(self) -> Source | None:
        """A source of the same place with credentials that are not let in; None where everybody is."""
        return None

    def only(self, source: Source, place: Place, key: str, **options: Any) -> Entry:
        """The entry of one object, found by the prefix it lies in where there are prefixes."""
        folder, _, name = key.rpartition("/")
        if self.lists:
            return listed(source, f"{place.uri}/{folder}", **options)[names.path_from_key(name)]
        [entry] = listed(source, uri_of(place, key), **options).values()
        return entry

    def needs_listing(self) -> None:
        if not self.lists:
            pytest.skip("this kind of storage lists no prefixes")

    # -- scan
    # -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ["", "/"])
    def test_a_prefix_gives_every_object_below_it(self, source: Source, place: Place, end: str) -> None:
        self.needs_listing()
        place.put("data/a.txt", b"alpha")
        place.put("data/sub/b.txt", b"beta!!")
        found = listed(source, f"{place.uri}/data{end}")
        assert {path: entry.size for path, entry in found.items()} == {"a.txt": 5, "sub/b.txt": 6}
        assert found["sub/b.txt"].uri == f"{place.uri}/data/sub/b.txt"
        assert not source.scan(f"{place.uri}/data{end}").is_object

    def test_the_whole_place_is_a_prefix_too(self, source: Source, place: Place) -> None:
        self.needs_listing()
        place.put("a", b"1")
        place.put("b/c", b"22")
        assert listed(source, place.uri).keys() == listed(source, place.uri + "/").keys() == {"a", "b/c"}

    def test_a_single_object_has_its_base_name_as_path(self, source: Source, place: Place) -> None:
        place.put("data/sub/b.txt", b"beta")
        uri = uri_of(place, "data/sub/b.txt")
        assert source.scan(uri).is_object
        [entry] = listed(source, uri).values()
        assert (entry.path, entry.size, entry.uri) == ("b.txt", 4, uri)

    def test_a_prefix_is_whole_path_components(self, source: Source, place: Place) -> None:
        """PITFALLS 2: siblings that begin alike (`data2/`, `data.csv`, `data-x/`) are not below `data`."""
        self.needs_listing()
        for key in ("data/x", "data2/x", "data.csv", "data-old/x", "dat/x"):
            place.put(key, b"x")
        assert listed(source, f"{place.uri}/data").keys() == {"x"}
        assert source.scan(f"{place.uri}/data.csv").is_object

    def test_an_object_is_found_beside_longer_names(self, source: Source, place: Place) -> None:
        self.needs_listing()
        for key in ("k", "k.bak", "k2", "k-/x"):
            place.put(key, key.encode())
        assert listed(source, f"{place.uri}/k").keys() == {"k"}

    def test_empty_objects_are_entries(self, source: Source, place: Place) -> None:
        """PITFALLS 3: zero-byte objects are not dropped from prefixes."""
        place.put("data/empty", b"")
        place.put("data/full", b"x")
        empty = self.only(source, place, "data/empty")
        assert empty.size == 0
        assert read(source, empty) == b""
        assert listed(source, uri_of(place, "data/empty")).keys() == {"empty"}

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
        self.needs_listing()
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
        uris = {uri_of(place, f"odd/{key}"): key for key in self.odd_keys}
        assert len(uris) == len(self.odd_keys)
        if self.lists:
            entries = list(listed(source, f"{place.uri}/odd").values())
        else:
            entries = [entry for uri in uris for entry in listed(source, uri).values()]
        assert {entry.uri for entry in entries} == uris.keys()
        for entry in entries:
            key = uris[entry.uri or ""]
            if self.lists:
                assert entry.path == names.path_from_key(key)
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
        uri = uri_of(place, f"odd/{key}")
        [entry] = listed(source, uri).values()
        assert entry.uri == uri
        if self.lists:
            assert entry.path == key

    def test_a_large_prefix_is_listed_whole(self, source: Source, place: Place) -> None:
        self.needs_listing()
        put_many(place, {f"many/{n:05d}": b"%d" % n for n in range(self.many)})
        place.put("many2/x", b"x")
        found = listed(source, f"{place.uri}/many")
        assert found.keys() == {f"{n:05d}" for n in range(self.many)}
        assert sum(entry.size or 0 for entry in found.values()) == sum(len(str(n)) for n in range(self.many))

    def test_identity_follows_the_bytes(self, source: Source, place: Place) -> None:
        place.put("d/a", b"same")
        place.put("d/b", b"same")
        place.put("d/c", b"else")
        ids = {name: self.only(source, place, f"d/{name}").content_id for name in "abc"}
        assert {checksums.split(value)[0] for value in ids.values()} == {self.content_algo}
        assert {checksums.is_weak(value) for value in ids.values()} == {self.is_weak}
        if self.content_algo in checksums.IDENTIFYING | checksums.CRCS:
            assert ids["a"] == ids["b"] != ids["c"]

    def test_without_identity_an_entry_can_still_be_read(self, source: Source, place: Place) -> None:
        """PITFALLS 12: `checksum=False` references can be downloaded."""
        place.put("d/a", b"bytes")
        entry = self.only(source, place, "d/a", identify="none")
        assert entry.content_id == checksums.NONE
        assert read(source, entry) == b"bytes"

    def test_progress_counts_every_object_once(self, source: Source, place: Place) -> None:
        self.needs_listing()
        for n in range(7):
            place.put(f"d/{n}", b"x")
        counts: list[int] = []
        rows = sum(page.num_rows for page in source.scan(f"{place.uri}/d", on_page=counts.append).pages)
        assert sum(counts) == rows == 7

    # -- stat
    # -------------------------------------------------------------------------------------------------

    def test_stat_says_what_scan_says(self, source: Source, place: Place) -> None:
        place.put("d/a", b"bytes")
        assert source.stat(uri_of(place, "d/a")) == self.only(source, place, "d/a")

    def test_stat_of_nothing_is_none(self, source: Source, place: Place) -> None:
        place.put("d/a", b"bytes")
        assert source.stat(uri_of(place, "d/b")) is None

    # -- denied
    # -----------------------------------------------------------------------------------------------

    def test_a_stranger_is_told_that_access_is_denied(
        self, source: Source, place: Place, stranger: Source | None
    ) -> None:
        if stranger is None:
            pytest.skip("this storage lets everybody in")
        entry = self.logged(source, place)
        uri = entry.uri or ""
        for attempt in (
            lambda: listed(stranger, uri),
            lambda: stranger.stat(uri),
            lambda: read(stranger, entry),
        ):
            with pytest.raises(PermissionDeniedError) as error:
                attempt()
            assert uri in str(error.value)

    # -- fetch
    # ------------------------------------------------------------------------------------------------

    def logged(self, source: Source, place: Place, data: bytes = b"logged") -> Entry:
        place.put("d/a", data)
        return self.only(source, place, "d/a")

    def test_bytes_are_checked_by_the_strongest_rung(self, source: Source, place: Place) -> None:
        entry = self.logged(source, place)
        data, checked = read_checked(source, entry)
        assert (data, checked.size_bytes, checked.rung) == (b"logged", 6, self.rung)

    def test_an_object_overwritten_while_it_is_downloaded(self, source: Source, place: Place) -> None:
        """The logged bytes or an error: never a mix, never the new bytes under the old name."""
        old, new = b"o" * 20_000_000, b"n" * 20_000_000
        entry = self.logged(source, place, old)
        with source.fetch(entry) as fetched:
            stream = VerifiedStream(entry, fetched)
            seen = []
            with suppress(ReferenceChangedError, ChecksumError, SourceError):
                for number, chunk in enumerate(stream):
                    if number == 0:
                        place.put("d/a", new)
                    seen.append(chunk)
                assert b"".join(seen) == old
                assert stream.checked is not None

    def test_fetch_streams_what_was_listed(self, source: Source, place: Place) -> None:
        data = bytes(range(256)) * 12_000  # 3 MB, several chunks
        entry = self.logged(source, place, data)
        with source.fetch(entry) as fetched:
            assert (fetched.size, fetched.held, fetched.hash_is_plain) == (len(data), self.held, True)
            assert b"".join(fetched.chunks) == data
            if self.held != "local":
                assert fetched.content_id == entry.content_id

    def test_a_large_object_that_comes_slowly_is_the_same(
        self, source: Source, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a source reads ahead by ranges, they are of the logged object, whatever happens meanwhile."""
        monkeypatch.setattr(ahead, "RANGE_BYTES", 1 << 20)
        monkeypatch.setattr(ahead, "SLOW", -1.0)
        monkeypatch.setattr(ahead, "BUSY", 99.0)
        data = bytes(n % 251 for n in range(1 << 20)) * 5
        entry = self.logged(source, place, data)
        read_back, checked = read_checked(source, entry)
        assert (read_back, checked.rung) == (data, self.rung)
        with source.fetch(entry) as fetched:
            stream = VerifiedStream(entry, fetched)
            seen = []
            with suppress(ReferenceChangedError, ChecksumError, SourceError):
                for number, chunk in enumerate(stream):
                    if number == 0:
                        place.put("d/a", data[::-1])
                    seen.append(chunk)
                assert b"".join(seen) == data
                assert stream.checked is not None

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
            with pytest.raises(ReferenceChangedError):
                read_checked(source, entry)

    def test_the_same_bytes_written_again_are_still_the_entry(self, source: Source, place: Place) -> None:
        """PITFALLS 9. Where nothing stated can tell, they are refused, unless a hash was recorded."""
        entry = self.logged(source, place)
        place.put("d/a", b"newer!")
        place.put("d/a", b"logged")
        if not self.recognises_bytes:
            with pytest.raises(ReferenceChangedError):
                read(source, entry)
            entry = replace(entry, content_id=f"sha256:{hashlib.sha256(b'logged').hexdigest()}")
            assert read_checked(source, entry)[1].rung == "sha256"
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
        found = {str(n): self.only(source, place, f"d/{n}") for n in range(24)}
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
