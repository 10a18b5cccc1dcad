"""The catalog on SQLite and PostgreSQL: the common suite, and many writers at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event

from refart.catalog.base import VersionFilter
from refart.catalog.sql import SqlCatalog, open_catalog
from tests.catalog import workers
from tests.catalog.suite import NOW, CatalogSuite, key, request, run_row

Sixteen = Callable[..., list[Any]]


class TestSqlCatalog(CatalogSuite):
    """Over both databases: see the `catalog` fixture."""


def test_sixteen_processes_that_open_a_new_catalog_at_once_all_succeed(
    catalog_url: str, sixteen: Sixteen
) -> None:
    sixteen(workers.open_and_close, [catalog_url] * 16)
    with closing(open_catalog(catalog_url, create=False)) as catalog:
        assert catalog.projects() == []


def test_sixteen_processes_with_different_contents_make_v0_to_v15(catalog_url: str, sixteen: Sixteen) -> None:
    """Into a catalog, project and collection that none of them finds made."""
    results = sixteen(
        workers.commit,
        [(catalog_url, run_row(f"r{n}"), request(str(n), run_id=f"r{n}")) for n in range(16)],
    )
    assert [(key(n), True) for n in range(16)] == sorted(results)
    with closing(open_catalog(catalog_url)) as catalog:
        rows = catalog.versions(VersionFilter())
        assert [key(n) for n in reversed(range(16))] == [row.key for row in rows]
        told = {found: f"r{n}" for n, (found, _) in enumerate(results)}
        assert told == {row.key: row.created_by for row in rows}
        assert key(15) == catalog.version("vision", "cats", "latest").key
        assert len(catalog.audit()) == 16


def test_sixteen_processes_with_the_same_content_make_one_version_and_sixteen_edges(
    catalog_url: str, sixteen: Sixteen
) -> None:
    results = sixteen(
        workers.commit, [(catalog_url, run_row(f"r{n}"), request("same", run_id=f"r{n}")) for n in range(16)]
    )
    assert [key(0)] * 16 == [found for found, _ in results]
    assert sum(created for _, created in results) == 1
    with closing(open_catalog(catalog_url)) as catalog:
        assert [key(0)] == [row.key for row in catalog.versions(VersionFilter(include_deleted=True))]
        edges = catalog.edges(versions=[key(0)], kind="output")
        assert len(edges) == 16
        assert {f"r{n}" for n in range(16)} == {edge.run_id for edge in edges}


def test_many_threads_share_a_catalog(catalog: SqlCatalog) -> None:
    with ThreadPoolExecutor(24) as pool:
        committed = list(pool.map(lambda n: catalog.commit(request(str(n))), range(48)))
    assert list(range(48)) == sorted(each.version.key.number for each in committed)


def note_selects(catalog: SqlCatalog) -> list[str]:
    """A list that grows by every SELECT from now on."""
    statements: list[str] = []

    @event.listens_for(catalog._database.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    return statements


@pytest.mark.parametrize("count", [2, 40])
def test_a_step_of_lineage_costs_the_same_statements_for_few_and_many_versions(
    catalog: SqlCatalog, count: int
) -> None:
    """A step up and one down, then one for the versions, their aliases, their tags and the runs: none a version."""
    catalog.save_run(run_row("r1"))
    for number in range(count):
        catalog.commit(request(str(number)))
        catalog.record_use("r1", key(number), NOW)
    catalog.commit(request(name="whole", run_id="r1"))
    selects = note_selects(catalog)
    assert 1 + count == len(catalog.lineage(key(0, "whole"), "both", 1).versions)
    assert len(selects) == 13


@pytest.mark.parametrize("count", [2, 40])
def test_listing_costs_the_same_statements_for_few_and_many_versions(catalog: SqlCatalog, count: int) -> None:
    """One each for the collection, the versions, their aliases and their tags: none a version."""
    for number in range(count):
        catalog.commit(request(str(number), aliases=(f"a{number}",), tags=("t",)))
    selects = note_selects(catalog)
    assert count == len(catalog.versions(VersionFilter(project="vision", name="cats")))
    assert len(selects) == 4
