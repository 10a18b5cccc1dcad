"""References of a draft whose data moved: to another prefix, after a look at what lies there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.context import Local
from refart.entries import SCHEMA, Entry, Page, page_of, prefixed
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    NotFoundError,
    ReferenceChangedError,
    ReferenceMissingError,
)
from refart.manifest.draft import Draft
from refart.manifest.roots import Root, joined
from refart.ops import live
from refart.ops.patterns import pattern_of
from refart.ops.stream import Checked, stream
from refart.parallel import map_bounded, thread_pool
from refart.sources.local.source import canonical_uri
from refart.sources.objects import pin_without_content_id

NAMED: Final = 5
"""Entries that an error names."""

_WRONG: Final = {
    "removed": "nothing lies there",
    "modified": "other bytes lie there",
    "denied": "access is denied",
}
_INCOMPARABLE: Final = (
    "the same size lies there, and nothing to compare with what was recorded: checksum='sha256' (--checksum sha256)"
    " reads it"
)


def relocate(
    local: Local, draft: Draft, label: str, old: str, new: str, *, checksum: Literal["sha256"] | None = None
) -> int:
    """Let the references below `old` point below `new`; how many. See `Artifact.relocate`."""
    if checksum not in (None, "sha256"):
        raise InvalidInputError(f"checksum must be 'sha256' or None, not {checksum!r}")
    move = _Move(prefix_of(old), prefix_of(new))
    if move.old == move.new:
        raise InvalidInputError(f"{old} and {new} are the same prefix")
    if not any(page.num_rows for page in map(move.below, draft.pages())):
        raise NotFoundError(f"{label} has no reference below {old}")
    with live.listed(local, move.listed(draft.roots)) as there:
        compared = live.Comparison(local, _Moved(draft, move), there)
        pages = _Checking(local, draft, move, reads=checksum is not None).pages(compared)
        count = len(draft.add(pages, overwrite=True))
    draft.roots = joined(tuple(move.after(draft.roots)))
    return count


class _Move:
    """From one prefix to another, by whole components."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def holds(self, uri: str) -> bool:
        return uri == self.old or uri.startswith(f"{self.old}/")

    def below(self, page: Page) -> Page:
        """The rows that move."""
        uri = page["uri"]
        rows = pc.or_(pc.equal(uri, self.old), pc.starts_with(uri, f"{self.old}/"))
        return page.filter(pc.fill_null(rows, False))

    def uris(self, uris: pa.StringArray) -> pa.StringArray:
        cut = len(self.old.encode())
        return prefixed(
            self.new, pc.binary_replace_slice(uris.cast(pa.binary()), 0, cut, b"").cast(pa.string())
        )

    def listed(self, roots: tuple[Root, ...]) -> Iterator[Root]:
        """What to list, so that the entries that move are found under their paths."""
        for root in roots:
            base = root.uri.rstrip("/")
            if self.holds(base):
                yield replace(root, uri=self.new + root.uri[len(self.old) :])
            elif self.old.startswith(f"{base}/"):
                path = names.path_from_key(self.old[len(base) + 1 :])
                yield Root(
                    self.new,
                    path if root.name is None else f"{root.name}/{path}",
                    checksum=root.checksum,
                    follow_symlinks=root.follow_symlinks,
                )

    def after(self, roots: tuple[Root, ...]) -> Iterator[Root]:
        """What the references that moved, and those that did not, are listed from. A part of what was listed with
        patterns is no root of its own: they speak of paths below the whole."""
        for root in roots:
            moved = next(self.listed((root,)), None)
            if not self.holds(root.uri.rstrip("/")):
                if moved is not None:  # what is new at the old place is none of this version any more
                    inner = self.old[len(root.uri.rstrip("/")) + 1 :]
                    yield replace(root, exclude=(*root.exclude, pattern_of(names.path_from_key(inner))))
                else:
                    yield root
                if root.include or root.exclude:
                    continue
            if moved is not None:
                yield moved


class _Moved:
    """The entries of a draft that move, as they would be afterwards; nothing is known of pins."""

    def __init__(self, draft: Draft, move: _Move) -> None:
        self._draft, self._move = draft, move

    def pages(self, prefix: str | None = None) -> Iterator[Page]:
        for page in map(self._move.below, self._draft.pages(prefix)):
            columns = dict(zip(page.schema.names, page.columns, strict=True))
            columns |= {"uri": self._move.uris(page["uri"]), "pin": pa.nulls(page.num_rows, pa.string())}
            if page.num_rows:
                yield pa.RecordBatch.from_arrays(list(columns.values()), schema=page.schema)


class _Checking:
    """Makes entries of what was found, and gathers what is wrong."""

    def __init__(self, local: Local, draft: Draft, move: _Move, *, reads: bool) -> None:
        self._local, self._draft, self._move, self._reads = local, draft, move, reads
        self._wrong: list[str] = []
        self._wrong_count = 0

    def pages(self, compared: live.Comparison) -> Iterator[Page]:
        """The entries that moved. Raises at the end, when all that is wrong is known."""
        for page in compared:
            page = page.filter(pc.not_equal(page["change"], "new"))
            good = pc.equal(page["change"], "unchanged")
            yield _found(page.filter(good))
            if good.false_count:
                yield self._looked_into(page.filter(pc.invert(good)))
        if self._wrong_count:
            more = f"; and {self._wrong_count - NAMED:,} more" if self._wrong_count > NAMED else ""
            raise ReferenceChangedError(
                f"{self._wrong_count:,} references cannot move from {self._move.old} to {self._move.new}; nothing was"
                f" changed: {'; '.join(self._wrong)}{more}"
            )

    def _looked_into(self, page: pa.RecordBatch) -> Page:
        with thread_pool(self._local.config.threads) as pool:
            window = 4 * self._local.config.threads
            outcomes = list(map_bounded(pool, self._look_into, page.to_pylist(), window=window))
        for outcome in outcomes:
            if isinstance(outcome, str):
                self._wrong_count += 1
                if len(self._wrong) < NAMED:
                    self._wrong.append(outcome)
        return page_of(outcome for outcome in outcomes if isinstance(outcome, Entry))

    def _look_into(self, row: dict[str, str | int]) -> Entry | str:
        """The entry, where reading tells that the bytes are the same; else what is wrong."""
        path, uri, state = str(row["path"]), str(row["old_uri"]), str(row["change"])
        if why := _WRONG.get(state, None if self._reads else _INCOMPARABLE):
            return f"{path!r} ({uri}): {why}"
        was = self._draft.get(path)
        assert was is not None
        size, content_id, pin = row["new_size"], str(row["new_content_id"]), row["new_pin"]
        now = Entry(path, size, content_id, uri, pin)  # type: ignore[arg-type]  # as the schema has them
        algo, _ = checksums.split(was.content_id)
        fixed = pin_without_content_id(now.content_id, now.pin)
        try:
            if checksums.can_compute(algo):
                _read(self._local, replace(now, content_id=was.content_id, pin=fixed))
                return replace(now, content_id=was.content_id, pin=fixed)
            found, expected = _read(self._local, now), _read(self._local, was)
        except (ChecksumError, ReferenceChangedError, ReferenceMissingError) as error:
            return str(error)
        if found.sha256 != expected.sha256:
            return f"{path!r} ({uri}): other bytes lie there"
        return replace(now, size=found.size_bytes, content_id=f"sha256:{found.sha256}", pin=fixed)


def _read(local: Local, entry: Entry) -> Checked:
    with stream(local, None, entry) as chunks:
        for _ in chunks:
            pass
    assert chunks.checked is not None
    return chunks.checked


def _found(page: pa.RecordBatch) -> Page:
    """The entries of unchanged rows of `COMPARED`: what was recorded of the content, where and as it lies now."""
    columns = [
        page["path"],
        pc.coalesce(page["old_size"], page["new_size"]),
        page["old_content_id"],
        page["old_uri"],
        page["new_pin"],
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def prefix_of(uri: str) -> str:
    """A URI, or a path of this machine, as what other URIs begin with: without a slash at its end. Raises
    `InvalidInputError` for one that names nothing."""
    uri = names.check_uri(uri)
    if names.uri_scheme(uri) in (None, "file"):
        uri = canonical_uri(uri)
    if not uri.partition("://")[2].strip("/"):
        raise InvalidInputError(f"{uri} is no prefix: name one, such as s3://bucket/prefix")
    return uri.rstrip("/")
