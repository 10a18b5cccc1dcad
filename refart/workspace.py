"""Workspaces: a catalog and its store, opened from one URL."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from refart import names
from refart.artifact import Artifact, RunRecord, find, list_versions
from refart.catalog.base import AuditRow, CollectionRow, VersionFilter
from refart.catalog.sql import open_catalog
from refart.config import load
from refart.context import Context
from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from refart.local import local_side
from refart.progress import Reporter
from refart.run import Run, current_user, new_draft
from refart.store import open_store

_STORE_SETTING = "store_url"


class Workspace:
    """An open workspace: begin runs in it, and ask what it holds.

    A context manager. `Workspace.open()` opens one; `refart.init()` and `refart.Api()` share one per URL and process.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str] | None = None,
        *,
        store: str | None = None,
        create: bool = True,
        reporter: Reporter | None = None,
    ) -> Workspace:
        """Open the workspace at `url`.

        - a folder: SQLite and a store inside, nothing to start. The default is the user's data folder.
        - `postgresql://user@host/database`: bytes lie in `store` (or `REFART_STORE`), an fsspec URL such as
          `s3://bucket/refart`. The first opening records it in the catalog, later ones need not name it.

        `REFART_URL` and `url` in `config.toml` name the default. With `create=False`, a workspace that does not
        exist is `NotFoundError`. `reporter` shows the progress of long work (default: bars on a terminal, else
        nothing). Raises `CatalogError`, `StoreError`, `PermissionDeniedError`, `FormatError` (written by
        a newer refart), `InvalidInputError` (a URL of another kind, or a second store for one catalog).
        """
        context = _open_context(_checked(os.fspath(url)) if url is not None else None, store, create=create)
        if reporter is not None:
            context = replace(context, local=replace(context.local, reporter=reporter))
        return cls(context)

    @property
    def url(self) -> str:
        """The workspace's URL without any password."""
        return self._context.url

    def close(self) -> None:
        """Release the connections; runs and artifacts of this workspace must not be used afterwards."""
        _forget(self._context)
        self._context.catalog.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def init(
        self,
        project: str | None = None,
        job_type: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] | None = None,
        group: str | None = None,
    ) -> Run:
        """Begin a run in this workspace; see `refart.init`."""
        chosen = project if project is not None else self._context.local.config.project
        return Run(self._context, chosen, job_type=job_type, name=name, config=config, tags=tags, group=group)

    def draft(
        self,
        name: str,
        type: str | None = None,
        *,
        project: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """A draft to be logged here: `type` defaults to that of the collection, else `dataset`."""
        chosen = project if project is not None else self._context.local.config.project
        return new_draft(self._context, chosen, name, type, description=description, metadata=metadata)

    # -- questions -----------------------------------------------------------------------------------

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """The version that `name`, `name:alias`, `name:v3` or `project/name:…` names. Records no use of it."""
        ref = names.parse_version_ref(name, self._context.local.config.project)
        artifact = find(self._context, ref.project, ref.name, ref.selector)
        if type is not None and artifact.type != type:
            raise InvalidInputError(f"{artifact.qualified_name} has the type {artifact.type!r}, not {type!r}")
        return artifact

    def artifacts(
        self,
        name: str | None = None,
        *,
        project: str | None = None,
        type: str | None = None,
        alias: str | None = None,
        tag: str | None = None,
        metadata: Mapping[str, str | int | float | bool] | None = None,
        limit: int | None = None,
    ) -> list[Artifact]:
        """Versions, newest first. `name` may be `project/name`; `metadata` gives top-level keys and values."""
        if name is not None:
            project, name = names.parse_collection_ref(name, project or self._context.local.config.project)
        where = VersionFilter(
            project=_project(project),
            name=name,
            type=type,
            alias=alias,
            tag=tag,
            metadata=dict(metadata or {}),
        )
        return list_versions(self._context, where, _limit(limit))

    def artifact_types(self, project: str | None = None) -> list[str]:
        """The artifact types in use, sorted."""
        return sorted({row.type for row in self._context.catalog.collections(_project(project))})

    def collections(self, project: str | None = None, type: str | None = None) -> list[CollectionRow]:
        """Collections by project and name."""
        return self._context.catalog.collections(_project(project), type)

    def projects(self) -> list[str]:
        """The names of all projects, sorted."""
        return self._context.catalog.projects()

    def run(self, run_id: str) -> RunRecord:
        """A run by its id. Raises `NotFoundError`."""
        return RunRecord(self._context, self._context.catalog.run(run_id))

    def runs(self, project: str | None = None, *, limit: int | None = None) -> list[RunRecord]:
        """Runs, newest first."""
        rows = self._context.catalog.runs(_project(project), limit=_limit(limit))
        return [RunRecord(self._context, row) for row in rows]

    def audit(
        self, project: str | None = None, subject: str | None = None, *, limit: int = 100
    ) -> list[AuditRow]:
        """Who changed what, newest first; `subject` is `project/name:v3`, or `project/name` for all its versions."""
        _limit(limit)
        return self._context.catalog.audit(_project(project), subject, limit=limit)

    def __repr__(self) -> str:
        return f"<Workspace {self.url}>"


def _project(project: str | None) -> str | None:
    return None if project is None else names.check_name(project, "project")


def _limit(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise InvalidInputError(f"limit must be at least 1, or None for all, not {limit}")
    return limit


class Api(Workspace):
    """Ask about a workspace without a run: `refart.Api().artifact("name:latest")`."""

    def __init__(self, workspace: Workspace | str | os.PathLike[str] | None = None) -> None:
        context = workspace._context if isinstance(workspace, Workspace) else _shared_context(workspace)
        super().__init__(context)


def init(
    project: str | None = None,
    job_type: str | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
    group: str | None = None,
    workspace: Workspace | str | os.PathLike[str] | None = None,
) -> Run:
    """Begin a run; what it logs and uses becomes lineage. A context manager; otherwise it ends with the program.

    - `project`: where its artifacts belong (default: `REFART_PROJECT`, else `default`).
    - `job_type`, `name`, `tags`, `group`, `config`: recorded with the run. `group` also names the common effort of
      `upsert_artifact`.
    - `workspace`: a `Workspace`, or the URL of one (default: `REFART_URL`, else the user's data folder).

    Several runs may be active in one process. Raises as `Workspace.open` does.
    """
    return Api(workspace).init(project, job_type, name, config, tags, group)


_shared: dict[str, Context] = {}
_lock = threading.Lock()


def _shared_context(url: str | os.PathLike[str] | None) -> Context:
    """One open context per URL and process; settings of this machine are taken anew each time."""
    local = local_side()
    key = _checked(os.fspath(url)) if url is not None else local.config.workspace_url()
    if names.uri_scheme(key) is None:
        key = str(Path(key).expanduser().absolute())
    with _lock:
        context = _shared.get(key)
        if context is None:
            context = _shared[key] = _open_context(key, None, create=True)
    return context if context.local is local else replace(context, local=local)


def _checked(url: str) -> str:
    if not url or "\0" in url:
        raise InvalidInputError(
            f"{url!r} names no workspace: give a folder ('.' for the current one) or postgresql://…"
        )
    return url


def _forget(context: Context) -> None:
    with _lock:
        for key in [k for k, c in _shared.items() if c.catalog is context.catalog]:
            del _shared[key]


def _forget_all() -> None:
    _shared.clear()  # a forked child must not share its parent's database connections


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _open_context(url: str | None, store_url: str | None, *, create: bool) -> Context:
    config = load()
    chosen = url if url is not None else config.workspace_url()
    scheme = names.uri_scheme(chosen)
    if scheme is None or scheme == "file":
        folder = Path(chosen.removeprefix("file://")).expanduser().absolute()
        if store_url is not None:
            raise InvalidInputError(
                f"the workspace {folder} keeps its bytes inside; store= is for postgresql://"
            )
        _make_folder(folder, create=create)
        catalog = open_catalog(folder / "catalog.sqlite", create=create)
        shown, bytes_url = str(folder), str(folder / "store")
        known: str | None = bytes_url
    elif scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        catalog = open_catalog(chosen, create=create)
        shown = catalog.shown_url
        try:
            known = catalog.setting(_STORE_SETTING)
            bytes_url = _chosen_store(known, store_url or config.store, shown)
        except BaseException:
            catalog.close()
            raise
    else:
        raise InvalidInputError(
            f"a workspace is a folder or postgresql://…, not {scheme}://; data at {scheme}:// is for add_reference()"
        )
    try:
        store = open_store(
            bytes_url, config.options_for(bytes_url), create=create, single_writer=config.single_writer
        )
        if known is None:  # recorded for good, so not before it could be opened
            _check_same_store(catalog.put_setting(_STORE_SETTING, bytes_url), bytes_url, shown)
    except BaseException:
        catalog.close()
        raise
    return Context(url=shown, local=local_side(config), catalog=catalog, store=store, actor=current_user())


def _make_folder(folder: Path, *, create: bool) -> None:
    if not create and not (folder / "catalog.sqlite").exists():
        raise NotFoundError(f"there is no refart workspace in {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInputError(
            f"the workspace {folder} is a file, or lies below one; name a folder"
        ) from None
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot make the workspace {folder}: {error.strerror}") from None


def _chosen_store(known: str | None, wanted: str | None, shown: str) -> str:
    """The store of a PostgreSQL workspace: recorded by whoever opened it first, the same for all ever after."""
    if wanted is not None:
        wanted = names.check_not_secret(wanted, "the store's URL")
        if names.uri_scheme(wanted) is None:
            wanted = str(Path(wanted).expanduser().absolute())
    if known is not None:
        if wanted is not None:
            _check_same_store(known, wanted, shown)
        return known
    if wanted is None:
        raise InvalidInputError(
            f"the workspace {shown} is new and has no store yet: name one, such as store='s3://bucket/refart'"
            " or REFART_STORE=…"
        )
    return wanted


def _check_same_store(known: str, wanted: str, shown: str) -> None:
    if wanted.rstrip("/") != known.rstrip("/"):
        raise InvalidInputError(
            f"the workspace {shown} keeps its bytes in {known}, not in {wanted}; drop store="
        )
