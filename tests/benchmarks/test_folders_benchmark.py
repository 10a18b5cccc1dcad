"""The folder benchmark, run small, so that it cannot rot."""

from __future__ import annotations

from benchmarks.folders import run_again, run_hash

FIGURES = {
    "add_reference to the draft",
    "add_reference to the log",
    "add_dir to the draft",
    "add_dir to the log",
}


def test_what_is_hashed_is_compared_with_the_fastest_floor() -> None:
    records = {record["tool"]: record for record in run_hash(20, 2_000, 1)}
    floors = {"sha256-1", "sha256-2", "sha256-4"}
    assert records.keys() == FIGURES | floors
    for record in records.values():
        assert (record["files"], record["size_bytes"]) == (20, 2_000)
        assert record["wall_s"] > 0
        assert record["rss_mb"] > 0
        assert record["floor"] in floors
    assert min(records[floor]["wall_to_floor"] for floor in floors) == 1


def test_what_is_logged_again_is_compared_with_a_walk() -> None:
    records = {record["tool"]: record for record in run_again(50, 10, 1)}
    assert records.keys() == FIGURES | {"walk"}
    assert records["walk"]["wall_to_floor"] == 1
    assert all(record["wall_to_floor"] >= 1 for record in records.values())
