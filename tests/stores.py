"""Places for stores, on every kind of storage that can hold one."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest

from refart.store import Store, open_store

PLACES = ["folder", "memory", "moto", "seaweed", "seaweed, versioned", "fake_gcs", "azurite"]
SERVERS = PLACES[3:]


@dataclass(frozen=True)
class Place:
    """Where nothing lies yet."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def open(self, **keywords: Any) -> Store:
        return open_store(self.url, self.options, **keywords)

    def fs(self) -> tuple[Any, str]:
        """A driver of its own, and the place in its words."""
        options = {"skip_instance_cache": True, "use_listings_cache": False}
        fs, root = fsspec.core.url_to_fs(self.url, **options, **self.options)
        return fs, root.rstrip("/")

    def write(self, name: str, data: bytes) -> None:
        """Put bytes there without refart."""
        fs, root = self.fs()
        path = f"{root}/{name}"
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)  # a folder needs them; buckets are there
        if fs.exists(path):
            fs.rm_file(path)  # which may be read-only
        fs.pipe_file(path, data)

    def names(self) -> set[str]:
        """What lies there."""
        fs, root = self.fs()
        return {path.removeprefix(f"{root}/") for path in fs.find(root)}


def place_on(kind: str, request: pytest.FixtureRequest) -> Place:
    """A place on a storage of `PLACES`; starts its server if need be."""
    if kind == "folder":
        return Place(str(request.getfixturevalue("tmp_path") / "store"))
    if kind == "memory":
        return Place(f"memory://{uuid.uuid4()}/store")
    if kind == "moto":
        request.getfixturevalue("s3").create_bucket(Bucket="store")
        return Place("s3://store/below/here")
    name, _, versioned = kind.partition(", ")
    server = request.getfixturevalue(name)
    there = server.container() if name == "azurite" else server.bucket(versioned=bool(versioned))
    return Place(f"{there.uri}/below/here", server.storage_options)


def key_of(data: bytes) -> str:
    """The key of a blob."""
    return hashlib.sha256(data).hexdigest()


def put(store: Store, path: Path, data: bytes) -> bool:
    """Store bytes as a file; whether they were new."""
    path.write_bytes(data)
    return store.put_file("blobs", key_of(data), path)
