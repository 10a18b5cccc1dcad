"""The four methods of a source over an object store: listed flat (`objects`), read pinned (`pinned`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial

from refart.entries import Entry
from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from refart.sources import ahead, lookup, objects, pinned
from refart.sources.base import Fetched, Held, Identify, Keep, Opened, Scan
from refart.sources.history import Past
from refart.sources.kept import Found, Listing, Several, Write, asked, which
from refart.sources.listed import Listed, Row
from refart.sources.pinned import uri_of
from refart.sources.splitting import Elsewhere, Ranged


class ObjectSource(ABC):
    """What S3, GCS and Azure have in common; a subclass says where objects are and how one is asked for."""

    readers: int = ahead.READERS
    """How many ranges of one object are read at once, where it comes slowly."""

    @abstractmethod
    def _place(self, uri: str) -> tuple[objects.Bucket, str]:
        """The bucket of a URI, and its key. Raises `InvalidInputError` for a URI without a bucket."""

    @abstractmethod
    def _getter(self, entry: Entry) -> pinned.Get:
        """The GETs of a reference."""

    @abstractmethod
    def _wanted(self, entry: Entry) -> list[tuple[pinned.Which, Held]]:
        """What to ask for, best first; see `pinned.attempts`."""

    def scan(
        self,
        uri: str,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> Scan:
        """List the object or prefix at `uri`; see `Source.scan`. No request for each object.

        With `elsewhere`, its workers list what can be listed in ranges of keys (see `ranged`).

        Where listing is denied, one request still finds a single object. Raises `InvalidInputError` also where `uri` is
        an object and a prefix of others at once.
        """
        bucket, key = self._place(uri)
        return objects.scan(
            bucket, uri, key, identify=identify, keep=keep, on_page=on_page, elsewhere=elsewhere
        )

    def scan_as_of(
        self,
        uri: str,
        at: datetime,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """See `HistorySource`. One response of the listing of all versions after another."""
        bucket, key = self._place(uri)
        past = Past(bucket, partial(self._past, uri, at))
        return objects.scan(past, uri, key, identify=identify, keep=keep, on_page=on_page)

    def _past(self, uri: str, at: datetime, prefix: str) -> Iterator[Listed]:
        """Every response of the listing of what lay under a prefix at a time, in turn; at least one."""
        raise InvalidInputError(
            f"{uri}: its server does not tell how a prefix stood at another time; as_of= is for S3 and GCS"
        )

    def ranged(self, uri: str, prefix: str) -> Ranged | None:
        """The listing of a prefix in the bucket of `uri`, in ranges of keys; None where its server has none."""
        return self._place(uri)[0].ranged(prefix)

    def stat(self, uri: str) -> Entry | None:
        """The current object at exactly `uri`, by one request; None where there is none (or no such bucket)."""
        bucket, key = self._place(uri)
        row = bucket.head(key) if key else None
        return None if row is None else objects.entry_of(row, bucket)

    def stat_many(
        self, uris: Sequence[str], pool: Executor, *, window: int
    ) -> Iterator[tuple[str, Entry | PermissionDeniedError | None]]:
        """See `ManySource`: by listings where objects lie close together, else by one request each."""
        buckets: dict[str, tuple[objects.Bucket, dict[str, str]]] = {}
        for uri in uris:
            bucket, key = self._place(uri)
            if not key:
                yield uri, None
                continue
            root = uri.removesuffix(key)
            buckets.setdefault(root, (bucket, {}))[1][key] = uri
        for bucket, keys in buckets.values():
            ranged = bucket.ranged(lookup.common(tuple(keys))) if len(keys) > lookup.FEW else None
            for key, found in lookup.rows(ranged, tuple(keys), partial(_head, bucket), pool, window):
                yield keys[key], objects.entry_of(found, bucket) if isinstance(found, Row) else found

    def pinned(self, entry: Entry) -> Entry | None:
        """See `PinnedSource`."""
        kind = (entry.pin or "").partition(":")[0]
        if kind not in ("version", "generation"):
            return None
        bucket, key = self._place(uri_of(entry))
        by_hand = bucket.write_by_hand(Row(key, entry.size or 0, entry.content_id, entry.pin))
        try:
            row = bucket.by_hand(self._place(by_hand)[1])
        except NotFoundError:
            return None
        return None if row is None else objects.entry_of(row, bucket)

    def kept(
        self, entries: Sequence[Entry], pool: Executor, *, window: int
    ) -> Iterator[tuple[Entry, bool | PermissionDeniedError]]:
        """See `KeepingSource`: by listings of versions where many lie close together, else by one request each."""
        buckets: dict[str, Several] = {}
        for entry in entries:
            _, key = self._place(uri_of(entry))
            write = Write(key, entry.pin or "")
            buckets.setdefault(uri_of(entry).removesuffix(key), {}).setdefault(write, []).append(entry)
        for root, writes in buckets.items():

            def ask(write: Write, writes: Several = writes) -> Found:
                return asked(self.pinned, writes[write][0])

            listing = self._writes(root) if len(writes) > lookup.FEW else None
            for write, found in which(listing, tuple(writes), ask, pool, window):
                for entry in writes[write]:
                    yield entry, found if isinstance(found, PermissionDeniedError) else bool(found)

    def _writes(self, root: str) -> Listing | None:
        """The listing of all writes that are kept in the bucket of a URI; None where it cannot begin at a key."""
        return None

    def fetch(self, entry: Entry) -> AbstractContextManager[Fetched]:
        """Stream the bytes of a reference as they are stored, never decoded; see `Source.fetch`.

        A body that breaks off is continued by ranged GETs of the same object, `pinned.RESUMES` times. Where a large
        object comes slowly, several such GETs at once take over (see `ahead`).
        """
        return pinned.fetch(self._getter(entry), entry, self._wanted, self.stat, readers=self.readers)

    def open(self, entry: Entry) -> Opened:
        """A seekable stream of ranged GETs that all hold the object the first one found.

        Overwritten meanwhile, it gives the pinned bytes or raises `ReferenceChangedError`, never a mix.
        """
        return pinned.open_stream(self._getter(entry), entry, self._wanted, self.stat)


def _head(bucket: objects.Bucket, key: str) -> Row | PermissionDeniedError | None:
    """One object by one request; an error of this one is none of the others."""
    try:
        return bucket.head(key)
    except PermissionDeniedError as error:
        return error
