"""A store in a folder, and manifests built from plain entries."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from refart.entries import Entry, Page, entries_of, page_of
from refart.errors import NotFoundError
from refart.manifest import canonical, shards
from refart.manifest.index import KeptShard
from refart.manifest.reader import Manifest
from refart.manifest.writer import Built, write_manifest


class FolderStore:
    """Keeps shards and indexes as files; counts the shards that were opened."""

    def __init__(self, root: Path, *, in_place: bool = True) -> None:
        self.root = root
        self.in_place = in_place
        self.opened: list[str] = []

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def local_path(self, kind: str, key: str) -> str | None:
        if not self.in_place:
            return None
        self.opened.append(key)
        return str(self.path(kind, key))

    def read(self, kind: str, key: str) -> bytes:
        if kind == "shards":
            self.opened.append(key)
        try:
            return self.path(kind, key).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"{kind} {key} is missing") from None

    def write(self, pages: Iterable[Page | KeptShard]) -> Built:
        """Write a manifest and store its new parts."""
        for kind in ("shards", "manifests"):
            (self.root / kind).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root) as staging:
            built = write_manifest(pages, Path(staging))
            for shard, path in built.new_shards:
                path.replace(self.path("shards", shard.key))
        self.path("manifests", built.index.address).write_bytes(built.index.to_json())
        return built

    def manifest(self, pages: Iterable[Page | KeptShard]) -> Manifest:
        """Write a manifest and open it."""
        return Manifest.open(self, self.write(pages).index.address)


@contextmanager
def small_shards(cut_bits: int = 3, group_bits: int = 1, max_group_rows: int = 4) -> Iterator[None]:
    """Cut shards of some `2 ** cut_bits` rows in small row groups, so that few entries make many of both."""
    with (
        patch.object(canonical, "CUT_BITS", cut_bits),
        patch.object(canonical, "GROUP_BITS", group_bits),
        patch.object(shards, "MAX_GROUP_ROWS", max_group_rows),
    ):
        yield


def pages_of(entries: Iterable[Entry], page_rows: int = 5) -> list[Page]:
    """Entries, sorted by path, as pages of a few rows."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    return [page_of(ordered[at : at + page_rows]) for at in range(0, len(ordered), page_rows)]


def listed(pages: Iterable[Page]) -> list[Entry]:
    """All entries of some pages."""
    return [entry for page in pages for entry in entries_of(page)]


def reference(
    path: str, *, base: str = "s3://lake/data/", md5: str = "0" * 32, size: int | None = 1
) -> Entry:
    """A reference as listing an S3 prefix makes it."""
    return Entry(path, size, f"md5:{md5}", base + path, None)
