"""Which versions hold an object: found by the catalog's index, read from few shards, and never missed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from refart import Api, ops
from refart.catalog.base import Committed, VersionKey
from refart.context import Context
from refart.entries import Entry, page_of
from refart.errors import FormatError, InvalidInputError
from refart.manifest import reader
from refart.manifest.draft import Draft
from refart.manifest.shards import ShardFile
from refart.ops.commit import Request
from refart.ops.who import WhoReport, who
from refart.workspace import Workspace
from tests.lakes import Lake
from tests.places import on_every_kind


def entry(uri: str, path: str | None = None, **fields: Any) -> Entry:
    return Entry(
        path or uri.partition("://")[2], 10, **{"content_id": "md5:" + "0" * 32, "uri": uri, **fields}
    )


def log(context: Context, name: str, entries: Iterable[Entry], base: Draft | None = None) -> Committed:
    draft = base if base is not None else Draft()
    draft.add([page_of(entries)], overwrite=True)
    return ops.commit.log(context, draft, Request("lake", name, "dataset"))


def held(report: WhoReport) -> dict[str, int]:
    return {str(each.version.key): each.entry_count for each in report.holdings}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The key of each shard that is opened from now on."""
    keys: list[str] = []

    class Counted(ShardFile):
        def __init__(self, source: Any, key: str) -> None:
            keys.append(key)
            super().__init__(source, key)

    monkeypatch.setattr(reader, "ShardFile", Counted)
    return keys


def forget_index(context: Context) -> None:
    """As if an older refart had logged everything."""
    database: Any = context.catalog
    for table in ("uri_ranges", "manifest_shards", "shards", "manifests"):
        database._database.write(
            lambda connection, table=table: connection.execute(text(f"DELETE FROM {table}"))
        )


def test_an_object_is_found_with_its_pin_its_size_and_its_runs(
    refart_workspace: Workspace, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("hello")
    with refart_workspace.init(project="lake", job_type="ingest") as ingest:
        artifact = refart_workspace.draft("data", project="lake")
        artifact.add_reference(data)
        version = ingest.log_artifact(artifact)
    with refart_workspace.init(project="lake", job_type="train") as train:
        train.use_artifact(version)
    report = refart_workspace.who(data / "a")
    (found,) = report.holdings
    assert report.uri == f"file://{data}/a"
    assert (found.version.key, found.entry_count, found.size_bytes) == (VersionKey("lake", "data", 0), 1, 5)
    assert [each.path for each in found.examples] == ["a"]
    assert ([run.id for run in found.logged_by], [run.id for run in found.used_by]) == (
        [ingest.id],
        [train.id],
    )


def test_prefixes_are_whole_components_and_pins_are_counted(context: Context) -> None:
    log(
        context,
        "mixed",
        [
            entry("s3://b/data/a", pin="version:1"),
            entry("s3://b/data/b", content_id="etag:x-2"),
            entry("s3://b/data-2/c", pin="etag:y"),
            entry("s3://b/data2/d"),
            entry("s3://b/data"),
        ],
    )
    (found,) = who(context, "s3://b/data").holdings
    assert (found.entry_count, dict(found.pins)) == (3, {"version": 1, "etag": 1, "none": 1})
    assert held(who(context, "s3://b/data/")) == {"lake/mixed:v0": 3}
    assert held(who(context, "s3://b")) == {"lake/mixed:v0": 5}
    assert held(who(context, "s3a://b/data2")) == {"lake/mixed:v0": 1}, "another spelling of the scheme"
    assert held(who(context, "s3://b/dat")) == held(who(context, "gs://b/data")) == {}


def test_one_of_a_hundred_versions_is_found_by_opening_one_shard(context: Context, opened: list[str]) -> None:
    for n in range(100):
        log(context, f"n{n}", [entry(f"s3://b/{n:02}/{i}") for i in range(3)])
    opened.clear()
    report = who(context, "s3://b/42/1")
    assert held(report) == {"lake/n42:v0": 1}
    assert len(opened) == report.shards_read == 1
    assert held(who(context, "s3://other/42")) == {}
    assert len(opened) == 1


def test_a_shard_that_versions_share_is_read_once(context: Context, opened: list[str]) -> None:
    for name in ("a", "b", "c"):
        log(context, name, [entry("s3://b/x")])
    opened.clear()
    assert held(who(context, "s3://b/x")) == {f"lake/{name}:v0": 1 for name in "abc"}
    assert len(opened) == 1


def test_only_row_groups_that_may_hold_it_are_read(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    log(context, "many", [entry(f"s3://b/{n:05}") for n in range(20_000)])
    read: list[int] = []
    pages = ShardFile.pages

    def noted(self: ShardFile, groups: Any = None, **options: Any) -> Any:
        read.extend(groups)
        return pages(self, groups, **options)

    monkeypatch.setattr(ShardFile, "pages", noted)
    assert held(who(context, "s3://b/12345")) == {"lake/many:v0": 1}
    assert len(read) == 1


def test_deleted_versions_hold_nothing(context: Context) -> None:
    key = log(context, "a", [entry("s3://b/x")]).version.key
    context.catalog.delete(key, delete_aliases=True, actor="ada", at=Request("p", "n", "t").at)
    assert who(context, "s3://b/x").holdings == ()


def test_versions_from_before_the_index_are_read_once_and_never_missed(
    context: Context, opened: list[str]
) -> None:
    log(context, "a", [entry("s3://b/x"), Entry("managed", 1, "sha256:" + "0" * 64)])
    log(context, "empty", [])
    forget_index(context)
    log(context, "later", [entry("s3://b/y")])
    assert held(who(context, "s3://b")) == {"lake/a:v0": 1, "lake/later:v0": 1}
    assert context.catalog.without_uris() == []
    opened.clear()
    who(context, "s3://elsewhere/x")
    assert opened == []


def test_a_version_that_keeps_shards_from_before_the_index_is_not_missed(context: Context) -> None:
    first = log(context, "a", [entry(f"s3://b/{n:06}") for n in range(3000)])
    forget_index(context)
    base = Draft(reader.Manifest.open(context.store, first.version.manifest.address))
    log(context, "a", [], base)  # no version: nothing changed
    again = Draft(reader.Manifest.open(context.store, first.version.manifest.address))
    ops.commit.log(context, again, Request("lake", "b", "dataset"))
    assert held(who(context, "s3://b/000007")) == {"lake/a:v0": 1, "lake/b:v0": 1}


def test_a_version_that_cannot_be_read_is_an_error_not_a_miss(context: Context) -> None:
    log(context, "a", [entry("s3://b/x")])
    forget_index(context)
    manifest = next(Path(context.store.url).glob("manifests/*/*.json"))
    manifest.chmod(0o644)
    manifest.write_bytes(b"{}")
    with pytest.raises(FormatError, match="is damaged"):
        who(context, "s3://b/x")


def test_long_uris_are_found(context: Context) -> None:
    """Longer than what the index keeps."""
    uris = ["s3://b/" + "é" * 900 + end for end in "abc"]
    log(context, "a", [entry(uri, path=uri[-1]) for uri in uris])
    assert held(who(context, uris[1])) == {"lake/a:v0": 1}
    assert held(who(context, uris[1][:-1])) == {}


def test_bad_questions_are_refused(context: Context) -> None:
    with pytest.raises(InvalidInputError, match="carries credentials"):
        who(context, "https://ada:secret@host/x")
    with pytest.raises(InvalidInputError, match="must not be negative"):
        who(context, "s3://b/x", examples=-1)


NAMES = st.sampled_from(["a", "a-b", "a/b", "a/c", "b", "b/a/c", "é", "é/x", "a0", "a/"])


@given(st.lists(st.tuples(st.sampled_from(["s3://x", "s3://y"]), NAMES, NAMES), max_size=12), NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_is_found_is_what_a_look_at_every_entry_finds(
    context: Context, rows: list[tuple[str, str, str]], asked: str
) -> None:
    """Also where URIs do not follow the order of paths."""
    entries = {path.rstrip("/"): entry(f"{bucket}/{key}", path.rstrip("/")) for bucket, key, path in rows}
    version = log(context, "a", entries.values()).version
    uri = f"s3://x/{asked}".rstrip("/")
    expected = [
        e for e in entries.values() if e.uri is not None and (e.uri == uri or e.uri.startswith(uri + "/"))
    ]
    found = held(who(context, uri)).get(str(version.key), 0)
    assert found == len(expected)


@on_every_kind()
def test_who_finds_objects_wherever_they_lie(lake: Lake) -> None:
    workspace = Api()  # knows how to reach the lake
    for key in ("a/x", "a2/y"):
        lake.put(key, key.encode())
    draft = workspace.draft("data")
    draft.add_references([lake.uri_of("a/x"), lake.uri_of("a2/y")], base=lake.uri)
    with workspace.init() as run:
        run.log_artifact(draft)
    assert held(workspace.who(lake.uri_of("a"))) == {"default/data:v0": 1}
    assert held(workspace.who(lake.uri)) == {"default/data:v0": 2}
    assert held(workspace.who(lake.uri_of("a/x/z"))) == {}
