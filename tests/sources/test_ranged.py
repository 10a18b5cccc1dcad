"""The seekable stream over ranged reads, against a plain file in memory."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart.sources.ranged import FIRST_BYTES, MOST_BYTES, open_ranges

DATA = bytes(n * 31 % 253 for n in range(300_000))

steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 100_000)),
        st.tuples(st.just("seek"), st.integers(0, len(DATA) + 10)),
        st.tuples(st.just("end"), st.integers(-len(DATA), 0)),
    ),
    max_size=12,
)


@given(steps, st.integers(0, 100_000))
def test_it_reads_like_a_file(steps: list[tuple[str, int]], known: int) -> None:
    asked: list[tuple[int, int]] = []

    def read_range(start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(DATA)
        asked.append((start, stop))
        return DATA[start:stop]

    expected = io.BytesIO(DATA)
    with open_ranges("x", len(DATA), DATA[:known], read_range) as stream:
        for what, n in steps:
            if what == "read":
                assert stream.read(n) == expected.read(n)
            else:
                whence = io.SEEK_SET if what == "seek" else io.SEEK_END
                assert stream.seek(n, whence) == expected.seek(n, whence)
            assert stream.tell() == expected.tell()


def test_sequential_reads_ask_for_more_and_more() -> None:
    size = 64 * MOST_BYTES
    asked: list[int] = []

    def read_range(start: int, stop: int) -> bytes:
        asked.append(stop - start)
        return bytes(stop - start)

    with open_ranges("x", size, bytes(FIRST_BYTES), read_range) as stream:
        while len(asked) < 10 and stream.read(1 << 16):
            pass
    assert asked[:7] == [FIRST_BYTES << n for n in range(1, 8)]
    assert asked[7:] == [MOST_BYTES] * 3


def test_a_range_is_asked_for_once_and_may_be_read_again_from_a_little_before_its_end() -> None:
    asked: list[tuple[int, int]] = []

    def read_range(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    with open_ranges("x", 1 << 30, bytes(FIRST_BYTES), read_range) as stream:
        stream.seek(1_000_001)
        assert len(stream.read(777_777)) == 777_777  # no multiple of anything
        assert asked == [(1_000_001, 1_777_778)]
        stream.read(1)
        stream.seek(-1000, io.SEEK_CUR)
        stream.read(1000)
    assert len(asked) == 2


def test_a_jump_asks_for_little() -> None:
    asked: list[int] = []

    def read_range(start: int, stop: int) -> bytes:
        asked.append(stop - start)
        return bytes(stop - start)

    with open_ranges("x", 1 << 40, b"", read_range) as stream:
        for position in (1 << 39, 1 << 20, 1 << 30):
            stream.seek(position)
            stream.read(10)
    assert asked == [FIRST_BYTES] * 3


def test_an_error_of_a_range_is_the_readers() -> None:
    def read_range(start: int, stop: int) -> bytes:
        raise OSError("gone")

    with open_ranges("x", 10, b"", read_range) as stream, pytest.raises(OSError, match="gone"):
        stream.read(1)


def test_before_the_start_is_nowhere() -> None:
    with (
        open_ranges("x", 10, b"", lambda start, stop: b"") as stream,
        pytest.raises(ValueError, match="before"),
    ):
        stream.seek(-1)
