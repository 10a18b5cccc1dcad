"""The benchmark of starts, run once and small, so that it cannot rot."""

from __future__ import annotations

from benchmarks.start import STEPS, run


def test_every_step_is_measured_and_does_its_work():
    records = {record["step"]: record for record in run(objects=30, latency_ms=0, repetitions=1)}
    assert list(records) == [*STEPS, "put_s3"]
    assert {record["bench"] for record in records.values()} == {"start"}
    assert all(record["cpu_s"] > 0 and record["wall_s"] > 0 for record in records.values())
    assert records["put_s3"]["size"] == 30
