"""The listing benchmark, run small, so that it cannot rot; what does not depend on the machine is asserted."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import listing

OBJECTS = 5_500


@pytest.fixture(scope="module")
def records():
    found = listing.run(OBJECTS, "dates", "on", 0, noncurrent=1)
    return {record["tool"]: record for record in found}


def test_every_tool_finds_every_object(records):
    assert list(records) == list(listing.TOOLS)
    assert {record["rows"] for record in records.values()} == {OBJECTS}


def test_costs_are_told(records):
    for record in records.values():
        assert record["cpu_s"] > 0
        assert record["wall_s"] > 0
        assert 10 < record["rss_mb"] < 300


def test_requests_are_those_of_the_tool(records):
    """Those of each tool alone: no tool lists one object at a time."""
    assert set(records["floor"]["requests"]) == {"ListObjectVersions"}
    for record in records.values():
        assert 11 <= sum(record["requests"].values()) <= 50


def test_records_are_lines_of_json(tmp_path, monkeypatch, capsys):
    told = {"cpu_s": 0.1, "wall_s": 0.1, "rss_mb": 20, "requests": {"ListObjectsV2": 1}, "rows": 1_000}
    monkeypatch.setattr(listing, "measure", lambda *_: told)
    options = ["--objects", "1000", "--versions", "off", "on", "--records", str(tmp_path / "records")]
    monkeypatch.setattr(sys, "argv", ["listing", *options])
    listing.main()
    records = [json.loads(line) for line in (tmp_path / "records").read_text().splitlines()]
    assert [(record["versions"], record["tool"]) for record in records] == [
        (versions, tool) for versions in ("off", "on") for tool in listing.TOOLS
    ]
    assert "manifest: 0.39 of the budget of 0.254 s" in capsys.readouterr().out
