"""Ask whether the bytes that a version points at can still be had, without reading them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from refart.context import Context
from refart.entries import Page
from refart.errors import PermissionDeniedError, ReferenceMissingError
from refart.manifest.reader import Manifest
from refart.ops.live import Comparison, PinState, listed
from refart.ops.select import check_prefix
from refart.ops.shards import Part, Worker, map_parts, sample_of
from refart.ops.status import PIN_STATES, StatusReport, with_pin_states


@dataclass(slots=True)
class RemoteReport:
    """Whether the recorded bytes of references can still be read, by what servers say of them. Paths are in order."""

    references: int = 0
    """References that were looked at."""
    pins: dict[PinState, int] = field(default_factory=lambda: dict.fromkeys(PIN_STATES, 0))
    """References by the state of their pin."""
    lost: list[str] = field(default_factory=list)
    """Neither the pinned write nor equal content is there, nor are the bytes in the store or the cache."""
    unverifiable: list[str] = field(default_factory=list)
    """Nothing was recorded, or is told, by which to know; `verify_bytes` may."""
    denied: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost and everything could be looked at (see `unverifiable`)."""
        return not (self.lost or self.denied)

    def check(self, label: str = "the version") -> None:
        """Raise `ReferenceMissingError` where something is lost, `PermissionDeniedError` where it may not be looked
        at."""
        if self.lost:
            raise ReferenceMissingError(
                f"{label}: the bytes of {len(self.lost):,} references are lost, such as {self.lost[0]!r}"
            )
        if self.denied:
            raise PermissionDeniedError(
                f"{label}: {len(self.denied):,} references may not be looked at, such as {self.denied[0]!r}"
            )

    def _add(self, pages: Iterable[pa.RecordBatch]) -> None:
        """Count pages of `STATUS` of what changed."""
        for page in pages:
            for state in PIN_STATES:
                self._add_state(
                    state, page.filter(pc.fill_null(pc.equal(page["pin_state"], state), False))["path"]
                )

    def _add_state(self, state: PinState, paths: pa.StringArray) -> None:
        self.pins[state] += len(paths)
        if state in ("lost", "unverifiable", "denied"):
            getattr(self, state).extend(paths.to_pylist())


def verify_remote(
    context: Context,
    manifest: Manifest,
    prefix: str | None = None,
    *,
    label: str = "the version",
    sample: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
) -> RemoteReport:
    """Ask about every reference, or about some. See `Artifact.verify_remote`."""
    check_prefix(prefix, label, manifest)
    report = RemoteReport()
    if sample is None:
        status = StatusReport(context, manifest, prefix, executor=executor)
        report._add(status)
        report.pins = status.summary.pins  # with those that did not change
    else:
        parts = sample_of(manifest.index.shards, sample, seed)
        for _, pages in map_parts(context, _looked_at, parts, executor=executor):
            report._add(pages)
        for paths in (report.lost, report.unverifiable, report.denied):
            paths.sort()
    report.references = sum(report.pins.values())
    return report


@dataclass(frozen=True, slots=True)
class _Part:
    """The entries of a part, as a comparison takes them."""

    worker: Worker
    part: Part

    def pages(self, prefix: str | None = None) -> Iterator[Page]:
        return self.worker.pages(self.part)


def _looked_at(worker: Worker, part: Part) -> list[pa.RecordBatch]:
    """The path and the state of the pin of each reference of a part, by a request for each."""
    with listed(worker.local, ()) as nothing:
        compared = Comparison(worker.local, _Part(worker, part), nothing)
        return [page.select(["path", "pin_state"]) for page in with_pin_states(worker, compared)]
