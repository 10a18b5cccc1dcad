"""The engine of pinned reads, on a scripted object: each test says what its server does wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import md5, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import checksums
from refart.entries import Entry
from refart.errors import (
    InvalidInputError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources import ahead, pinned
from refart.sources.base import Held
from refart.sources.pinned import CURRENT, RESUMES, Answer, Broken, NotThat, Which
from refart.sources.ranged import FIRST_BYTES

OLD = bytes(n % 251 for n in range(200_000))
NEW = bytes(reversed(OLD))
URI = "t://bucket/key"


def id_of(data: bytes, algo: str = "md5") -> str:
    return f"{algo}:{(md5 if algo == 'md5' else sha256)(data).hexdigest()}"


@dataclass
class Server:
    """One key, all of its writes, and what goes wrong."""

    writes: list[bytes]
    has_versions: bool = True
    has_etags: bool = True
    purged: set[int] = field(default_factory=set)
    encrypted: bool = False
    """ETags look like MD5s and are none."""
    etag_end: str = ""
    ignores: frozenset[str] = frozenset()
    """Of `version`, `etag` and `range`."""
    hides_size: bool = False
    shifted: int = 0
    """How far beside the range that was asked for the answer begins."""
    spoil: Callable[[int, bytes], bytes | tuple[bytes, Exception]] = lambda number, body: body
    """What becomes of the body of GET number 0, 1, …; an exception ends it."""
    meanwhile: Callable[[int], object] = lambda number: None
    """What happens before GET number 0, 1, … is answered."""
    asked: list[tuple[Which, int, int | None]] = field(default_factory=list)
    closed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def etag(self, write: int) -> str:
        return md5(self.writes[write] + b"encrypted" * self.encrypted).hexdigest() + self.etag_end

    def stated(self, write: int) -> str:
        return checksums.from_etag(self.etag(write)) if self.has_etags else checksums.NONE

    def entry(self, write: int = -1, content_id: str | None = None) -> Entry:
        write %= len(self.writes)
        pin = f"version:{write}" if self.has_versions else None
        return Entry("key", len(self.writes[write]), content_id or self.stated(write), URI, pin)

    def stat(self, uri: str) -> Entry | None:
        assert uri == URI
        return self.entry() if len(self.writes) - 1 not in self.purged else None

    def get(self, which: Which, start: int, stop: int | None) -> Answer:
        with self._lock:
            number = len(self.asked)
            self.asked.append((which, start, stop))
        self.meanwhile(number)
        write = len(self.writes) - 1
        if which.version is not None and "version" not in self.ignores:
            write = int(which.version)
        if write in self.purged or not 0 <= write < len(self.writes):
            raise NotThat
        etag = self.etag(write) if self.has_etags else None
        if which.etag not in (None, etag) and "etag" not in self.ignores:
            raise NotThat
        data = self.writes[write]
        is_range = (start != 0 or stop is not None) and "range" not in self.ignores
        first = start + self.shifted if is_range else 0
        body = self.spoil(number, data[first : stop if is_range else None])
        return Answer(
            self._chunks(body),
            first,
            is_range,
            None if self.hides_size else len(data),
            self.stated(write),
            Which(str(write) if self.has_versions else None, etag),
            not self.encrypted,
        )

    def _chunks(self, body: bytes | tuple[bytes, Exception]):
        data, error = body if isinstance(body, tuple) else (body, None)
        try:
            for at in range(0, len(data), 30_000):
                yield data[at : at + 30_000]
            if error is not None:
                raise error
        finally:
            self.closed += 1


def wanted(entry: Entry) -> list[tuple[Which, Held]]:
    return pinned.attempts(entry, "version", checksums.etag_of(entry.content_id))


def read(server: Server, entry: Entry) -> tuple[bytes, Held]:
    with pinned.fetch(server.get, entry, wanted, server.stat) as fetched:
        return b"".join(fetched.chunks), fetched.held


def read_opened(server: Server, entry: Entry) -> tuple[bytes, Held]:
    opened = pinned.open_stream(server.get, entry, wanted, server.stat)
    with opened.file as file:
        return file.read(), opened.held


def plain_by(reading, server: Server, entry: Entry) -> bool:
    """What the caller is told about the hash."""
    if reading is read_opened:
        opened = pinned.open_stream(server.get, entry, wanted, server.stat)
        opened.file.close()
        return opened.hash_is_plain
    with pinned.fetch(server.get, entry, wanted, server.stat) as fetched:
        return fetched.hash_is_plain


READS = pytest.mark.parametrize("reading", [read, read_opened])


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        ("content_id", "pin", "expected"),
        [
            ("md5:" + "0" * 32, "version:v", [(Which("v"), "version"), (Which(etag="0" * 32), "etag")]),
            ("etag:x-2", None, [(Which(etag="x-2"), "etag")]),
            ("sha256:" + "0" * 64, "etag:x", [(Which(etag="x"), "etag")]),
            ("crc64nvme:" + "0" * 16, "version:v", [(Which("v"), "version")]),
            ("sha256:" + "0" * 64, None, [(CURRENT, "current")]),
            ("none", None, [(CURRENT, "current")]),
        ],
    )
    def test_the_pin_then_the_etag_else_whatever_is_there(
        self, content_id: str, pin: str | None, expected: list[tuple[Which, Held]]
    ) -> None:
        assert wanted(Entry("key", 1, content_id, URI, pin)) == expected

    def test_a_pin_of_another_kind_of_server_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match=r"'key' \(t://bucket/key\).*'generation'"):
            wanted(Entry("key", 1, "none", URI, "generation:7"))

    def test_a_write_is_the_one_meant_where_all_that_is_given_holds(self) -> None:
        answered = Which("v", "e", 7)
        for meant in (CURRENT, Which("v"), Which(etag="e"), Which(modified_ns=7), answered):
            assert meant.admits(answered)
        for other in (Which("w"), Which("v", "f"), Which(modified_ns=6), Which("v", "e", 8)):
            assert not other.admits(answered)
        assert not Which("v").admits(CURRENT)


@READS
class TestFinding:
    def test_the_pinned_version_whatever_is_current(self, reading) -> None:
        server = Server([OLD, NEW])
        assert reading(server, server.entry(0)) == (OLD, "version")

    def test_without_versions_an_overwritten_object_is_refused(self, reading) -> None:
        server = Server([OLD], has_versions=False)
        entry = server.entry()
        server.writes.append(NEW)
        with pytest.raises(ReferenceChangedError) as error:
            reading(server, entry)
        for part in ("'key'", URI, id_of(OLD), id_of(NEW), "200,000 bytes"):
            assert part in str(error.value)

    @pytest.mark.parametrize("ignored", ["version", "etag"])
    def test_a_condition_that_is_ignored_is_noticed_by_the_answer(self, reading, ignored: str) -> None:
        server = Server([OLD], has_versions=ignored == "version", ignores=frozenset({"version", "etag"}))
        entry = server.entry()
        server.writes.append(NEW)
        with pytest.raises(ReferenceChangedError):
            reading(server, entry)
        assert len(server.asked) == 1 + (ignored == "version")

    def test_a_purged_version_is_found_by_its_etag(self, reading) -> None:
        server = Server([OLD, NEW, OLD], purged={0})
        assert reading(server, server.entry(0)) == (OLD, "etag")
        assert [which for which, *_ in server.asked][:2] == [Which("0"), Which(etag=server.etag(0))]

    def test_a_purged_version_is_found_by_a_hash_that_the_server_does_not_know(self, reading) -> None:
        """The caller compares it: `held` says so."""
        server = Server([OLD, OLD], purged={0})
        assert reading(server, server.entry(0, id_of(OLD, "sha256"))) == (OLD, "current")

    def test_what_was_looked_at_is_pinned_in_turn(self, reading) -> None:
        server = Server([OLD, OLD], purged={0})
        reading(server, server.entry(0, id_of(OLD, "sha256")))
        assert [which for which, *_ in server.asked][:2] == [Which("0"), Which("1")]

    def test_another_write_between_the_look_and_the_get(self, reading) -> None:
        server = Server([OLD, OLD], purged={0}, has_versions=False)
        entry = replace(server.entry(content_id=id_of(OLD, "sha256")), pin="version:0")

        def overwrite(number: int) -> None:
            if number == 1:
                server.writes.append(NEW)

        server.meanwhile = overwrite
        with pytest.raises(ReferenceChangedError):
            reading(server, entry)
        server.ignores = frozenset({"etag"})
        server.writes[:], server.asked[:] = [OLD, OLD], []
        with pytest.raises(ReferenceChangedError):
            reading(server, entry)

    def test_another_size_needs_no_hash(self, reading) -> None:
        server = Server([OLD, NEW[1:]], purged={0})
        with pytest.raises(ReferenceChangedError, match=r"found .* 199,999 bytes"):
            reading(server, server.entry(0, id_of(OLD, "sha256")))
        assert len(server.asked) == 1

    def test_nothing_recorded_means_that_nothing_else_will_do(self, reading) -> None:
        server = Server([OLD, OLD], purged={0})
        with pytest.raises(ReferenceChangedError, match="expected none, pinned version:0"):
            reading(server, server.entry(0, checksums.NONE))

    def test_an_object_that_is_gone(self, reading) -> None:
        server = Server([OLD], purged={0})
        with pytest.raises(ReferenceMissingError, match=r"'key' \(t://bucket/key\) is gone; expected md5:"):
            reading(server, server.entry())

    def test_an_unpinned_entry_is_whatever_is_there_unless_the_server_says_otherwise(self, reading) -> None:
        server = Server([OLD, NEW], has_etags=False)
        entry = replace(server.entry(0), pin=None)
        assert reading(server, entry) == (NEW, "current")
        assert reading(server, replace(entry, content_id=id_of(OLD, "sha256"))) == (NEW, "current")
        server = Server([OLD, NEW], has_versions=False)
        with pytest.raises(ReferenceChangedError):
            reading(server, replace(entry, size=1))
        unknown = replace(entry, content_id="generation:7")
        with pytest.raises(ReferenceChangedError, match="expected generation:7"):
            reading(server, unknown)

    def test_an_md5_of_another_write_is_an_md5_whatever_encrypts_this_one(self, reading) -> None:
        """So that the caller computes it, and neither refuses the right bytes nor hands over others."""
        server = Server([OLD], encrypted=True)
        assert plain_by(reading, server, server.entry()) is False
        server = Server([OLD, OLD], purged={0}, encrypted=True, etag_end="-2")
        assert plain_by(reading, server, server.entry(0, id_of(OLD))) is True


class TestReadingAhead:
    """Bodies that come slowly, whose rest several ranged GETs take over."""

    @pytest.fixture(autouse=True)
    def slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ahead, "RANGE_BYTES", 30_000)
        monkeypatch.setattr(ahead, "SLOW", -1.0)
        monkeypatch.setattr(ahead, "BUSY", 99.0)

    def read(self, server: Server, entry: Entry | None = None) -> bytes:
        with pinned.fetch(server.get, entry or server.entry(), wanted, server.stat, readers=3) as fetched:
            return b"".join(fetched.chunks)

    @pytest.mark.parametrize("has_versions", [True, False])
    def test_every_range_is_of_the_object_that_answered_first(self, has_versions: bool) -> None:
        server = Server([OLD, NEW], has_versions=has_versions)
        entry = server.entry(0 if has_versions else 1)
        assert self.read(server, entry) == (OLD if has_versions else NEW)
        same = Which("0" if has_versions else None, server.etag(0 if has_versions else 1))
        ranges = [(at, min(at + 30_000, len(OLD))) for at in range(30_000, len(OLD), 30_000)]
        assert sorted(server.asked[1:], key=lambda asked: asked[1]) == [(same, *each) for each in ranges]
        assert server.closed == len(server.asked)

    def test_a_range_that_breaks_goes_on_where_it_broke(self) -> None:
        def spoil(number: int, body: bytes) -> bytes | tuple[bytes, Exception]:
            return (body[:10_000], Broken("broke off")) if number in (2, 4) else body

        server = Server([OLD], spoil=spoil)
        assert self.read(server) == OLD
        assert len(server.asked) == 1 + 6 + 2

    @pytest.mark.parametrize("ignores", [frozenset(), frozenset({"etag"})])
    @pytest.mark.parametrize("moment", [1, 3])
    def test_an_object_that_changes_meanwhile(self, moment: int, ignores: frozenset[str]) -> None:
        server = Server([OLD], has_versions=False, ignores=ignores)

        def overwrite(number: int) -> None:
            if number == moment:
                server.writes.append(NEW)

        server.meanwhile = overwrite
        with pytest.raises(ReferenceChangedError, match="while it was being read; expected md5:"):
            self.read(server)

    def test_a_server_that_ignores_ranges_is_read_from_its_first_answer(self) -> None:
        server = Server([OLD], ignores=frozenset({"range"}))
        assert self.read(server) == OLD
        assert len(server.asked) == 2

    @pytest.mark.parametrize(
        "server",
        [
            Server([OLD], encrypted=True),
            Server([OLD], etag_end="-3"),
            Server([OLD], has_versions=False, has_etags=False),
            Server([OLD], hides_size=True),
        ],
        ids=["no MD5 to compare", "no hash to compare", "nothing to select by", "no size"],
    )
    def test_where_ranges_would_be_less_sure_there_is_one_get(self, server: Server) -> None:
        """A client may compare a checksum at the end of a whole body only."""
        assert self.read(server) == OLD
        assert len(server.asked) == 1


class TestBodies:
    def break_off(self, *numbers: int, at: int = 70_000):
        def spoil(number: int, body: bytes) -> bytes | tuple[bytes, Exception]:
            return (body[:at], Broken("broke off")) if number in numbers else body

        return spoil

    @pytest.mark.parametrize("has_versions", [True, False])
    def test_a_broken_body_goes_on_where_it_broke_under_the_same_conditions(self, has_versions: bool) -> None:
        server = Server([OLD], has_versions=has_versions, spoil=self.break_off(0, 1))
        assert read(server, server.entry())[0] == OLD
        same = Which("0" if has_versions else None, server.etag(0))
        assert server.asked[1:] == [(same, 70_000, len(OLD)), (same, 140_000, len(OLD))]
        assert server.closed == 3

    def test_a_body_that_ends_early_in_silence_goes_on_too(self) -> None:
        server = Server([OLD], spoil=lambda number, body: body[:-1] if number == 0 else body)
        assert read(server, server.entry())[0] == OLD

    def test_a_body_that_breaks_after_its_last_byte_is_whole(self) -> None:
        server = Server([OLD], spoil=self.break_off(0, at=len(OLD)))
        assert read(server, server.entry())[0] == OLD
        assert len(server.asked) == 1

    def test_it_goes_on_a_few_times_only(self) -> None:
        server = Server([OLD], spoil=self.break_off(*range(99), at=1))
        with pytest.raises(SourceError, match="broke off at byte 6 of 200,000 bytes") as error:
            read(server, server.entry())
        assert error.value.transient
        assert len(server.asked) == RESUMES + 1

    def test_what_nothing_selects_is_not_continued(self) -> None:
        """The rest could be of another write."""
        server = Server([OLD], has_versions=False, has_etags=False, spoil=self.break_off(0))
        with pytest.raises(SourceError, match="broke off at byte 70,000"):
            read(server, server.entry())
        assert len(server.asked) == 1

    def test_without_a_size_the_end_is_where_the_body_ends(self) -> None:
        server = Server([OLD], hides_size=True, spoil=self.break_off(0))
        assert read(server, replace(server.entry(), size=None))[0] == OLD
        assert server.asked[1][1:] == (70_000, None)

    @pytest.mark.parametrize("ignores", [frozenset(), frozenset({"etag"})])
    def test_an_object_that_changes_before_its_body_goes_on(self, ignores: frozenset[str]) -> None:
        server = Server([OLD], has_versions=False, ignores=ignores, spoil=self.break_off(0))

        def overwrite(number: int) -> None:
            if number == 1:
                server.writes.append(NEW)

        server.meanwhile = overwrite
        with pytest.raises(ReferenceChangedError, match="while it was being read; expected md5:"):
            read(server, server.entry())

    def test_an_object_that_its_client_sees_change_within_a_body(self) -> None:
        server = Server([OLD], spoil=lambda number, body: (body[:70_000], NotThat()))
        with pytest.raises(ReferenceChangedError, match="while it was being read"):
            read(server, server.entry())

    def test_an_ignored_range_is_not_taken_for_the_rest(self) -> None:
        server = Server([OLD], ignores=frozenset({"range"}), spoil=self.break_off(0))
        with pytest.raises(SourceError, match="does not answer a ranged, pinned GET"):
            read(server, server.entry())

    def test_more_bytes_than_announced_are_no_object(self) -> None:
        server = Server([OLD], spoil=lambda number, body: body + b"!")
        with pytest.raises(SourceError, match="more than 200,000 bytes"):
            read(server, server.entry())

    def test_leaving_early_closes_what_was_begun(self) -> None:
        server = Server([OLD])
        with pinned.fetch(server.get, server.entry(), wanted, server.stat) as fetched:
            next(fetched.chunks)
        assert server.closed == 1

    @given(st.lists(st.integers(0, 300), max_size=RESUMES), st.integers(0, 300))
    def test_however_it_breaks_the_bytes_are_those_of_the_object(self, cuts: list[int], size: int) -> None:
        data = OLD[:size]
        breaks: Iterator[int] = iter(cuts)

        def spoil(number: int, body: bytes) -> bytes | tuple[bytes, Exception]:
            cut = next(breaks, None)
            return body if cut is None else (body[:cut], Broken("broke off"))

        server = Server([data], spoil=spoil)
        assert read(server, server.entry())[0] == data


class TestOpen:
    def test_a_small_object_is_one_request(self) -> None:
        server = Server([OLD[:FIRST_BYTES]])
        assert read_opened(server, server.entry())[0] == OLD[:FIRST_BYTES]
        assert server.asked == [(Which("0"), 0, FIRST_BYTES)]

    def test_an_empty_object_is_asked_for_without_a_range(self) -> None:
        server = Server([b""])
        assert read_opened(server, server.entry())[0] == b""
        assert server.asked == [(Which("0"), 0, None)]

    def test_every_range_holds_the_write_that_answered_first(self) -> None:
        server = Server([OLD, NEW])
        opened = pinned.open_stream(server.get, replace(server.entry(), pin=None), wanted, server.stat)
        with opened.file as file:
            server.writes.append(OLD)
            assert file.read() == NEW
        assert {which for which, *_ in server.asked[1:]} == {Which("1", server.etag(1))}

    @pytest.mark.parametrize("ignores", [frozenset(), frozenset({"etag"})])
    def test_an_object_that_changes_between_ranges(self, ignores: frozenset[str]) -> None:
        server = Server([OLD], has_versions=False, ignores=ignores)
        with pinned.open_stream(server.get, server.entry(), wanted, server.stat).file as file:
            assert file.read(1000) == OLD[:1000]
            server.writes.append(NEW)
            file.seek(150_000)
            with pytest.raises(ReferenceChangedError, match="while it was being read"):
                file.read(1000)

    def test_a_range_of_an_object_of_another_size(self) -> None:
        """What selects a write may be as weak as a time."""
        server = Server([OLD], has_versions=False)
        server.etag = lambda write: "same"
        with pinned.open_stream(server.get, server.entry(), wanted, server.stat).file as file:
            server.writes.append(NEW + b"!")
            file.seek(150_000)
            with pytest.raises(ReferenceChangedError, match="while it was being read"):
                file.read(1000)

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"ignores": frozenset({"range"})}, "ranged GET"),
            ({"hides_size": True}, "how large"),
            ({"has_versions": False, "has_etags": False}, "nothing to pin ranges by"),
            ({"shifted": 1}, "ranged, pinned GET"),
        ],
    )
    def test_what_cannot_be_read_in_ranges_is_said_at_once(self, wrong: dict, why: str) -> None:
        server = Server([OLD], **wrong)
        with pytest.raises(SourceError, match=why):
            pinned.open_stream(server.get, server.entry(), wanted, server.stat)

    def test_a_small_object_needs_no_ranges(self) -> None:
        server = Server([OLD[:100]], has_versions=False, has_etags=False, ignores=frozenset({"range"}))
        assert read_opened(server, server.entry())[0] == OLD[:100]

    def test_a_range_that_breaks_off_goes_on(self) -> None:
        cut = {0: 10, 2: 50_000}
        server = Server(
            [OLD],
            spoil=lambda number, body: (body[: cut[number]], Broken("broke off")) if number in cut else body,
        )
        assert read_opened(server, server.entry())[0] == OLD
        assert server.asked[1] == (Which("0", server.etag(0)), 10, FIRST_BYTES)


def test_a_managed_file_has_no_uri() -> None:
    with pytest.raises(InvalidInputError, match="'a' is a managed file"):
        pinned.uri_of(Entry("a", 1, id_of(OLD, "sha256")))
