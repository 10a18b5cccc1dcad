"""Rows of a catalog as lines of JSON, and back: what may have been written by anyone is checked field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any, Final

from refart import names
from refart.catalog.base import EdgeKind, EdgeRow, ManifestInfo, RunRow, Snapshot, VersionKey, VersionRow
from refart.errors import FormatError

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_ADDRESS: Final = re.compile(r"[0-9a-f]{64}\Z")
_RUN_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,128}\Z")
_KEY: Final = re.compile(r"([^/:]+)/([^/:]+):v(0|[1-9][0-9]{0,16})\Z")
"""One digit less than versions may have, so that there are numbers for those that follow."""
_MAX: Final = (1 << 63) - 1


def lines_of(snapshot: Snapshot) -> Iterable[str]:
    """One object a line, in one order: runs, versions, versions elsewhere, edges (`input` and `output`)."""
    for run in sorted(snapshot.runs, key=lambda run: run.id):
        yield _line("run", asdict(run))
    for row in sorted(snapshot.versions, key=lambda row: row.key):
        manifest = asdict(row.manifest)
        source = None if row.source is None else str(row.source)
        plain = {name: getattr(row, name) for name in _VERSION if name not in ("key", "manifest", "source")}
        yield _line("version", {**plain, "key": str(row.key), "manifest": manifest, "source": source})
    for key, digest in sorted(snapshot.elsewhere.items()):
        yield _line("elsewhere", {"key": str(key), "manifest_digest": digest})
    for edge in sorted(snapshot.edges, key=lambda edge: (edge.at, edge.run_id, edge.version, edge.kind)):
        yield _line(edge.kind, {"run_id": edge.run_id, "version": str(edge.version), "at": edge.at})


def _line(kind: str, record: dict[str, Any]) -> str:
    return json.dumps({"kind": kind, **record}, default=_as_json, sort_keys=True, allow_nan=False)


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def read(lines: Iterable[str]) -> Snapshot:
    """The rows, without URIs. Raises `FormatError` for a line that is not one of ours, for a row that no catalog would
    have, and for runs and versions that rows name and that are not there."""
    versions: dict[VersionKey, VersionRow] = {}
    runs: dict[str, RunRow] = {}
    edges: list[EdgeRow] = []
    elsewhere: dict[VersionKey, str] = {}
    for number, line in enumerate(lines, 1):
        where = f"line {number} of the catalog"
        try:
            record = json.loads(line)
            kind = record.pop("kind")
            if kind == "run":
                run = _run(record)
                _once(runs, run.id, run)
            elif kind == "version":
                row = _version(record)
                _once(versions, row.key, row)
            elif kind == "elsewhere":
                _expect(record, ("key", "manifest_digest"))
                _once(elsewhere, _key(record["key"]), _matching(_DIGEST, record["manifest_digest"]))
            elif kind in ("input", "output"):
                edges.append(_edge(record, kind))
            else:
                raise ValueError(f"unknown kind {str(kind)[:80]!r}")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise FormatError(f"{where}: {type(error).__name__}: {str(error)[:300]}") from None
    known = versions.keys() | elsewhere.keys()
    for row in versions.values():
        if row.created_by is not None and row.created_by not in runs:
            raise FormatError(f"{row.key} was created by run {row.created_by}, which is not there")
        if row.source is not None and row.source not in known:
            raise FormatError(f"{row.key} stands for {row.source}, which is not there")
    for edge in edges:
        if edge.run_id not in runs or edge.version not in known:
            raise FormatError(
                f"an edge joins run {edge.run_id} and {edge.version}, and one of them is not there"
            )
    return Snapshot(tuple(versions.values()), tuple(runs.values()), tuple(edges), elsewhere, {})


def renamed(snapshot: Snapshot, old: str, new: str) -> Snapshot:
    """The same in another project."""

    def key(of: VersionKey) -> VersionKey:
        return of._replace(project=new) if of.project == old else of

    return Snapshot(
        tuple(
            replace(row, key=key(row.key), source=None if row.source is None else key(row.source))
            for row in snapshot.versions
        ),
        tuple(replace(run, project=new) if run.project == old else run for run in snapshot.runs),
        tuple(replace(edge, version=key(edge.version)) for edge in snapshot.edges),
        {key(each): digest for each, digest in snapshot.elsewhere.items()},
        snapshot.uris,
    )


_VERSION: Final = tuple(field.name for field in fields(VersionRow))
_RUN: Final = tuple(field.name for field in fields(RunRow))
_MANIFEST: Final = tuple(field.name for field in fields(ManifestInfo))


def _version(record: dict[str, Any]) -> VersionRow:
    _expect(record, _VERSION)
    manifest = record["manifest"]
    _expect(manifest, _MANIFEST)
    for name in ("content_digest", "manifest_digest"):
        _matching(_DIGEST, manifest[name])
    _matching(_ADDRESS, manifest["address"])
    for name in ("entry_count", "size_bytes", "referenced_bytes", "managed_bytes"):
        _number(manifest[name])
    return VersionRow(
        key=_key(record["key"]),
        type=names.check_name(record["type"], "artifact type"),
        manifest=ManifestInfo(**manifest),
        aliases=names.check_aliases(_list(record["aliases"])),
        tags=names.check_tags(_list(record["tags"])),
        description=names.check_description(record["description"]),
        metadata=names.check_metadata(record["metadata"]),
        ttl_s=_optional(_ttl_s, record["ttl_s"]),
        created_at=_time(record["created_at"]),
        created_by=_optional(_run_id, record["created_by"]),
        source=_optional(_key, record["source"]),
        deleted_at=_optional(_time, record["deleted_at"]),
    )


def _run(record: dict[str, Any]) -> RunRow:
    _expect(record, _RUN)
    if record["state"] not in ("running", "finished", "failed"):
        raise ValueError(f"unknown state {str(record['state'])[:80]!r}")
    return RunRow(
        id=_run_id(record["id"]),
        project=names.check_name(record["project"], "project"),
        name=_text(record["name"]),
        job_type=_optional(_text, record["job_type"]),
        group=_optional(_text, record["group"]),
        config=names.check_metadata(record["config"]),
        tags=names.check_tags(_list(record["tags"])),
        state=record["state"],
        created_at=_time(record["created_at"]),
        finished_at=_optional(_time, record["finished_at"]),
        user=_optional(_text, record["user"]),
        host=_optional(_text, record["host"]),
        pid=_optional(_number, record["pid"]),
    )


def _edge(record: dict[str, Any], kind: EdgeKind) -> EdgeRow:
    _expect(record, ("run_id", "version", "at"))
    return EdgeRow(_run_id(record["run_id"]), _key(record["version"]), kind, _time(record["at"]))


def _expect(record: Any, expected: Iterable[str]) -> None:
    if not isinstance(record, dict) or record.keys() != set(expected):
        raise ValueError(f"expected the fields {', '.join(sorted(expected))}")


def _once(rows: dict[Any, Any], key: Any, row: Any) -> None:
    if key in rows:
        raise ValueError(f"{key} is there twice")
    rows[key] = row


def _key(text: Any) -> VersionKey:
    match = _KEY.match(text)
    if match is None:
        raise ValueError(f"{text[:200]!r} names no version")
    project, name = names.check_name(match[1], "project"), names.check_name(match[2], "artifact name")
    return VersionKey(project, name, int(match[3]))


def _matching(pattern: re.Pattern[str], text: Any) -> str:
    if not pattern.match(text):
        raise ValueError(f"{text[:200]!r} is not allowed")
    return str(text)


def _run_id(text: Any) -> str:
    return _matching(_RUN_ID, text)


def _text(text: Any) -> str:
    if not isinstance(text, str) or not 1 <= len(text) <= 1024 or not text.isprintable():
        raise ValueError(f"{str(text)[:200]!r} is not 1 to 1,024 printable characters")
    return text


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX:
        raise ValueError(f"{str(value)[:80]} is no whole number")
    return value


def _ttl_s(value: Any) -> int:
    if not 1 <= _number(value) <= names.MAX_TTL_S:
        raise ValueError(f"a ttl of {value} s is not 1 to {names.MAX_TTL_S} s")
    return int(value)


def _time(text: Any) -> datetime:
    """A time that every zone has a name for: the first and the last year that `datetime` knows end early in some."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    if not MINYEAR < at.year < MAXYEAR:
        raise ValueError(f"{text!r} is not in the years {MINYEAR + 1} to {MAXYEAR - 1}")
    return at.astimezone(UTC)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("expected a list")
    return value


def _optional(check: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else check(value)
