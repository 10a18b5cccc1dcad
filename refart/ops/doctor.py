"""Examine a place that data lies in, or the workspace itself: what works, what does not, and what will not for long."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from refart import files, names
from refart.cache import can_reflink
from refart.catalog.base import VersionFilter, VersionRow
from refart.context import Context, Local
from refart.errors import InvalidInputError, RefartError
from refart.ops.who import index
from refart.progress import format_bytes
from refart.sources.findings import SKEW_WARN_S, DiagnosableSource, Expiry, Finding, ok, refused, warn

PACKAGES: Final = (
    *("pyarrow", "fsspec", "SQLAlchemy", "botocore", "awscrt", "s3fs", "gcsfs", "google-auth", "adlfs"),
    *("azure-storage-blob", "requests", "paramiko", "webdav4", "psycopg", "obstore", "duckdb"),
)
"""What sources, stores and catalogs are made of, what makes them quick, and what answers SQL."""

NAMED: Final = 3
"""Versions that a sentence names; the finding has all."""


def examine(local: Local, uri: str, context: Context | None = None) -> Iterator[Finding]:
    """What works at `uri`. With a workspace, rules that remove old versions are held against what its versions pin."""
    if names.uri_scheme(uri) == "refart":
        raise InvalidInputError(f"{uri} lies where its version points: name such a place")
    try:
        source = local.sources.for_uri(uri)
    except InvalidInputError:
        raise
    except RefartError as error:
        yield refused(
            "driver", error, "nothing can be logged from there, nor read", "install what is missing"
        )
        return
    if not isinstance(source, DiagnosableSource):
        yield warn(
            "driver",
            f"{type(source).__name__} cannot be examined",
            "whether it lists and reads is not known",
            "log something small from there",
        )
        return
    for finding in source.diagnose(uri):
        yield (
            finding
            if finding.expiry is None or context is None
            else _held(context, uri, finding, finding.expiry)
        )


def _held(context: Context, uri: str, finding: Finding, expiry: Expiry) -> Finding:
    """The finding with the versions that the rule can take bytes from, and from when on."""
    first = max(uri, expiry.prefix, key=len)
    try:
        index(context)
        holders = context.catalog.holders(first, first + "\U0010ffff")
        keys = sorted({key for holder in holders for key in holder.versions})
        rows = context.catalog.version_rows(keys)
    except RefartError as error:
        return replace(finding, what=f"{finding.what}; which versions point there is not known: {error}")
    if not rows:
        return replace(finding, what=f"{finding.what}; no version here points there")
    expires_at = None
    when = ""
    if expiry.noncurrent_days is not None:
        expires_at = min(row.created_at for row in rows) + timedelta(days=expiry.noncurrent_days)
        when = f"; what was overwritten since may be gone from {expires_at:%Y-%m-%d} on"
    more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
    return replace(
        finding,
        what=f"{finding.what}; versions here point there: {', '.join(map(str, keys[:NAMED]))}{more}{when}",
        versions=tuple(map(str, keys)),
        expires_at=expires_at,
    )


def examine_workspace(context: Context) -> Iterator[Finding]:
    """What works of the workspace itself: catalog, store, cache, clock, packages. Leaves nothing behind."""
    yield from _catalog(context)
    yield _store(context)
    yield from _cache(context.local)
    installed = [f"{name} {found}" for name in PACKAGES if (found := _version(name)) is not None]
    yield ok("driver", ", ".join(installed))


def _catalog(context: Context) -> Iterator[Finding]:
    from refart.catalog.migrations import SCHEMA_VERSION  # here, since it needs SQLAlchemy

    try:
        newest: list[VersionRow] = context.catalog.versions(VersionFilter(), limit=1)
    except RefartError as error:
        yield refused(
            "catalog", error, "nothing can be logged or found", "check the workspace's URL and its server"
        )
        return
    yield ok("catalog", f"{context.url} answers, with schema {SCHEMA_VERSION}")
    ahead_s = (newest[0].created_at - datetime.now(UTC)).total_seconds() if newest else 0
    if ahead_s > SKEW_WARN_S:
        yield warn(
            "clock",
            f"{newest[0].key} was logged {ahead_s:,.0f} s from now: this clock is behind, or that of its writer ahead",
            "times of versions do not tell what came first",
            "set the clocks by NTP",
        )


def _store(context: Context) -> Finding:
    try:
        context.store.probe()
    except RefartError as error:
        return refused("store", error, "nothing can be logged", "make room, or give permission to write")
    if not context.store.exclusive:
        return warn(
            "store",
            f"{context.store.url} can be written, but its server ignores exclusive creation",
            "two writers at the same time could replace each other's objects",
            "let no two processes write at once, or keep the store elsewhere",
        )
    return ok("store", f"{context.store.url} can be written")


def _cache(local: Local) -> Iterator[Finding]:
    folder, bound_bytes = local.config.cache_folder(), local.config.cache_bytes
    if not bound_bytes:
        yield ok("cache", "the cache is switched off")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.temporary_file(folder):
            pass
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        yield warn(
            "cache",
            f"the cache folder {folder} cannot be written ({error.strerror})",
            "every download moves all bytes, and every file is hashed again each time",
            "set REFART_CACHE to a folder that can be written",
        )
        return
    shares = (
        "shares bytes with downloads (reflinks)"
        if can_reflink(folder)
        else "shares bytes by hard links or copies"
    )
    yield ok("cache", f"{folder} can be written, and {shares}")
    if free_bytes < bound_bytes // 10:
        yield warn(
            "cache",
            f"{format_bytes(free_bytes)} are free in {folder}, and the cache may grow to {format_bytes(bound_bytes)}",
            "a full disk makes downloads fail",
            "make room, or set REFART_CACHE_BYTES lower",
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
