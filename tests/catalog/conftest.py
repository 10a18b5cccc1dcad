"""Catalogs on both databases, and processes to use them at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from refart.catalog.sql import SqlCatalog, open_catalog
from tests.catalog import workers


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'catalog.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def catalog_url(request: pytest.FixtureRequest) -> str:
    """URL of a database that holds nothing yet, on each kind of server."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[SqlCatalog]:
    opened = open_catalog(catalog_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def sixteen() -> Iterator[Callable[..., list[Any]]]:
    """Call `sixteen(function, arguments)`: each of 16 processes calls `function` with one of 16 arguments,
    all at the same moment; returns the results in order. The processes start once, as starting costs the most."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(16)
    with ProcessPoolExecutor(16, context, workers.prepare, (barrier,)) as pool:

        def call(function: Callable[[Any], Any], arguments: list[Any]) -> list[Any]:
            assert len(arguments) == 16
            calls = [pool.submit(workers.together, function, argument) for argument in arguments]
            return [call.result(timeout=120) for call in calls]

        yield call
