"""The file system over every kind of place: the logged bytes, or an error."""

from __future__ import annotations

import pytest

import refart
from refart.errors import ChecksumError, ReferenceChangedError, SourceError
from refart.fs import RefartFileSystem
from tests.lakes import Lake
from tests.places import Can, on_every_kind


@on_every_kind()
def test_what_was_logged_is_read_whole_and_in_ranges(lake: Lake) -> None:
    old, new = b"the old bytes" * 10_000, b"the new bytes" * 10_000
    lake.put("a file", old)
    with refart.init() as run:
        draft = refart.Artifact("data", "dataset")
        draft.add_reference(lake.uri_of("a file"), name="below/a file")
        run.log_artifact(draft)
    RefartFileSystem.clear_instance_cache()
    fs, path = refart.filesystem(), "data:v0/below/a file"
    assert fs.find("data:v0") == [path]
    assert fs.cat_file(path) == old
    assert fs.cat_ranges([path] * 2, [100_000, 0], [100_100, 10]) == [old[100_000:100_100], old[:10]]
    with fs.open(path) as file:
        assert (file.read(10), file.seek(120_000), file.read()) == (old[:10], 120_000, old[120_000:])
    lake.put("a file", new)
    for read in (lambda: fs.cat_file(path), lambda: fs.open(path).read()):
        if lake.kind.can(Can.KEEP):
            assert read() == old
            continue
        with pytest.raises((ReferenceChangedError, ChecksumError, SourceError)):
            read()
