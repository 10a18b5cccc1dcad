"""The benchmark of folders and tables, run small, so that it cannot rot; what it counts is asserted."""

from __future__ import annotations

from benchmarks.tables import run


def test_the_steps_find_what_there_is():
    records = {step["step"]: step for step in run(20_000, ("ls_ten", "sql_path"))}
    assert {step: record["found"] for step, record in records.items()} == {"ls_ten": 10, "sql_path": 1}
    assert records["ls_ten"]["opened"] <= records["ls_ten"]["shards"]
