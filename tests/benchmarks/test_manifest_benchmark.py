"""The manifest benchmark, run small, so that it cannot rot; what does not depend on the machine is asserted."""

from __future__ import annotations

import pytest

from benchmarks.manifest import RSS_BUDGET_MB, run

ROWS = 100_000


@pytest.fixture(scope="module")
def results():
    return run(ROWS)


def test_memory_stays_within_the_budget(results):
    """Pages are of full size already here, so more rows add nothing: the budget leaves room for long paths."""
    peaks = {step: result["rss_mb"] for step, result in results.items()}
    assert max(peaks.values()) < RSS_BUDGET_MB * 3 / 4, peaks


def test_bytes_an_entry(results):
    assert results["write"]["bytes_an_entry"] <= 46
    assert results["write_without_pins"]["bytes_an_entry"] <= 22


def test_overwriting_one_entry_stores_one_shard(results):
    assert results["overwrite_one"]["shards_stored"] == 1
    assert results["diff_one"]["changes"] == 1
    assert results["diff_one"]["shards_read"] == 2


def test_every_row_is_read_back(results):
    assert results["read"]["rows"] == results["diff_all"]["changes"] == ROWS
    assert results["look_up"]["found"]
    assert results["prefix"]["rows"] == 5_000
