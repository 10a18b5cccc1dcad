"""The benchmark of downloads from S3, run small; what does not depend on the machine is asserted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.download_s3 import TOOLS, run, table

FILES, SIZE_BYTES = 20, 5_000


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    return {record["tool"]: record for record in run(FILES, SIZE_BYTES, versions="on")}


def test_every_tool_is_measured_on_the_same_objects(records: dict[str, dict[str, Any]]) -> None:
    assert tuple(records) == TOOLS
    for record in records.values():
        assert (record["bench"], record["files"], record["size_bytes"]) == ("download_s3", FILES, SIZE_BYTES)
        assert record["cpu_s"] >= record["call_cpu_s"] > 0
        assert record["rss_mb"] > 10
        json.dumps(record)


def test_an_object_costs_one_request(records: dict[str, dict[str, Any]]) -> None:
    """One object is got twice without a cache, since the first of all is left out of the call."""
    assert records["refart cached"]["requests"] == FILES
    assert records["refart"]["requests"] == FILES + 1


def test_people_get_a_table(records: dict[str, dict[str, Any]]) -> None:
    lines = table(list(records.values())).splitlines()
    assert lines[0] == "20 objects of 5,000 bytes, 0 ms a request"
    assert [line[:16].strip() for line in lines[2:]] == list(TOOLS)


def test_one_large_object_is_read_by_ranges() -> None:
    """By the floor; refart does so only where it waits."""
    [record] = run(1, 9_000_000, tools=["floor"])
    assert record["requests"] == 3
