"""The ways to call those tools that tests have anyway, run small, so that they cannot rot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.compare import Case, Records, Tools, run
from benchmarks.venvs import requirements

LISTING = ("floor list_versions", "floor list_objects", "boto3 list_versions", "s3fs find", "rclone lsf")


@pytest.fixture(scope="module")
def tools():
    return Tools(lambda tool: Path(sys.executable))


def compare(case, tools, folder):
    """One call of each way; the records by tool and way."""
    records = Records(folder / "records.jsonl")
    assert run([case], tools, records, repeats=1) == []
    return {f"{record['tool']} {record['way']}": record for record in records.all}


def test_a_listing_finds_every_object(tools, tmp_path):
    """What dealt with fewer objects would be a failure. Each tool has the endpoint from the environment."""
    results = compare(Case("listing", 1_500, ways=LISTING), tools, tmp_path)
    assert set(results) == set(LISTING)
    for result in results.values():
        assert result["rows"] == 1_500
        assert result["requests"] in (2, 3)
        assert 0 <= result["call_cpu_s"] <= result["cpu_s"]
        assert result["version"]
        assert result["how"]


def test_a_download_is_measured_without_what_was_prepared(tools, tmp_path):
    ways = ("floor download", "refart download", "rclone copy")
    results = compare(Case("download", 30, 1_000, ways=ways), tools, tmp_path)
    assert {way: result["rows"] for way, result in results.items()} == dict.fromkeys(ways, 30)
    assert results["refart download"]["requests"] == 30


def test_a_folder_needs_no_server(tools, tmp_path):
    ways = ("floor sha256", "refart add_reference_folder")
    results = compare(Case("folder", 30, 1_000, ways=ways), tools, tmp_path)
    assert {way: result["rows"] for way, result in results.items()} == dict.fromkeys(ways, 30)
    assert "requests" not in results["floor sha256"]


def test_a_tool_that_fails_stops_no_other(tools, tmp_path):
    """The objects of this bucket cannot be read."""
    records = Records(tmp_path / "records.jsonl")
    ways = ("floor download", "floor list_versions")
    (failure,) = run([Case("listing", 10, ways=ways)], tools, records, repeats=1)
    assert failure.startswith("floor download: ")
    assert [record["way"] for record in records.all] == ["list_versions"]


def test_requirements_are_pinned():
    for peer, wanted in requirements().items():
        assert wanted
        assert all("==" in requirement for requirement in wanted), peer
    assert set(requirements()) >= {"boto3", "wandb"}
