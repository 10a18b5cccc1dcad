"""The download benchmark, run small, so that it cannot rot; what does not depend on the machine is asserted."""

from __future__ import annotations

import pytest

from benchmarks.download import RSS_BUDGET_MB, run

FILES, SIZE_BYTES = 3_000, 20


@pytest.fixture(scope="module")
def results():
    return run(FILES, SIZE_BYTES)


def test_every_file_is_moved_once(results):
    assert results["log"]["files"] == results["download"]["files"] == FILES
    assert results["download"]["moved_bytes"] == FILES * SIZE_BYTES
    assert results["download_again"]["kept_files"] == FILES
    assert results["download_again"]["moved_bytes"] == 0
    assert results["download_elsewhere"]["cached_files"] == FILES
    assert results["download_elsewhere"]["moved_bytes"] == 0


def test_verify_reads_every_byte(results):
    assert results["verify"]["ok_files"] == FILES
    assert results["verify"]["read_bytes"] == FILES * SIZE_BYTES


def test_memory_stays_within_the_budget(results):
    """Two thirds of it: at 100,000 files the same steps hold some 80 MB more, and then little more however many there
    are. On a busy machine more threads are at work, and each holds memory of its own."""
    peaks = {step: result["rss_mb"] for step, result in results.items()}
    assert max(peaks.values()) < RSS_BUDGET_MB * 2 / 3, peaks
