"""The manifest benchmark, run small, so that it cannot rot; what does not depend on the machine is asserted."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks import manifest
from benchmarks.manifest import NEEDS, RSS_BUDGET_MB, STEPS, run

ROWS = 60_000
MEASURED = (
    *("add_ranges", "add_ranges_without_pins", "read", "look_up", "prefix"),
    *("change_scattered", "diff_scattered", "change_ten", "diff_ten", "move_all", "diff_moved"),
    *("sample", "split", "log", "log_one"),
)


@pytest.fixture(scope="module")
def records():
    return {record["step"]: record for record in run(ROWS, MEASURED)}


def test_every_record_says_what_was_measured(records):
    for step, record in records.items():
        assert (record["bench"], record["step"], record["rows"]) == ("manifest", step, ROWS)
        assert record.keys() >= {"cpu_s", "wall_s", "rss_mb", "us_a_row"}


def test_memory_stays_within_the_budget(records):
    """More rows add nothing: batches and the runs of a sort are of full size already."""
    peaks = {step: record["rss_mb"] for step, record in records.items()}
    assert max(peaks.values()) < RSS_BUDGET_MB, peaks


def test_bytes_an_entry(records):
    assert records["add_ranges"]["bytes_an_entry"] <= 46
    assert records["add_ranges_without_pins"]["bytes_an_entry"] <= 22
    assert records["log"]["bytes_an_entry"] <= 46


def test_every_row_is_found(records):
    assert records["read"]["found"] == records["log"]["found"] == ROWS
    assert records["look_up"]["found"] == manifest.LOOKUPS + 1
    assert records["prefix"]["found"] == manifest.ROWS_A_DAY


def test_changes_are_found(records):
    assert records["diff_scattered"]["changes"] == manifest.SCATTERED
    assert records["log_one"]["version"] == "v1"


def test_ten_changes_read_two_shards_each(records):
    """Of each side the one that the entry lies in, and none twice."""
    assert records["diff_ten"]["changes"] == 10
    assert 0 < records["diff_ten"]["shards_read"] <= 2 * 10


def test_every_entry_moved(records):
    assert records["diff_moved"]["changes"] == records["diff_moved"]["moved"] == ROWS


def test_samples_and_parts_hold_what_they_should(records):
    assert records["sample"]["found"] == ROWS // 10
    assert records["split"]["found"] == ROWS
    assert abs(records["split"]["train"] / ROWS - 0.8) < 0.02


@pytest.mark.parametrize("arrange", [manifest.in_order, manifest.in_ranges, manifest.shuffled])
def test_each_order_of_adding_has_every_path_once(arrange):
    paths = [path for page in arrange(40_500) for path in page["path"].to_pylist()]
    assert sorted(paths) == [manifest.path_of(row) for row in range(40_500)]


def test_pages_of_ranges_are_sorted_and_do_not_overlap():
    pages = [page["path"].to_pylist() for page in manifest.in_ranges(100_000)]
    assert all(page == sorted(page) for page in pages)
    assert all(one[-1] < other[0] for one, other in pairwise(sorted(pages)))
    assert sum(one[-1] > other[0] for one, other in pairwise(pages)) > len(pages) / 3


def test_every_step_comes_after_those_it_needs():
    order = list(STEPS)
    for step, needed in NEEDS.items():
        assert all(order.index(other) < order.index(step) for other in needed)
