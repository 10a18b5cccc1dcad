"""Runs: one execution that logs and uses artifacts."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from refart import manifest, names, ops
from refart.artifact import Artifact, RunRecord, find
from refart.catalog.base import RunRow
from refart.errors import ConflictError, InvalidInputError
from refart.local import current_user

if TYPE_CHECKING:
    from refart.context import Context

DEFAULT_TYPE = "dataset"

_log = logging.getLogger("refart")


class Run(RunRecord):
    """An active run. A context manager; also finished at the end of the program by itself.

    What it logs and uses becomes the lineage graph. A program that dies by an exception leaves a `failed` run.
    """

    def __init__(
        self,
        context: Context,
        project: str,
        *,
        job_type: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Iterable[str] | None = None,
        group: str | None = None,
    ) -> None:
        run_id = secrets.token_hex(4)
        row = RunRow(
            id=run_id,
            project=names.check_name(project, "project"),
            name=_text(name, "run name") or f"run-{run_id}",
            job_type=_text(job_type, "job_type"),
            group=_text(group, "group"),
            config=names.check_metadata(config),
            tags=names.check_tags(tags),
            state="running",
            created_at=datetime.now(UTC),
            user=current_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        context.catalog.save_run(row)
        super().__init__(context, row)
        self._events = ops.openlineage.Emitter(context, row) if context.local.config.openlineage else None
        _active.add(self)

    # -- log ---------------------------------------------------------------------------------------

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
    ) -> Artifact:
        """Log a draft as a version, and return it as that version.

        The same content again makes no version and uploads nothing: `created` is False then, and `latest` and the
        aliases move to the version that has it. A local path makes an artifact of managed files, a URI
        (`s3://…`, `file://…`) one of references; `name` defaults to the last part, `type` to that of the
        collection, else `dataset`.

        Where a bucket told no version ids, a warning of the logger `refart` says so, once a bucket and process: what
        is overwritten there is gone.

        Raises `ConflictError` (another type, a file that changed since it was added), `StoreError`, `CatalogError`;
        then nothing was logged and the draft is as it was.
        """
        artifact = self._as_draft(artifact_or_path, name, type)
        request = self._request(artifact, aliases, tags)
        if artifact._draft is None:
            return self._log_again(artifact, request)
        unkept = artifact._draft.unkept
        artifact._adopt(self._context, ops.commit.log(self._context, artifact._draft, request))
        if artifact.created:
            ops.pins.warn(unkept)
        self._tell(artifact, request)
        weak = artifact.weak_count
        if artifact.created and weak:
            _log.warning(
                "%s: %s of %s entries have a weak identity (size and time, a weak ETag, or none), so that other bytes"
                " of the same size can go unnoticed; checksum='sha256' makes it strong",
                *(artifact.qualified_name, f"{weak:,}", f"{artifact.file_count:,}"),
            )
        return artifact

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Put one process's part of a version that several build together; `finish_artifact` logs it.

        `distributed_id` names the common effort (default: the run's group). The draft stays a draft.
        """
        artifact = self._as_draft(artifact_or_path, name, type)
        request = replace(
            self._request(artifact, None, None), distributed_id=self._distributed(distributed_id)
        )
        ops.parts.put_part(self._context, artifact._editable(), request)
        for version in request.inputs:  # the run that finishes does not know what the parts were made of
            self._context.catalog.record_use(self.id, version, request.at)
        return artifact

    def finish_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Iterable[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Log all parts put under `distributed_id`, and the entries of this draft, as one version.

        Raises `NotFoundError` where no part was put, `ConflictError` where two parts have other bytes at one path.
        """
        artifact = self._as_draft(artifact_or_path, name, type)
        own = artifact._editable()
        request = replace(
            self._request(artifact, aliases, None), distributed_id=self._distributed(distributed_id)
        )
        if len(own):
            ops.parts.put_part(self._context, own, request)
        merged = ops.parts.merge_parts(self._context, request, manifest.draft.Draft)
        try:
            committed = ops.commit.log(self._context, merged, request)
        finally:
            merged.close()
        self._tell(artifact._adopt(self._context, committed), request)
        return artifact

    # -- use ---------------------------------------------------------------------------------------

    def use_artifact(self, artifact_or_name: Artifact | str, type: str | None = None) -> Artifact:
        """Declare an artifact as an input of this run, and return the version.

        Takes `name`, `name:alias`, `name:v3`, `project/name:…` (no alias means `latest`) or an `Artifact`; a draft is
        logged and used in one step, any number of times. `type` is checked where it is given.
        """
        self._check_active()
        if isinstance(artifact_or_name, Artifact):
            artifact = artifact_or_name
        else:
            ref = names.parse_version_ref(artifact_or_name, self.project)
            artifact = find(self._context, ref.project, ref.name, ref.selector)
        if type is not None and artifact.type != type:
            raise InvalidInputError(f"{artifact._label()} has the type {artifact.type!r}, not {type!r}")
        self._check_workspace(artifact)
        if artifact.state == "draft":
            artifact = self.log_artifact(artifact)
        self._context.catalog.record_use(self.id, artifact._logged().key, datetime.now(UTC))
        if self._events is not None:
            self._events.used(artifact._logged())
        return artifact

    def link_artifact(
        self, artifact: Artifact, target: str, aliases: Iterable[str] | None = None
    ) -> Artifact:
        """Make a version a version of another collection too, for example `registry/name`; logs a draft first."""
        if artifact.state == "draft":
            artifact = self.log_artifact(artifact)
        return artifact.link(target, aliases)

    # -- end ---------------------------------------------------------------------------------------

    def finish(self, exit_code: int | None = None) -> None:
        """End the run: `finished`, or `failed` where `exit_code` is not 0.

        A second call changes nothing, nor does one in a forked child: the run is its parent's to end.
        """
        if self._row.state != "running" or self._row.pid != os.getpid():
            return
        state: Literal["finished", "failed"] = "failed" if exit_code else "finished"
        ended = replace(self._row, state=state, finished_at=datetime.now(UTC))
        self._context.catalog.save_run(ended)
        self._row = ended
        _active.discard(self)
        if self._events is not None:
            self._events.ended(ended)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clean = kind is None or (isinstance(error, SystemExit) and not error.code)
        self.finish(exit_code=0 if clean else 1)

    # -- private -------------------------------------------------------------------------------------

    def _as_draft(
        self, item: Artifact | str | os.PathLike[str], name: str | None, type: str | None
    ) -> Artifact:
        if isinstance(item, Artifact):
            if name is not None and name != item.name:
                raise InvalidInputError(f"the artifact is named {item.name!r}; name={name!r} contradicts it")
            if type is not None and type != item.type:
                raise InvalidInputError(
                    f"the artifact has the type {item.type!r}; type={type!r} contradicts it"
                )
            return item
        return draft_of(self._context, self.project, os.fspath(item), name, type)

    def _log_again(self, artifact: Artifact, request: ops.commit.Request) -> Artifact:
        """Log a version that is logged already: an output edge and aliases, in its own collection."""
        self._check_workspace(artifact)
        row = artifact._logged()
        if row.key.project != request.project:
            raise ConflictError(
                f"{artifact.qualified_name} belongs to another project; link_artifact makes it known here"
            )
        self._tell(artifact._adopt(self._context, ops.commit.log_again(self._context, row, request)), request)
        return artifact

    def _tell(self, artifact: Artifact, request: ops.commit.Request) -> None:
        """Send what was logged, and what it was made of, to whoever follows the run."""
        if self._events is not None:
            logged = artifact._logged()
            inputs = [key for key in request.inputs if key != logged.key]
            if inputs:
                self._events.used(*self._context.catalog.version_rows(inputs))
            self._events.logged(logged)

    def _request(
        self, artifact: Artifact, aliases: Iterable[str] | None, tags: Iterable[str] | None
    ) -> ops.commit.Request:
        self._check_active()
        self._check_workspace(artifact)
        return artifact._request(self.project, self.id, names.check_aliases(aliases), names.check_tags(tags))

    def _distributed(self, distributed_id: str | None) -> str:
        chosen = _text(distributed_id, "distributed_id") or self.group
        if not chosen:
            raise InvalidInputError(
                "several processes that build one version need a common name: pass distributed_id=, or give the runs"
                " a group"
            )
        return str(chosen)

    def _check_active(self) -> None:
        if self._row.state != "running":
            raise ConflictError(f"run {self.id} is {self._row.state}; refart.init() begins a new one")

    def _check_workspace(self, artifact: Artifact) -> None:
        other = artifact._context
        if other is not None and other.url != self._context.url:
            raise ConflictError(
                f"{artifact!r} belongs to the workspace {other.url}, this run to {self._context.url}"
            )


def new_draft(
    context: Context,
    project: str,
    name: str,
    type: str | None,
    *,
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Artifact:
    """An empty draft to be logged in this workspace, of the type that its collection has."""
    if type is None:
        known = context.catalog.collection_type(
            names.check_name(project, "project"), names.check_name(name, "artifact name")
        )
        type = known if known is not None else DEFAULT_TYPE
    artifact = Artifact(name, type, description, metadata)
    artifact._context, artifact._local = context, context.local
    return artifact


def draft_of(context: Context, project: str, source: str, name: str | None, type: str | None) -> Artifact:
    """A draft of what lies at a local path (managed files) or a URI (references), named after it by default."""
    artifact = new_draft(context, project, name if name is not None else default_name(source), type)
    if names.uri_scheme(source) is not None:
        artifact.add_reference(source)
    elif os.path.isdir(os.path.expanduser(source)):
        artifact.add_dir(source)
    else:
        artifact.add_file(source)
    return artifact


def default_name(source: str) -> str:
    """The last part of a path or URI, with what a name cannot hold replaced by `-`."""
    last = source.split("?", 1)[0].rstrip("/").rpartition("/")[2] or "data"
    if names.uri_scheme(source) is None:
        last = os.path.basename(os.path.abspath(os.path.expanduser(source))) or "data"
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in last)[
        : names.MAX_NAME_CHARS
    ]
    return clean if clean.strip(".") else "data"


def _text(value: object, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= names.MAX_NAME_CHARS or not value.isprintable():
        raise InvalidInputError(f"{what} {value!r} must be 1 to {names.MAX_NAME_CHARS} printable characters")
    return value


class _ActiveRuns:
    """Ends the runs that are still active when the program ends: `failed` where an exception ended it."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._lock = threading.Lock()
        self._hooked = False
        self._died = False
        self._pid = os.getpid()

    def add(self, run: Run) -> None:
        with self._lock:
            if self._pid != os.getpid():  # a forked child: the parent's runs are the parent's to end
                self._runs, self._pid = [], os.getpid()
            self._runs.append(run)
            if not self._hooked:
                self._hooked = True
                previous = sys.excepthook

                def hook(
                    kind: type[BaseException], error: BaseException, trace: TracebackType | None
                ) -> None:
                    self._died = True
                    previous(kind, error, trace)

                sys.excepthook = hook
                atexit.register(self.end)

    def discard(self, run: Run) -> None:
        with self._lock:
            if run in self._runs:
                self._runs.remove(run)

    @property
    def current(self) -> Run | None:
        """The run begun last that is still active."""
        return self._runs[-1] if self._runs and self._pid == os.getpid() else None

    def end(self) -> None:
        if self._pid == os.getpid():
            for run in list(self._runs):
                run.finish(exit_code=1 if self._died else 0)


_active = _ActiveRuns()


def finish(exit_code: int | None = None) -> None:
    """End the run begun last in this process; without an active run, nothing happens."""
    run = _active.current
    if run is not None:
        run.finish(exit_code)
