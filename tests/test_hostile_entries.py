"""Entries that a stranger made, read in every kind of place: the recorded bytes, or an error of ours."""

from __future__ import annotations

from contextlib import suppress

from refart import Workspace
from refart.entries import Entry, check_page, page_of
from refart.errors import RefartError
from refart.ops.stream import open_entry, stream
from tests.lakes import Lake
from tests.places import on_every_kind

DATA = b"what lies there"
HUGE = 2**63 - 1

CONTENT_IDS = [
    "none",
    "sha256:" + "0" * 64,
    "md5:" + "0" * 32,
    "crc64nvme:" + "0" * 16,
    "crc32c:" + "0" * 8,
    "etag:x",
    "etag:W/x",
    "etag:W/",
    "etag:é",
    "etag:\u20ac \u2028\U0001f600",
    "etag:\\",
    "etag:*",
    f"etag:{'0' * 32}-10000",
    "etag:" + "x" * 2000,
    "generation:0",
    "generation:" + "9" * 32,
    "stat:0",
    "stat:" + "9" * 20,
    "stat:-" + "9" * 20,
]

PINS = [
    "version:x",
    "version:null",
    "version:../..",
    "version:\u20ac&versionId=y",
    "version:2026-11-24T00:00:00.0000000Z",
    "version:" + "x" * 2000,
    "generation:1",
    "generation:-1",
    "generation:x&alt=json",
    "generation:" + "9" * 100,
    'etag:"',
    'etag:x", "y',
    "etag:*",
    "etag:é",
    "etag:\u20ac",
    "etag:\x85\u2028X-Injected: yes",
    "etag:W/x",
]

SIZES = [len(DATA), None, 0, len(DATA) - 1, HUGE]


def entries(uri: str) -> list[Entry]:
    return [
        *(Entry("a", size, content_id, uri) for content_id in CONTENT_IDS for size in (len(DATA), None)),
        *(
            Entry("a", size, content_id, uri, pin)
            for pin in PINS
            for content_id, size in (("none", None), ("etag:x", 15))
        ),
        *(Entry("a", size, "none", uri) for size in SIZES),
    ]


@on_every_kind()
def test_no_entry_of_a_stranger_gives_other_bytes_or_an_error_of_another_kind(lake: Lake) -> None:
    """Whatever content id, pin and size say, and whether something lies there or not."""
    lake.put("d/k", DATA)
    with Workspace.open() as workspace:
        context = workspace._context
        there, nowhere, folder = (lake.uri_of(key) for key in ("d/k", "d/k\x85%\u20ac\n", "d"))
        for entry in (*entries(there), *entries(nowhere)[::7], *entries(folder)[::7]):
            check_page(page_of([entry]), "a manifest")
            with suppress(RefartError), stream(context.local, context.store, entry) as chunks:
                assert b"".join(chunks) == DATA
                assert (entry.content_id, entry.size) in (("none", None), ("none", len(DATA)))
            with suppress(RefartError), open_entry(context, entry) as file:
                assert file.read() == DATA
                assert (entry.content_id, entry.size) in (("none", None), ("none", len(DATA)))
