"""The store: content-addressed bytes under one URL, where refart writes managed files and manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from refart import names
from refart.errors import InvalidInputError
from refart.store.base import FORMAT, KINDS, MARKER, SUFFIXES, Store, StoredObject
from refart.store.folder import FolderStore

__all__ = [
    "FORMAT",
    "KINDS",
    "MARKER",
    "SUFFIXES",
    "FolderStore",
    "Store",
    "StoredObject",
    "open_store",
]

_PROTOCOLS: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})


def open_store(
    url: str,
    storage_options: Mapping[str, Any] | None = None,
    *,
    create: bool = True,
    single_writer: bool = False,
) -> Store:
    """Open the store at a folder (a path or `file://`), or at an fsspec URL (`s3://`, `gs://`, `az://`,
    `abfs://`).

    An empty or missing folder becomes a store where `create` is true. `storage_options` are those of the
    fsspec driver. Drivers that cannot write an object as a whole (SFTP, SMB, …) are not accepted.

    A store that is made behind a driver is first tried: the same object is created twice, and the server must
    refuse the second. Its marker records the answer. One that does not refuse holds a store only where
    `single_writer` says that no two processes write to it at the same time, whoever opens it. A marker without
    the answer (of an older refart) is taken as it is; a folder needs no trial.

    Raises `InvalidInputError` for a URL that cannot be a store or carries credentials, for a folder that
    holds other things, and for a server that ignores exclusive creation without `single_writer`;
    `NotFoundError` where there is no store and `create` is false; `FormatError` for one that a newer refart
    wrote; `PermissionDeniedError` and `StoreError` where the storage says no.
    """
    names.check_not_secret(url, "the store's URL")
    scheme = names.uri_scheme(url)
    store: Store
    if scheme == "file" or (scheme is None and "::" not in url):
        if storage_options:
            raise InvalidInputError(
                f"a store in a folder takes no storage options: {', '.join(storage_options)}"
            )
        store = FolderStore(url)
    elif scheme in _PROTOCOLS and "::" not in url:
        from refart.store.objects import ObjectStore  # here, since a folder needs no fsspec

        store = ObjectStore(url, storage_options or {})
    else:
        raise InvalidInputError(
            f"{url!r} cannot hold a store, which needs exclusive, whole writes: use a folder, or one of"
            f" {', '.join(sorted(p + '://' for p in _PROTOCOLS))}"
        )
    store.check_marker(create=create, single_writer=single_writer)
    return store
