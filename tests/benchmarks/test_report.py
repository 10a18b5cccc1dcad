"""The page of a comparison, from a few records of a real one."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from benchmarks.compare import Case, Records
from benchmarks.report import page, series

RECORDS = Path(__file__).with_name("comparison.jsonl")


@pytest.fixture(scope="module")
def records():
    return Records(RECORDS).all


def rows_of(text, title):
    """The rows of the first table behind a title, by their first cell."""
    _, _, rest = text.partition(f"\n{title}\n")
    lines = rest.strip().partition("\n\n")[0].splitlines()
    return {
        cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    }


def find(records, **wanted):
    (record,) = (record for record in records if wanted.items() <= record.items())
    return record


def test_a_figure_stands_beside_its_ratio_to_refart(records):
    listing = {"bench": "listing", "objects": 10_000, "latency_ms": 0}
    wandb, refart = (find(records, tool=tool, **listing) for tool in ("wandb", "refart"))
    rows = rows_of(page(records), "CPU, s")
    assert (
        rows["wandb `add_reference`"][1] == f"{wandb['cpu_s']:.2f} ({wandb['cpu_s'] / refart['cpu_s']:.0f}×)"
    )
    assert rows["**refart** `add_reference`"][1] == f"{refart['cpu_s']:.2f}"


def test_what_was_left_out_is_said(records):
    text = page(records)
    _, _, slow = text.partition("that answers after 50 ms")
    assert rows_of(slow, "Wall time, s")["wandb `add_reference`"][1] == "–"
    assert "–: left out" in text


def test_the_reader_learns_how_each_tool_was_called(records):
    rows = rows_of(page(records), "## How each tool was called")
    assert set(rows) >= {
        f"{record['tool']} `{record['way']}`" for record in records if record["tool"] == "rclone"
    }
    for record in records:
        assert any([record["version"], record["how"]] == cells for cells in rows.values())


def test_nothing_names_the_machine(records):
    text = page(records) + RECORDS.read_text()
    assert socket.gethostname() not in text
    assert "/tmp" not in text
    assert str(Path.home()) not in text


def test_the_plot_has_a_line_for_each_way_over_all_its_sizes(records):
    lines = series(records)
    assert set(lines) == {"floor list_versions", "refart add_reference", "s5cmd ls", "wandb add_reference"}
    assert all([objects for objects, _ in line] == [1_000, 10_000] for line in lines.values())


@pytest.fixture
def measured(tmp_path):
    """Adds to a file of records a listing that was measured."""
    records = Records(tmp_path / "records.jsonl")

    def add(objects, *, latency_ms=0, cpu_s, wall_s, requests):
        case = Case("listing", objects, latency_ms=latency_ms)
        costs = {"cpu_s": cpu_s, "wall_s": wall_s, "requests": requests}
        records.add({**case.key, "tool": "boto3", "way": "list_objects", **costs})
        return records

    return add


def test_a_long_listing_is_foreseen_from_a_shorter_one(measured):
    measured(100, cpu_s=9, wall_s=9, requests=1)
    records = measured(1_000, cpu_s=2, wall_s=2, requests=10)
    assert records.expected_s(Case("listing", 10_000), "boto3", "list_objects") == 20
    assert records.expected_s(Case("listing", 1_000, latency_ms=50), "boto3", "list_objects") == 2.5


def test_what_is_not_known_is_expected_to_be_short(measured):
    records = measured(1_000, cpu_s=2, wall_s=2, requests=10)
    assert records.expected_s(Case("listing", 10_000), "s3fs", "find") == 0
    assert records.expected_s(Case("download", 10_000), "boto3", "list_objects") == 0


def test_a_measurement_is_kept_for_the_next_run(measured, tmp_path):
    measured(1_000, cpu_s=2, wall_s=2, requests=10)
    (line,) = (tmp_path / "records.jsonl").read_text().splitlines()
    again = Records(tmp_path / "records.jsonl")
    assert again.all == [json.loads(line)]
    assert again.has(Case("listing", 1_000), "boto3", "list_objects")
    assert not again.has(Case("listing", 10_000), "boto3", "list_objects")
