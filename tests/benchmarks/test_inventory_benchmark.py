"""The inventory benchmark, run small, so that it cannot rot; what does not depend on the machine is asserted."""

from __future__ import annotations

import pytest

from benchmarks import inventory
from benchmarks.inventory import FORMATS, RSS_BUDGET_MB, run

ROWS = 20_000


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_row_is_added(file_format, monkeypatch):
    monkeypatch.setattr(inventory, "FILE_ROWS", ROWS // 2)
    [record] = run(ROWS, (file_format,), ("log" if file_format == "Parquet" else "add",))
    assert (record["bench"], record["format"], record["rows"]) == ("inventory", file_format, ROWS)
    assert record["rss_mb"] < RSS_BUDGET_MB
