"""A source of refart for files that a CSV catalogue knows: their names, where they lie, their SHA-256."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from refart import names
from refart.checksums import NONE, StreamHasher
from refart.entries import Entry, Page, page_of
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources.base import Fetched, Identify, Keep, Opened, Scan

SCHEME = "catalogue://"
PAGE_ROWS = 8_192
CHUNK_BYTES = 1 << 20  # 1 MiB


class Row(NamedTuple):
    """One line of the catalogue."""

    name: str
    path: str
    sha256: str


class CatalogueSource:
    """Reads `catalogue://name`, and `catalogue://folder` for all names below it.

    The one storage option is `file`, the catalogue: CSV with the columns `name`, `path` and `sha256`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - {"file"})
        if unknown or "file" not in options:
            said = f"not {unknown[0]!r}" if unknown else "which is missing"
            raise InvalidInputError(f"the storage option of {SCHEME} is 'file', {said}")
        self._file = Path(options["file"])

    def scan(
        self,
        uri: str,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """See `refart.sources.base.Source`. The catalogue tells hashes, so no file is read."""
        if identify == "stat":
            raise InvalidInputError(f"{uri}: checksum='stat' is for file systems; the catalogue knows hashes")
        rows, name = self._rows(), _name(uri)
        single = rows.get(name)
        folder = f"{name}/" if name and not name.endswith("/") else name
        found = [single] if single else [row for row in rows.values() if row.name.startswith(folder)]
        cut = len(name) - len(_base(name)) if single else len(folder)

        def pages() -> Iterator[Page]:
            for start in range(0, len(found), PAGE_ROWS):
                some = found[start : start + PAGE_ROWS]
                if on_page is not None:
                    on_page(len(some))
                page = page_of(_entry(row, row.name[cut:], identify) for row in some)
                yield page if keep is None else keep(page)

        return Scan(is_object=single is not None, pages=pages())

    def stat(self, uri: str) -> Entry | None:
        row = self._rows().get(_name(uri))
        return None if row is None else _entry(row, _base(row.name))

    @contextmanager
    def fetch(self, entry: Entry) -> Iterator[Fetched]:
        """What the catalogue says is compared here; whether the bytes are those, refart finds out by the hash."""
        row = self._rows().get(_name(str(entry.uri)))
        if row is None:
            raise ReferenceMissingError(f"{entry.path!r}: {entry.uri} is not in the catalogue any more")
        stated = f"sha256:{row.sha256}"
        if entry.content_id not in (NONE, stated):
            raise ReferenceChangedError(
                f"{entry.path!r}: {entry.uri} has changed: expected {entry.content_id}, found {stated}"
            )
        try:
            file = open(row.path, "rb")  # noqa: SIM115, PTH123  closed below
        except FileNotFoundError as error:
            raise ReferenceMissingError(f"{entry.path!r}: {row.path} of {entry.uri} is gone") from error
        except PermissionError as error:
            raise PermissionDeniedError(
                f"{entry.path!r}: {row.path} of {entry.uri} cannot be read"
            ) from error
        with file:
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
            yield Fetched(chunks, None, held="current", content_id=stated)

    def open(self, entry: Entry) -> Opened:
        """Ranges cannot be compared with a hash, so the file is read whole and compared first."""
        hasher, whole = StreamHasher("sha256"), io.BytesIO()
        with self.fetch(entry) as fetched:
            for chunk in fetched.chunks:
                hasher.update(chunk)
                whole.write(chunk)
        if hasher.content_id() != fetched.content_id:
            raise ReferenceChangedError(
                f"{entry.path!r}: {entry.uri} has changed: expected {fetched.content_id}, found {hasher.content_id()}"
            )
        whole.seek(0)
        return Opened(whole, held="current")

    def _rows(self) -> dict[str, Row]:
        try:
            with self._file.open(encoding="utf-8", newline="") as file:
                return {
                    row["name"]: Row(row["name"], row["path"], row["sha256"]) for row in csv.DictReader(file)
                }
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no catalogue at {self._file}") from error
        except (OSError, KeyError, ValueError) as error:
            raise SourceError(f"the catalogue {self._file} cannot be read: {error}") from error


def _name(uri: str) -> str:
    return uri[len(SCHEME) :]


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _entry(row: Row, path: str, identify: Identify = "best") -> Entry:
    content_id = NONE if identify == "none" else f"sha256:{row.sha256}"
    return Entry(names.path_from_key(path), None, content_id, SCHEME + row.name)
