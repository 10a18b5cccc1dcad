"""Workspaces: a catalog and its store behind one URL, and what can be asked of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

import refart
from refart import Api, Artifact, Workspace
from refart.errors import (
    CatalogError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RefartError,
)
from refart.opening import _shared
from refart.progress import Plain
from tests.children import good, run_python
from tests.ops.support import tree, write


@pytest.fixture(autouse=True)
def environment(refart_workspace: Workspace) -> Iterator[None]:
    """A configuration and a cache of this test; and no workspace is shared with the next."""
    yield
    for context in list(_shared.values()):
        context.catalog.close()
    _shared.clear()


def log_text(workspace: Workspace, name: str, text: str, project: str | None = None, **more: Any) -> Artifact:
    with workspace.init(project) as run:
        draft = workspace.draft(
            name, more.pop("type", None), project=project, metadata=more.pop("metadata", None)
        )
        with draft.new_file("text") as file:
            file.write(text)
        return run.log_artifact(draft, **more)


# -- a folder -----------------------------------------------------------------------------------------------


def test_a_folder_holds_catalog_and_store(tmp_path: Path) -> None:
    with Workspace.open(tmp_path / "new/deep") as workspace:
        assert workspace.url == str(tmp_path / "new/deep")
        assert repr(workspace) == f"<Workspace {tmp_path}/new/deep>"
        log_text(workspace, "a", "1")
    assert (tmp_path / "new/deep/catalog.sqlite").is_file()
    assert (tmp_path / "new/deep/store/refart-store.json").is_file()


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/", "{}/../w"])
def test_every_way_to_name_a_folder(tmp_path: Path, form: str) -> None:
    with Workspace.open(tmp_path / "w") as workspace:
        log_text(workspace, "a", "1")
    with Workspace.open(form.format(tmp_path / "w")) as again:
        assert again.artifact("a").version == "v0"


def test_the_default_is_what_the_environment_names(refart_workspace: Workspace) -> None:
    log_text(refart_workspace, "a", "1")
    with Workspace.open() as workspace:
        assert workspace.url == refart_workspace.url
        assert workspace.artifact("a").version == "v0"


@pytest.mark.parametrize("there", [False, True])
def test_without_create_nothing_is_made(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "none").mkdir()
    with pytest.raises(NotFoundError, match="there is no refart workspace in"):
        Workspace.open(tmp_path / "none", create=False)
    assert (tmp_path / "none").exists() == there
    assert not there or list((tmp_path / "none").iterdir()) == []


def test_without_create_a_workspace_opens(refart_workspace: Workspace) -> None:
    log_text(refart_workspace, "a", "1")
    with Workspace.open(refart_workspace.url, create=False) as workspace:
        assert workspace.artifact("a").version == "v0"


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_workspace(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"file": b"mine"})
    with pytest.raises(InvalidInputError, match="is a file, or lies below one"):
        Workspace.open(tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_has_its_store_inside(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="keeps its bytes inside"):
        Workspace.open(tmp_path / "w", store="s3://bucket")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("url", ["s3://bucket/x", "mysql://host/db", "https://refart.example.org"])
def test_other_urls_are_no_workspace(url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"a workspace is a folder or postgresql://…"):
        Workspace.open(url)


def test_a_catalog_that_is_damaged_or_no_catalog(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "w", {"catalog.sqlite": b"this is not a database, but long enough to be one" * 100}
    )
    before = tree(folder)
    with pytest.raises((FormatError, CatalogError)):
        Workspace.open(folder)
    assert tree(folder) == before


def test_a_store_that_a_newer_refart_wrote(tmp_path: Path) -> None:
    Workspace.open(tmp_path / "w").close()
    marker = tmp_path / "w/store/refart-store.json"
    marker.chmod(0o600)
    marker.write_text('{"format": 99}')
    with pytest.raises(FormatError, match="upgrade refart"):
        Workspace.open(tmp_path / "w")


# -- PostgreSQL -------------------------------------------------------------------------------------------------


def test_the_store_of_a_postgres_workspace_is_recorded(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match="is new and has no store yet: name one"):
        Workspace.open(postgres_url)
    with Workspace.open(postgres_url, store=str(tmp_path / "store")) as workspace:
        log_text(workspace, "a", "one")
    with Workspace.open(postgres_url) as again:
        assert Path(again.artifact("a").download(tmp_path / "root"), "text").read_text() == "one"
    with Workspace.open(postgres_url, store=f"{tmp_path}/store/"):
        pass
    with pytest.raises(
        InvalidInputError, match=rf"keeps its bytes in {tmp_path}/store, not in {tmp_path}/other"
    ):
        Workspace.open(postgres_url, store=str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    monkeypatch.setenv("REFART_STORE", str(tmp_path / "other"))
    with pytest.raises(InvalidInputError, match="drop store="):
        Workspace.open(postgres_url)


def test_the_store_may_come_from_the_environment(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFART_STORE", str(tmp_path / "store"))
    with Workspace.open(postgres_url) as workspace:
        assert log_text(workspace, "a", "1").version == "v0"
    assert (tmp_path / "store/blobs").is_dir()


def test_a_store_with_credentials_is_refused_and_not_recorded(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Workspace.open(postgres_url, store="s3://key:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)
    with Workspace.open(postgres_url, store=str(tmp_path / "store")):
        pass


def test_the_password_is_never_shown(postgres_url: str, tmp_path: Path) -> None:
    url = make_url(postgres_url).set(password="hunter2").render_as_string(hide_password=False)
    assert "hunter2" in url
    with Workspace.open(url, store=str(tmp_path / "store")) as workspace:
        artifact = log_text(workspace, "a", "1")
        shown = [
            workspace.url,
            repr(workspace),
            repr(workspace._context),
            repr(artifact),
            repr(workspace.audit()),
        ]
        with pytest.raises(InvalidInputError) as caught:
            Workspace.open(url, store=str(tmp_path / "other"))
        shown.append(str(caught.value))
    assert not any("hunter2" in text for text in shown), shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hunter2@127.0.0.1:1/refart",
        "postgresql://127.0.0.1:1/refart?password=hunter2&user=ada",
        "postgresql://ada:hunter2@127.0.0.1:port/refart",
    ],
)
def test_an_error_of_the_connection_shows_no_password(url: str) -> None:
    with pytest.raises(RefartError) as caught:
        Workspace.open(url, store="/nowhere")
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or error.__context__


# -- sharing --------------------------------------------------------------------------------------------------


def test_one_open_workspace_serves_all_runs_of_a_process(refart_workspace: Workspace, tmp_path: Path) -> None:
    url = str(tmp_path / "w")
    first, second = Api(url), Api(tmp_path / "w")
    with refart.init(workspace=url) as run:
        assert first._context.catalog is second._context.catalog is run._context.catalog
    assert Api(refart_workspace)._context is refart_workspace._context
    assert Workspace.open(url)._context.catalog is not first._context.catalog


def test_a_shared_workspace_that_was_closed_opens_anew(tmp_path: Path) -> None:
    first = Api(tmp_path / "w")
    log_text(first, "a", "1")
    first.close()
    second = Api(tmp_path / "w")
    assert second._context.catalog is not first._context.catalog
    assert second.artifact("a").version == "v0"


def test_a_shared_workspace_follows_the_settings_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Api(tmp_path / "w")
    monkeypatch.setenv("REFART_THREADS", "3")
    second = Api(tmp_path / "w")
    assert second._context.local.config.threads == 3
    assert second._context.catalog is first._context.catalog
    assert replace(second._context, local=first._context.local) == first._context


def test_a_forked_child_opens_its_own_connections(refart_workspace: Workspace) -> None:
    program = """
import os, refart
with refart.init() as run:
    for name in ("parent", "child"):
        if name == "child" and os.fork():
            os.wait()
            break
        artifact = refart.Artifact("a", "t")
        with artifact.new_file("text") as file:
            file.write(name)
        (run if name == "parent" else refart.init()).log_artifact(artifact)
"""
    good(run_python(program))
    assert [a.version for a in refart_workspace.artifacts("a")] == ["v1", "v0"]


def test_progress_goes_to_the_reporter_that_was_given(tmp_path: Path) -> None:
    stream = io.StringIO()
    with (
        Workspace.open(tmp_path / "w", reporter=Plain(stream, every_s=0)) as workspace,
        workspace.init() as run,
    ):
        draft = workspace.draft("a")
        draft.add_dir(write(tmp_path / "source", {"x": b"12"}))
        run.log_artifact(draft)
    assert "Storing files: 1 files, 2 B" in stream.getvalue()


# -- questions --------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(refart_workspace: Workspace) -> Workspace:
    log_text(refart_workspace, "cats", "1", aliases=["best"], tags=["ok"], metadata={"n": 1})
    log_text(refart_workspace, "cats", "2", tags=["ok", "new"], metadata={"n": 2, "flag": True})
    log_text(refart_workspace, "dogs", "1", type="model")
    log_text(refart_workspace, "cats", "1", project="other")
    return refart_workspace


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({}, ["other/cats:v0", "default/dogs:v0", "default/cats:v1", "default/cats:v0"]),
        ({"name": "cats"}, ["default/cats:v1", "default/cats:v0"]),
        ({"name": "other/cats"}, ["other/cats:v0"]),
        ({"name": "cats", "project": "other"}, ["other/cats:v0"]),
        ({"project": "default"}, ["default/dogs:v0", "default/cats:v1", "default/cats:v0"]),
        ({"type": "model"}, ["default/dogs:v0"]),
        ({"alias": "best"}, ["default/cats:v0"]),
        ({"tag": "ok"}, ["default/cats:v1", "default/cats:v0"]),
        ({"tag": "ok", "alias": "latest"}, ["default/cats:v1"]),
        ({"metadata": {"n": 1}}, ["default/cats:v0"]),
        ({"metadata": {"n": 2, "flag": True}}, ["default/cats:v1"]),
        ({"metadata": {"n": "1"}}, []),
        ({"limit": 2}, ["other/cats:v0", "default/dogs:v0"]),
    ],
)
def test_finding_versions(filled: Workspace, question: dict[str, Any], answer: list[str]) -> None:
    assert [a.qualified_name for a in filled.artifacts(**question)] == answer


def test_one_version(filled: Workspace) -> None:
    assert filled.artifact("cats").version == "v1"
    assert filled.artifact("cats:best").version == "v0"
    assert filled.artifact("other/cats:v0", type="dataset").project == "other"
    with pytest.raises(InvalidInputError, match="has the type 'dataset', not 'model'"):
        filled.artifact("cats", type="model")
    for name in ("never", "cats:v2", "cats:worst", "never/cats"):
        with pytest.raises(NotFoundError):
            filled.artifact(name)
    assert filled.artifact("cats").used_by() == [], "asking is no use"


def test_overviews(filled: Workspace) -> None:
    assert filled.projects() == ["default", "other"]
    assert filled.artifact_types() == ["dataset", "model"]
    assert filled.artifact_types("other") == ["dataset"]
    rows = [(row.project, row.name, row.type, row.version_count, row.latest) for row in filled.collections()]
    assert rows == [
        ("default", "cats", "dataset", 2, 1),
        ("default", "dogs", "model", 1, 0),
        ("other", "cats", "dataset", 1, 0),
    ]
    assert [row.name for row in filled.collections("default", "model")] == ["dogs"]
    assert [run.project for run in filled.runs()] == ["other", "default", "default", "default"]
    assert len(filled.runs("default", limit=2)) == 2
    assert filled.run(filled.runs()[0].id).state == "finished"
    with pytest.raises(NotFoundError):
        filled.run("never")


def test_the_audit_log(filled: Workspace) -> None:
    filled.artifact("cats:v0").delete(delete_aliases=True)
    told = filled.audit(subject="default/cats:v0")
    assert [row.action for row in told] == ["version.delete", "version.create"]
    assert told[0].actor == filled._context.actor
    assert told[1].actor in {run.id for run in filled.runs()}


def test_a_draft_has_the_type_of_its_collection(filled: Workspace) -> None:
    assert filled.draft("dogs").type == "model"
    assert filled.draft("birds").type == "dataset"
    assert filled.draft("dogs", project="other").type == "dataset"
    with pytest.raises(InvalidInputError):
        filled.draft("a/b")


def test_a_folder_that_must_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionDeniedError, match=r"cannot make the workspace .*: Permission denied"):
        Workspace.open(tmp_path / "w")


@pytest.mark.parametrize("url", ["", "a\0b"])
def test_an_empty_url_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for opened in (Workspace.open, Api, lambda url: refart.init(workspace=url)):
        with pytest.raises(InvalidInputError, match="names no workspace"):
            opened(url)
    assert tree(tmp_path / "store") == {}
    assert not (tmp_path / "catalog.sqlite").exists()


def test_questions_that_cannot_be_meant_so(filled: Workspace) -> None:
    for ask in (filled.artifacts, filled.runs, filled.audit):
        with pytest.raises(InvalidInputError, match="limit must be at least 1"):
            ask(limit=0)
    for ask in (filled.artifact_types, filled.collections, filled.runs, filled.audit):
        with pytest.raises(InvalidInputError, match="project 'team/vision' is not allowed"):
            ask("team/vision")
