"""Bytes on their way out: nothing wrong is ever handed over as right."""

from __future__ import annotations

import io
import itertools
from hashlib import md5
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from refart import checksums
from refart.checksums import StreamHasher
from refart.context import Context
from refart.entries import Entry
from refart.errors import ChecksumError, NotFoundError, ReferenceChangedError, ReferenceMissingError
from refart.ops import stream as stream_module
from refart.ops.stream import Checked, VerifiedReader, VerifiedStream, open_entry, stream
from refart.sources.base import Fetched, Held, Parts
from tests.ops.support import Objects, content_id, managed, sha256

DATA = b"sixteen bytes ok"


def entry(known: str | None = None, size: int | None = len(DATA)) -> Entry:
    return Entry("a", size, known or content_id(DATA), "mem://lake/a")


def streamed(context: Context, what: Entry) -> tuple[bytes, Checked | None]:
    with stream(context.local, context.store, what) as chunks:
        return b"".join(chunks), chunks.checked


@pytest.fixture(autouse=True, params=[False, True], ids=["small", "large"])
def is_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large entries are hashed by threads of their own; nothing else is different."""
    monkeypatch.setattr(stream_module, "LARGE_BYTES", 1 if request.param else 1 << 60)


# -- one pass -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["sha256", "md5"])
def test_a_recorded_hash_confirms_the_bytes(context: Context, objects: Objects, algo: str) -> None:
    what = objects.put("a", DATA, algo)
    assert streamed(context, what) == (DATA, Checked(sha256(DATA), len(DATA), algo))


def test_a_managed_file_comes_from_the_store(context: Context) -> None:
    assert streamed(context, managed(context, "a", DATA)) == (
        DATA,
        Checked(sha256(DATA), len(DATA), "sha256"),
    )


@pytest.mark.parametrize(
    ("known", "said", "held", "rung"),
    [
        ("etag:x-2", "etag:x-2", "etag", "etag"),
        ("etag:x-2", "none", "version", "version"),
        ("none", "none", "generation", "generation"),
        ("none", "none", "current", "unverified"),
        ("none", "none", "local", "unverified"),
        ("generation:7", "generation:7", "current", "etag"),
        ("etag:W/x", "etag:W/x", "current", "weak"),
        ("stat:12", "stat:12", "local", "weak"),
        ("stat:12", "stat:12", "etag", "etag"),
    ],
)
def test_without_a_hash_the_servers_word_is_told_apart_from_nothing(
    context: Context, objects: Objects, known: str, said: str, held: Held, rung: str
) -> None:
    objects.put("a", DATA)
    objects.said, objects.held = said, held
    assert streamed(context, entry(known))[1] == Checked(sha256(DATA), len(DATA), rung)


@pytest.mark.parametrize(("known", "said"), [("etag:x", "etag:y"), ("etag:x", "none"), ("stat:1", "stat:2")])
def test_what_lies_there_now_is_not_handed_over_for_what_was_recorded(
    context: Context, objects: Objects, known: str, said: str
) -> None:
    objects.put("a", DATA)
    objects.said, objects.held = said, "current"
    with pytest.raises(ReferenceChangedError, match=f"expected content {known}, found {said}"):
        streamed(context, entry(known))


@pytest.mark.parametrize("algo", ["crc32c", "crc64nvme"])
def test_a_crc_is_computed_and_compared(context: Context, objects: Objects, algo: str) -> None:
    objects.put("a", DATA)
    hasher = StreamHasher(algo)
    hasher.update(DATA)
    assert streamed(context, entry(hasher.content_id(algo)))[1].rung == algo
    objects.put("a", DATA[:-1] + b"?")
    with pytest.raises(ReferenceChangedError, match=f"expected content {algo}:"):
        streamed(context, entry(hasher.content_id(algo)))


@pytest.mark.parametrize("part_bytes", [1, 3, len(DATA) - 1, len(DATA), len(DATA) + 1])
def test_a_multipart_etag_is_computed_again(context: Context, objects: Objects, part_bytes: int) -> None:
    parts = [DATA[n : n + part_bytes] for n in range(0, len(DATA), part_bytes)]
    etag = md5(b"".join(md5(part).digest() for part in parts)).hexdigest()
    known = entry(f"etag:{etag}-{len(parts)}")
    objects.put("a", DATA)
    objects.said, objects.held = known.content_id, "etag"
    objects.parts = Parts(part_bytes, lambda: True)
    assert streamed(context, known)[1].rung == "multipart"
    objects.put("a", DATA[:-1] + b"?")
    with pytest.raises(ChecksumError):
        streamed(context, known)
    objects.parts = Parts(
        part_bytes, lambda: False
    )  # uneven parts cannot be told from damage: the ETag vouches
    assert streamed(context, known)[1].rung == "etag"


def test_the_etag_of_an_encrypted_object_is_not_compared_as_an_md5(
    context: Context, objects: Objects
) -> None:
    objects.put("a", DATA)
    objects.hash_is_plain = False
    etag = "md5:" + "0" * 32
    objects.said = etag
    assert streamed(context, entry(etag))[1] == Checked(sha256(DATA), len(DATA), "etag")


@pytest.mark.parametrize("algo", ["sha256", "md5"])
@pytest.mark.parametrize(
    ("held", "error"),
    [
        ("current", ReferenceChangedError),
        ("local", ReferenceChangedError),
        ("version", ChecksumError),
        ("etag", ChecksumError),
    ],
)
def test_other_bytes_are_a_change_or_damage(
    context: Context, objects: Objects, algo: str, held: Held, error: type[Exception]
) -> None:
    """Unpinned, the object changed; pinned, it cannot have, so the bytes were damaged on the way."""
    what = objects.put("a", DATA, algo)
    objects.data["mem://lake/a"] = DATA[::-1]
    objects.held = held
    with pytest.raises(
        error, match=r"a: mem://lake/a .*expected content .*found|content than recorded: expected"
    ):
        streamed(context, what)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"!", b""])
def test_another_size_is_noticed_where_no_hash_is_known(
    context: Context, objects: Objects, data: bytes
) -> None:
    objects.put("a", data)
    with pytest.raises(ReferenceChangedError, match="16 bytes"):
        streamed(context, entry("none"))


def test_a_size_announced_wrong_is_refused_before_any_byte() -> None:
    with pytest.raises(ReferenceChangedError, match="expected size 16 bytes, found 15 bytes"):
        VerifiedReader(io.BytesIO(), entry(), Fetched(iter(()), 15, "current", "none"))


@pytest.mark.parametrize("held", ["current", "etag"])
def test_a_body_that_never_ends_is_given_up_where_it_goes_too_far(held: Held) -> None:
    """Servers need not announce a length; what is recorded bounds what comes."""
    chunks = VerifiedStream(entry("etag:x"), Fetched(itertools.repeat(b"7 bytes"), None, held, "etag:x"))
    taken = []
    with pytest.raises((ReferenceChangedError, ChecksumError), match="16 bytes, found 21 bytes or more"):
        taken.extend(chunks)
    assert len(taken) == 2


def test_an_unknown_size_is_found_out(context: Context, objects: Objects) -> None:
    objects.put("a", DATA)
    assert streamed(context, entry(size=None))[1] == Checked(sha256(DATA), len(DATA), "sha256")


def test_a_stream_that_is_not_read_to_its_end_says_nothing(context: Context, objects: Objects) -> None:
    with stream(context.local, None, objects.put("a", DATA)) as chunks:
        assert next(iter(chunks)) == DATA[:4]
    assert chunks.checked is None


def test_a_damaged_blob_is_named_as_damage_of_the_store(context: Context) -> None:
    what = managed(context, "a", DATA)
    _spoil(context, what, DATA[::-1])
    with pytest.raises(ChecksumError, match="the store is damaged"):
        streamed(context, what)


def _spoil(context: Context, what: Entry, data: bytes) -> None:
    blob = Path(context.store.local_path("blobs", what.content_id.removeprefix("sha256:")) or "")
    blob.chmod(0o600)
    blob.write_bytes(data)


# -- a file to read and seek in ---------------------------------------------------------------------------


def reader(
    data: bytes, known: str | None = None, size: int | None = len(DATA), held: Held = "version"
) -> VerifiedReader:
    return VerifiedReader(io.BytesIO(data), entry(known, size), Fetched(iter(()), None, held, "none"))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_reading_in_order_gives_the_bytes_in_any_steps(steps: list[int]) -> None:
    file, found = reader(DATA), b""
    for step in steps:
        found += file.read(step) or b""
    assert found == DATA[: sum(steps)]
    assert found + file.read() == DATA
    assert file.read(1) == b""


def test_wrong_bytes_raise_at_the_end_and_not_before() -> None:
    file = reader(DATA[:-1] + b"!")
    assert file.read(15) == DATA[:15]
    with pytest.raises(ChecksumError, match=content_id(DATA)):
        file.read(1)


def test_after_wrong_bytes_nothing_more_is_handed_over() -> None:
    file = reader(DATA[::-1])
    with pytest.raises(ChecksumError):
        file.read(16)
    file.seek(0)
    with pytest.raises(ChecksumError):
        file.read(4)


@pytest.mark.parametrize("size", [16, None])
def test_a_file_cut_short_raises_at_its_end(size: int | None) -> None:
    file = reader(DATA[:8], size=size)
    assert file.read(8) == DATA[:8]
    with pytest.raises(ChecksumError):
        file.read(8)


@pytest.mark.parametrize("start", [0, 12, 16, 20])
def test_bytes_behind_the_recorded_end_are_never_handed_over(start: int) -> None:
    file = reader(DATA + b"more bytes")
    file.read(16)
    file.seek(start)
    with pytest.raises(ChecksumError, match="expected 16 bytes, found"):
        file.read(20)


def test_ranges_after_a_gap_are_given_though_the_whole_cannot_be_hashed() -> None:
    file = reader(DATA[:-1] + b"!")
    file.seek(8)
    assert file.read(8) == DATA[8:-1] + b"!"
    file.seek(0)
    assert len(file.read()) == 16


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(0, 16)), max_size=6))
def test_reading_again_what_was_read_does_not_stop_the_hashing(seeks: list[tuple[int, int]]) -> None:
    """However a reader jumped about in what it had read, wrong bytes are found once all were read in order."""
    file, read_to = reader(DATA[:-1] + b"!"), 0
    for at, count in seeks:
        file.seek(min(at, read_to))
        if file.tell() + count >= 16:
            break
        read_to = max(read_to, file.tell() + len(file.read(count) or b""))
    file.seek(read_to)
    with pytest.raises(ChecksumError):
        file.read()


def test_an_empty_file() -> None:
    nothing = Entry("a", 0, content_id(b""), "mem://lake/a")
    file = VerifiedReader(io.BytesIO(), nothing, Fetched(iter(()), None, "version", "none"))
    assert file.read() == b""
    with pytest.raises(ChecksumError):
        reader(b"").read()


def test_closing_closes_what_it_reads_from() -> None:
    raw = io.BytesIO(DATA)
    with VerifiedReader(raw, entry(), Fetched(iter(()), None, "version", "none")) as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    assert raw.closed


# -- opening an entry -----------------------------------------------------------------------------------


def test_a_managed_file_opens_from_the_store(context: Context) -> None:
    with open_entry(context, managed(context, "a", DATA)) as file:
        assert file.read(7) == b"sixteen"
        assert (file.seek(-2, io.SEEK_END), file.read()) == (14, b"ok")
        assert (file.seek(0), file.read()) == (0, DATA)


def test_a_reference_opens_from_its_source(context: Context, objects: Objects) -> None:
    with open_entry(context, objects.put("a", DATA)) as file:
        assert file.read() == DATA


def test_who_is_to_blame_depends_on_the_pin(context: Context, objects: Objects) -> None:
    what = objects.put("a", DATA, "sha256")
    objects.data["mem://lake/a"] = DATA[::-1]
    with open_entry(context, what) as file, pytest.raises(ReferenceChangedError):
        file.read()
    objects.held = "version"
    with open_entry(context, what) as file, pytest.raises(ChecksumError):
        file.read()


def test_an_encrypted_object_is_not_compared_with_its_etag(context: Context, objects: Objects) -> None:
    objects.put("a", DATA)
    objects.hash_is_plain = False
    with open_entry(context, entry("md5:" + "0" * 32)) as file:
        assert file.read() == DATA


@pytest.mark.parametrize("data", [DATA[::-1], DATA[:5], DATA + b"!", b""])
def test_a_damaged_blob_cannot_be_read_through(context: Context, data: bytes) -> None:
    what = managed(context, "a", DATA)
    _spoil(context, what, data)
    with open_entry(context, what) as file, pytest.raises(ChecksumError, match="the store is damaged"):
        file.read()


def test_a_lost_blob_and_a_lost_object_have_their_own_errors(context: Context, objects: Objects) -> None:
    with pytest.raises(NotFoundError, match="is not in the store"):
        open_entry(context, Entry("a", 1, content_id(b"never stored")))
    with pytest.raises(ReferenceMissingError):
        open_entry(context, Entry("a", 1, checksums.NONE, "mem://lake/never"))
