"""The catalog benchmark, run small, so that it cannot rot; what does not depend on the machine is asserted."""

from __future__ import annotations

import pytest

from benchmarks.catalog import STEPS, run

VERSIONS, RUNS, REPETITIONS = 60, 240, 2


@pytest.fixture(scope="module")
def records():
    return {record["step"]: record for record in run(VERSIONS, RUNS, REPETITIONS)}


def test_every_step_is_measured(records):
    assert list(records) == list(STEPS)
    for record in records.values():
        assert (record["bench"], record["size"], record["runs"]) == ("catalog", VERSIONS, RUNS)
        assert record["cpu_s"] > 0
        assert 0 < record["wall_s"] <= record["median_wall_s"]


def test_the_questions_are_answered(records):
    assert records["latest"]["result"] == "v59"
    assert records["newest_50"]["result"] == 50
    assert records["used_by"]["result"] == 7, (
        "three trainings for each of two neighbours, and the next ingest"
    )
    assert records["lineage_upstream"]["result"] == 4
    assert records["lineage_both"]["result"] > 10


def test_each_log_makes_a_version(records):
    assert records["log_references"]["result"] == "v62"
    assert records["log_files"]["result"] == "v65"
