"""Batches in a temporary file: read as they were, in any order, while others are written."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given

from refart.entries import Entry, page_of
from refart.errors import StoreError
from refart.manifest.spill import Spill
from tests.manifest.spills import linux_only, spilled_files
from tests.strategies import paged, sorted_entries


@given(sorted_entries())
def test_batches_come_back_as_they_were(rows: list[Entry]) -> None:
    pages = list(paged(rows, 4))
    spill = Spill(None)
    written = [spill.append(page) for page in pages]
    assert [each.read() for each in reversed(written)] == pages[::-1]


def test_a_batch_can_be_read_before_the_next_is_written() -> None:
    """Null, empty and sliced columns too."""
    page = page_of([Entry(str(n), None, "none", f"s3://b/{n}") for n in range(9)])
    spill = Spill(None)
    for part in (page, page.slice(3, 2), page.slice(0, 0)):
        written = spill.append(part)
        assert written.read() == part


def test_many_threads_read_and_write_at_once() -> None:
    spill = Spill(None)

    def write_and_read(number: int) -> bool:
        batch = pa.record_batch({"number": [number] * 100})
        return spill.append(batch).read() == batch

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write_and_read, range(200)))


@linux_only
def test_the_file_lives_as_long_as_what_was_written(tmp_path: Path) -> None:
    spill = Spill(str(tmp_path))
    assert spilled_files(tmp_path) == []
    written = spill.append(page_of([Entry("a", 1)]))
    del spill
    gc.collect()
    assert len(spilled_files(tmp_path)) == 1
    assert written.read().num_rows == 1
    del written
    gc.collect()
    assert spilled_files(tmp_path) == []


def test_a_file_that_cannot_be_made_is_a_store_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing.*TMPDIR"):
        Spill(str(tmp_path / "missing")).append(page_of([]))
