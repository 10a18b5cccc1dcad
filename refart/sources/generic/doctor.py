"""Examines a place that a driver of fsspec reaches: one look, the listing of one folder, one byte of one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refart import checksums
from refart.errors import RefartError
from refart.sources.findings import Finding, ok, refused, warn
from refart.sources.generic import identity as generic_identity
from refart.sources.generic.drivers import Drivers, Lease
from refart.sources.generic.files import read_range
from refart.sources.generic.places import Place


def diagnose(drivers: Drivers, place: Place) -> Iterator[Finding]:
    """See `DiagnosableSource`."""
    try:
        with drivers.borrow(place) as lease:
            driver = drivers.driver(place.uri)
            yield ok("driver", f"{driver.__module__}.{driver.__qualname__} reaches it")
            yield from _looked(lease, place)
    except RefartError as error:
        yield refused(
            "access", error, "nothing can be read", "check the URI, the credentials and storage_options"
        )
        return
    yield warn(
        "versions",
        "drivers of fsspec pin nothing",
        "a change is noticed as far as the identity tells, but the logged bytes cannot be had again",
        "keep managed copies (add_file) of what must not be lost",
    )


def _looked(lease: Lease, place: Place) -> Iterator[Finding]:
    found = lease.look()
    if not found.is_folder:
        yield from _file(lease, place.path, found.size, found.content_ids)
        return
    infos: list[dict[str, Any]] = lease.call(lambda fs: list(fs.ls(place.path, detail=True)))
    yield ok("list", f"{len(infos):,} names lie in the folder")
    file = next((info for info in infos if info.get("type") == "file" and info.get("size")), None)
    if file is not None:
        looked = lease.look(file["name"])
        yield from _file(
            lease, file["name"], looked.size, looked.content_ids or generic_identity.of_info(file)
        )


def _file(lease: Lease, path: str, size: int | None, content_ids: tuple[str, ...]) -> Iterator[Finding]:
    try:
        lease.call(lambda fs: read_range(fs, path, 0, min(size or 1, 1)))
    except RefartError as error:
        yield refused("read", error, "references can be logged, but not read", "give read permission")
        return
    yield ok("read", "one byte of one file was read")
    best = next(iter(content_ids), checksums.NONE)
    algo = best.partition(":")[0]
    if not checksums.is_weak(best):
        yield ok("checksum", f"the driver tells the {algo} of files")
        return
    told = {"etag": "a tag", "stat": "size and modified time"}.get(algo, "nothing")
    yield warn(
        "checksum",
        f"{told} is all that the driver tells of a file",
        "the identity is weak: other bytes of the same size can go unnoticed",
        "log with checksum='sha256', which reads every byte once",
    )
