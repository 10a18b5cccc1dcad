"""docs/sources.md says what the suites of the sources show: a class that declares anything else fails here."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import get_args

import pytest

from refart.ops.stream import Rung
from refart.sources.azure import client as azure_client
from refart.sources.gcs import client as gcs_client
from refart.sources.http import client as http_client
from refart.sources.registry import BUILT_IN, EXTRAS
from refart.sources.s3 import client as s3_client
from tests.sources.suite import SourceSuite

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "sources.md").read_text(encoding="utf-8")

SUITES = {
    "`s3://`, versioned bucket": ["s3.test_source.TestVersioned", "s3.test_seaweed.TestVersioned"],
    "`s3://`, bucket without versions": ["s3.test_source.TestUnversioned", "s3.test_seaweed.TestUnversioned"],
    "`gs://`, versioned bucket": ["gcs.test_source.TestVersioned"],
    "`gs://`, bucket without versions": ["gcs.test_source.TestUnversioned"],
    "`az://`, account with versions": ["azure.test_versions.TestSuite"],
    "`az://`, account without versions": ["azure.test_source.TestContainer", "azure.test_source.TestURL"],
    "`https://`, strong ETags": ["http.test_source.TestStrongETags", "http.test_source.TestBehindAToken"],
    "`https://`, Last-Modified only": ["http.test_source.TestLastModifiedOnly"],
    "`file://` and plain paths": ["local.test_source.TestSuite"],
    "`sftp://`": ["generic.test_source.TestSFTP"],
    "`webdav://`": ["generic.test_source.TestWebDAV"],
    "`memory://`": ["generic.test_source.TestMemory"],
    "any other driver of fsspec": ["generic.test_source.TestRepository"],
}


def table(heading: str) -> dict[str, list[str]]:
    """The first table of a section: its rows by their first cell."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in cells] for first, *cells in rows[2:]}


def suite(name: str) -> type[SourceSuite]:
    module, _, cls = name.rpartition(".")
    found: type[SourceSuite] = getattr(importlib.import_module(f"tests.sources.{module}"), cls)
    return found


def shown(cls: type[SourceSuite]) -> dict[str, str]:
    """What the columns of the table have to say of a suite that passes."""
    weak = " (weak)" if cls.is_weak else ""
    own_pin = cls.content_algo == "etag" or cls.__module__.startswith("tests.sources.s3.")
    pin = {"version": "`version:`", "generation": "`generation:`"}.get(cls.held, "–")
    if cls.held == "etag":
        pin = "the ETag" if own_pin else "`etag:`"
    after = "kept" if cls.keeps_versions else "refused" if cls.refuses_changed else "noticed"
    return {
        "content id": f"`{cls.content_algo}:`{weak}",
        "pin": pin,
        "checked": f"`{cls.rung}`",
        "after": after,
    }


@pytest.mark.parametrize("row", SUITES)
def test_the_table_says_what_the_suite_shows(row: str) -> None:
    _, listing, content_id, pin, checked, after = table("What each source does")[row]
    for name in SUITES[row]:
        cls = suite(name)
        said = {"content id": content_id, "pin": pin, "checked": checked, "after": after}
        assert said == shown(cls), name
        assert (listing == "cannot list") == (not cls.lists)


def test_every_suite_stands_in_the_table_and_every_row_has_one() -> None:
    """A source that nobody documented, or a row that nobody tests."""
    assert table("What each source does").keys() == SUITES.keys()
    defined = set()
    for file in HERE.glob("*/test_*.py"):
        for name in re.findall(
            r"^class (Test\w*)\((\w*Suite|KnownByTime|_OnNginx)\)", file.read_text(), re.MULTILINE
        ):
            defined.add(f"{file.parent.name}.{file.stem}.{name[0]}")
    assert defined == {name for names in SUITES.values() for name in names}


def test_every_scheme_and_extra_is_on_the_page() -> None:
    places = table("Options and credentials")
    for scheme in BUILT_IN.keys() - {"file"}:
        [row] = [row for row in places if f"`{scheme}://`" in row]
        assert places[row][0] == f"`refart[{EXTRAS[scheme]}]`"
    for scheme, extra in EXTRAS.items():
        assert any(f"{scheme}://" in row and places[row][0] == f"`refart[{extra}]`" for row in places)


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("s3", s3_client.READ_OPTIONS),
        ("gs", gcs_client.DRIVER_OPTIONS),
        ("az", azure_client.DRIVER_OPTIONS),
        ("http", http_client.READ_OPTIONS),
    ],
)
def test_every_option_is_on_the_page(scheme: str, options: frozenset[str]) -> None:
    [cells] = [cells for row, cells in table("Options and credentials").items() if f"`{scheme}://`" in row]
    listed = re.findall(r"`(\w+)`", cells[1])
    assert set(listed) - {"DefaultAzureCredential"} == options


def test_every_rung_is_on_the_page_in_its_order() -> None:
    assert re.findall(r"`(\w+)`", " ".join(table("How a download is checked"))) == list(get_args(Rung))
