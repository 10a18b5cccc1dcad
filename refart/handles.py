"""Entries in a person's hands: plain data that knows its artifact, so that it can fetch its bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

from refart.entries import Entry, page_of
from refart.errors import InvalidInputError
from refart.manifest.draft import Added
from refart.ops import download as ops_download
from refart.ops.stream import open_entry

if TYPE_CHECKING:
    from refart.artifact.core import Core


class ArtifactEntry(Entry):
    """One path of an artifact: plain data (`path`, `size`, `content_id`, `uri`, `pin`) that can fetch its bytes."""

    __slots__ = ("_artifact",)
    _artifact: Core

    @classmethod
    def _of(cls, artifact: Core, entry: Entry) -> ArtifactEntry:
        self = cls(entry.path, entry.size, entry.content_id, entry.uri, entry.pin)
        object.__setattr__(self, "_artifact", artifact)
        return self

    def ref_target(self) -> str:
        """The URI of a reference. Raises `InvalidInputError` for a managed file, which has none."""
        if self.uri is None:
            raise InvalidInputError(f"{self.path} is a managed file, not a reference; open() reads it")
        return self.uri

    def open(self) -> io.BufferedReader:
        """The entry's bytes as a seekable binary file, read from the pinned object; see `Artifact.open`."""
        return open_entry(self._artifact._logged_context(), self)

    def presign(self, expires_s: int = 3600) -> str:
        """A URL by which anyone reads this reference for `expires_s` seconds (7 days at most), without credentials.

        It names the pinned version (S3, Azure) or generation (GCS), and so gives the bytes that were logged whatever
        was written since. Where nothing of the kind is pinned, one request makes sure that what lies there is still
        what was recorded; what is written over it later is then what the URL gives. A web address is given as it is.

        No byte is checked: that is for whoever reads it. The URL is a secret; it ends earlier where the credentials do.
        Raises `InvalidInputError` for managed files, places without such URLs and credentials that cannot sign;
        `ReferenceChangedError`, `ReferenceMissingError` where what is unpinned is not there any more.
        """
        from refart.ops.presign import presign  # here, since it is rarely asked for and takes long to load

        return presign(self._artifact._logged_context().local, self, expires_s)

    def download(self, root: str | os.PathLike[str] | None = None) -> str:
        """Download this entry alone below `root` (default: the artifact's folder); returns the file's path.

        Rules and errors are those of `Artifact.download`.
        """
        context = self._artifact._logged_context()
        where = self._artifact.default_root() if root is None else root
        report = ops_download.download(context, lambda: [page_of([self])], where)
        return f"{report.root}/{self.path}"


class Entries(Sequence[ArtifactEntry]):
    """Entries that were just added: their number is known, they are read when looked at."""

    def __init__(self, artifact: Core, added: Added) -> None:
        self._artifact, self._added = artifact, added

    def __len__(self) -> int:
        return len(self._added)

    def __iter__(self) -> Iterator[ArtifactEntry]:
        return (ArtifactEntry._of(self._artifact, entry) for entry in self._added)

    @overload
    def __getitem__(self, index: int) -> ArtifactEntry: ...

    @overload
    def __getitem__(self, index: slice) -> list[ArtifactEntry]: ...

    def __getitem__(self, index: int | slice) -> ArtifactEntry | list[ArtifactEntry]:
        if isinstance(index, slice):
            return [ArtifactEntry._of(self._artifact, entry) for entry in self._added[index]]
        return ArtifactEntry._of(self._artifact, self._added[index])

    def __repr__(self) -> str:
        return f"<{len(self):,} entries>"
