"""Workspaces: a catalog and its store, opened from one URL."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from refart import names, ops
from refart.artifact import Artifact, RunRecord, find, list_versions
from refart.catalog.base import AuditRow, CollectionRow, VersionFilter
from refart.context import Context
from refart.errors import InvalidInputError
from refart.opening import forget, open_context, shared_context
from refart.progress import Reporter
from refart.run import Run, new_draft

if TYPE_CHECKING:
    from refart.ops.interchange import ExportReport, ImportReport
    from refart.ops.who import WhoReport
    from refart.sources.findings import Finding


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
        context = open_context(None if url is None else os.fspath(url), store, create=create)
        if reporter is not None:
            context = replace(context, local=replace(context.local, reporter=reporter))
        return cls(context)

    @property
    def url(self) -> str:
        """The workspace's URL without any password."""
        return self._context.url

    def close(self) -> None:
        """Release the connections; runs and artifacts of this workspace must not be used afterwards."""
        forget(self._context)
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

    def who(self, uri: str | os.PathLike[str], *, examples: int = 5) -> WhoReport:
        """The live versions with entries at `uri` or below it, and the runs that logged and used them.

        In other words: what breaks where it is deleted.

        A prefix is one of whole path components (`data` is never `data2/`); a path of this machine is one. An index in
        the catalog names the shards that may hold such entries, and only they are read; versions that an older refart
        logged are added to it first. Nothing is asked of the source. `examples`: so many entries of each version.

        Raises `NotFoundError` for a plain path that no version holds and at which nothing lies, `InvalidInputError` for
        a `refart://` URI: a name that was mistaken must not look like something that nobody needs.
        """
        return ops.who.who(self._context, os.fspath(uri), examples=examples)

    def doctor(self, uri: str | os.PathLike[str] | None = None) -> list[Finding]:
        """What works at a place and what does not, or (without `uri`) of the workspace itself: plain sentences.

        Of a place: rights to list and read, also by version; whether old versions are kept, and which lifecycle rules
        remove them, with the versions here that point there and the day from which they may lose bytes; archived
        objects; region and clock; what identifies bytes. At most ten requests, whatever lies there. What is refused is
        a finding, no error.

        Each finding has a `level` (`ok`, `warn`, `fail`), `about`, `what`, `why` it matters and `advice`. Raises
        `InvalidInputError` for a URI that nothing here reads.
        """
        if uri is None:
            return list(ops.doctor.examine_workspace(self._context))
        return list(ops.doctor.examine(self._context.local, os.fspath(uri), self._context))

    def export_tar(
        self, what: str, file: str | os.PathLike[str], *, blobs: bool = True, overwrite: bool = False
    ) -> ExportReport:
        """Write versions into one tar file, with their labels, manifests, managed bytes, runs and lineage.

        `what` is a `PROJECT`, all versions of a `PROJECT/NAME`, or one version (`NAME:VERSION`). `blobs=False` leaves
        out the bytes of managed files; references carry none. Equal versions make equal files. The file appears when it
        is whole. `overwrite=True` puts it in place of a file or a link that is there; what the link leads to stays.
        Raises `NotFoundError`, `ConflictError` for a name that is taken, `InvalidInputError` where the file cannot be
        written, `FormatError` and `StoreError` for what cannot be read.
        """
        return ops.interchange.export_tar(self._context, what, file, blobs=blobs, overwrite=overwrite)

    def import_tar(self, file: str | os.PathLike[str], *, as_project: str | None = None) -> ImportReport:
        """Take over the versions of a file that `export_tar` wrote, under their numbers, with runs and lineage.

        Every object is checked against the digest that names it. The same file again changes nothing; versions that are
        here stay as they are, and those deleted here stay deleted (`deleted_here` of the report names them). All or
        nothing: `ConflictError` where a number is taken by another version (`as_project` imports the file's project
        under another name), `FormatError` where the file is damaged or holds anything else.
        """
        return ops.interchange.import_tar(self._context, file, as_project=as_project)

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
        context = workspace._context if isinstance(workspace, Workspace) else shared_context(workspace)
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
