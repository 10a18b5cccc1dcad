"""OpenLineage events of runs: what they used and logged, told to whatever backend the client is configured for.

Off unless the configuration says `openlineage = true`. Where events go is said in the client's own ways
(`OPENLINEAGE_URL`, `openlineage.yml` …). A run never fails for them: what cannot be sent is logged once.

Names follow the naming specification (https://openlineage.io/docs/spec/naming): a prefix of S3 is `s3://bucket` and its
key, a folder of this machine `file` and its path.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from refart import __version__, names
from refart.catalog.base import RunRow, VersionRow
from refart.errors import NotInstalledError

if TYPE_CHECKING:
    from refart.context import Context

PRODUCER: Final = f"https://github.com/refart/refart/tree/v{__version__}"
NAMESPACE: Final = "OPENLINEAGE_NAMESPACE"
"""Environment variable that other integrations of OpenLineage too take the namespace of jobs from."""

State: TypeAlias = Literal["START", "RUNNING", "COMPLETE", "FAIL"]

TIMEOUT_S: Final = 2.0
"""How long a server may take for an event, unless the client is configured otherwise."""

_log = logging.getLogger("refart.openlineage")


class Name(NamedTuple):
    """What a dataset is called in OpenLineage."""

    namespace: str
    name: str


class Emitter:
    """Sends the events of one run: START now, RUNNING for each version used or logged, and the end with all of them."""

    def __init__(self, context: Context, run: RunRow) -> None:
        self._context = context
        self._run = run
        self._client: Any = None
        self._inputs: dict[Name, VersionRow | None] = {}
        self._outputs: dict[Name, VersionRow | None] = {}
        self._works = self._trying(self._begin)

    def used(self, *versions: VersionRow) -> None:
        """The run declared versions as inputs."""
        self._tell(versions, self._inputs)

    def logged(self, version: VersionRow) -> None:
        """The run logged a version."""
        self._tell([version], self._outputs)

    def ended(self, run: RunRow) -> None:
        """The run is over: COMPLETE, or FAIL."""
        state: State = "FAIL" if run.state == "failed" else "COMPLETE"
        self._works = self._works and self._trying(
            lambda: self._emit(state, self._inputs, self._outputs, run.finished_at)
        )

    def _begin(self) -> None:
        from openlineage.client import OpenLineageClient, set_producer

        set_producer(PRODUCER)
        self._client = OpenLineageClient()
        _be_brief(self._client.transport)
        self._emit("START", {}, {}, self._run.created_at)

    def _tell(self, versions: Iterable[VersionRow], known: dict[Name, VersionRow | None]) -> None:
        def tell() -> None:
            found = {name: row for version in versions for name, row in _datasets(self._context, version)}
            known.update(found)
            sides = ({}, found) if known is self._outputs else (found, {})
            self._emit("RUNNING", *sides, datetime.now(UTC))

        self._works = self._works and self._trying(tell)

    def _emit(
        self,
        state: State,
        inputs: dict[Name, VersionRow | None],
        outputs: dict[Name, VersionRow | None],
        at: datetime | None,
    ) -> None:
        from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

        run = self._run
        job = Job(os.environ.get(NAMESPACE) or "refart", f"{run.project}.{run.job_type or run.name}")
        event = RunEvent(
            eventType=RunState[state],
            eventTime=(at or datetime.now(UTC)).isoformat(),
            run=Run(run_id(run)),
            job=job,
            inputs=[InputDataset(*name, facets=_facets(row)) for name, row in inputs.items()],
            outputs=[OutputDataset(*name, facets=_facets(row)) for name, row in outputs.items()],
            producer=PRODUCER,
        )
        self._client.emit(event)

    def _trying(self, work: Callable[[], None]) -> bool:
        """False where it failed, whatever the reason: somebody else's server must not end a run."""
        try:
            work()
        except ImportError as error:
            missing = NotInstalledError.of("openlineage = true", error, extra="openlineage")
            _log.warning("%s; run %s sends no events", missing, self._run.id)
        except Exception as error:  # not shown: it may repeat the address with a key
            _log.warning(
                "an OpenLineage event could not be sent (%s); run %s goes on and sends no more",
                type(error).__name__,
                self._run.id,
            )
        else:
            return True
        return False


def _be_brief(transport: Any) -> None:
    """Let a server that is not there hold a run for one timeout: the client's own tries and pauses take up to a minute.

    Where its configuration says otherwise, that stays.
    """
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    for each in getattr(transport, "transports", [transport]):
        if isinstance(each, HttpTransport):
            usual = HttpConfig(url=each.url)
            if each.timeout == usual.timeout:
                each.timeout = TIMEOUT_S
            if hasattr(usual, "retry") and each.config.retry == usual.retry:  # the oldest clients try once
                each.config.retry = {**usual.retry, "total": 0}


def run_id(run: RunRow) -> str:
    """The UUID of a run, which OpenLineage wants: always the same one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"refart-run:{run.id}:{run.created_at.isoformat()}"))


def _facets(version: VersionRow | None) -> dict[str, Any]:
    if version is None:
        return {}
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    return {"version": DatasetVersionDatasetFacet(datasetVersion=f"v{version.key.number}")}


def _datasets(context: Context, version: VersionRow) -> list[tuple[Name, VersionRow | None]]:
    """The artifact, as a dataset with a version, and where its references lie."""
    artifact = Name(_workspace(context.url), f"{version.key.project}/{version.key.name}")
    return [(artifact, version), *((name_of(uri), None) for uri in _places(context, version))]


def _places(context: Context, version: VersionRow) -> list[str]:
    """The prefixes that a version was listed from; where it does not know, the folders of its references, of which a
    few stand for many."""
    from refart.manifest.reader import (
        Manifest,
    )  # here, since it needs pyarrow, and this module is always there
    from refart.manifest.uris import UriRanges

    manifest = Manifest.open(context.store, version.manifest.address)
    if manifest.index.roots:
        return list(dict.fromkeys(root.uri for root in manifest.index.roots))
    ranges = UriRanges()
    for page in manifest.pages():
        ranges.add(page["uri"])
    found = (first if first == last else _folder(first, last) for first, last in ranges.ranges())
    return list(dict.fromkeys(found))


def _folder(first: str, last: str) -> str:
    """The deepest folder that both lie in."""
    parts = zip(first.split("/")[:-1], last.split("/")[:-1], strict=False)
    return "/".join(left for left, _ in takewhile(lambda pair: pair[0] == pair[1], parts))


def name_of(uri: str) -> Name:
    """A URI in the words of OpenLineage."""
    scheme = names.uri_scheme(uri)
    if scheme in (None, "file"):
        return Name("file", uri.removeprefix("file://") or "/")
    authority, _, key = uri[len(scheme or "") + 3 :].partition("/")
    return Name(f"{_SCHEMES.get(scheme or '', scheme)}://{authority}", key.rstrip("/") or "/")


_SCHEMES: Final = {"s3a": "s3", "gcs": "gs"}


def _workspace(url: str) -> str:
    """The namespace of the artifacts of a workspace: its address, and no user."""
    if names.uri_scheme(url) is None:
        return f"file://{socket.gethostname()}{url}"
    parts = urlsplit(url)
    return f"postgres://{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
