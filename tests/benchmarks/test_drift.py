"""The benchmark of status and verify, run small, so that it cannot rot; what does not depend on the machine is
asserted."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import drift

OBJECTS = 3000


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    file = tmp_path_factory.mktemp("drift") / "records.jsonl"
    arguments = ["drift", f"--objects={OBJECTS}", "--size-bytes=100", "--sample=50", f"--records={file}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        drift.main()
    return {record["step"]: record for record in map(json.loads, file.read_text().splitlines())}


def test_every_step_is_measured(records):
    assert set(records) == set(drift.STEPS)
    assert all(record["cpu_s"] > 0 and record["rss_mb"] > 10 for record in records.values())


def test_a_status_costs_what_a_listing_does(records):
    assert records["status"]["told"]["pins"]["pinned"] == OBJECTS
    assert set(records["status"]["requests"]) <= {"GetBucketVersioning", "ListObjectVersions"}
    assert sum(records["status"]["requests"].values()) < 30


def test_old_versions_are_told_by_listings(records):
    record = records["status, all changed"]
    assert record["told"]["pins"]["superseded"] > 0.9 * OBJECTS
    assert record["told"]["pins"]["lost"] == 0
    assert sum(record["requests"].values()) < OBJECTS / 10


def test_bytes_are_read_once(records):
    assert records["verify --bytes"]["requests"] == {"GetObject": OBJECTS}
    assert records["verify --bytes --since"]["requests"] == {}
    assert records["verify --bytes --sample"]["requests"] == {"GetObject": 50}
    assert records["verify --remote --sample"]["told"]["references"] == 50
