"""The file system `refart://[project/]name[:version][/path]` for everything that reads by fsspec: read-only, pinned.

    pandas.read_parquet("refart://trips:v3/2026/a.parquet")
    pyarrow.dataset.dataset("trips:v3/2026", filesystem=refart.filesystem())

fsspec finds it by the entry point `fsspec.specs`; `docs/filesystem.md` shows it under pandas, Polars, DuckDB, Dask.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, NoReturn

import pyarrow.compute as pc
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem, make_instance
from fsspec.utils import isfilelike

from refart import entries, files, names
from refart.catalog.base import VersionKey, VersionRow
from refart.context import Context
from refart.entries import Entry, Page, entries_of
from refart.errors import FinalizedError, InvalidInputError, NotFoundError
from refart.manifest.folders import Level, is_folder, levels
from refart.manifest.reader import Manifest
from refart.opening import shared_context
from refart.ops.presign import presign
from refart.ops.stream import VerifiedReader, open_entry, stream
from refart.parallel import map_bounded, thread_pool
from refart.run import Run
from refart.workspace import Workspace

BLOCK_BYTES: Final = 1 << 14  # 16 KiB: lines of text are looked for in blocks of this size
"""What a file reads beyond what it is asked for, unless `block_size` says otherwise. Little, since what is read in
order is asked for in growing ranges all the same (`sources.ranged`)."""

_OF_FSSPEC: Final = frozenset(
    {"asynchronous", "batch_size", "listings_expiry_time", "loop", "max_paths", "use_listings_cache"}
)
"""Options that fsspec hands to any file system. Nothing here is listed twice, so that they have no use."""


class PathNotFoundError(NotFoundError, FileNotFoundError):
    """A path of the file system names no version, or nothing in one."""


class ReadOnlyError(FinalizedError, PermissionError):
    """A logged version cannot change, and so nothing can be written to `refart://`."""


def filesystem(
    workspace: Workspace | str | os.PathLike[str] | None = None,
    *,
    project: str | None = None,
    run: Run | str | None = None,
) -> RefartFileSystem:
    """The fsspec file system of a workspace's versions: read-only, pinned, checked where an object is read whole.

    Paths are `[project/]name[:version][/path]`, with or without `refart://`; no version means `latest`, and only names
    with a version can be followed by a path.

    - `workspace`: a `Workspace`, or the URL of one (default: that of the run, else `REFART_URL`, else the user's data
      folder). It must exist.
    - `project`: of names without one (default: `REFART_PROJECT`, else `default`).
    - `run`: a run (or its id) that every version which is read becomes an input of. Default: nothing is recorded.

    An alias is looked up once; `invalidate_cache()` looks it up again. The same arguments, in the same thread, give the
    same file system. Raises `InvalidInputError`; a workspace or version that is not there is told by what reads it.
    """
    if isinstance(run, Run) and workspace is None:
        workspace = run._context.url
    run_id = run.id if isinstance(run, Run) else run
    url = workspace.url if isinstance(workspace, Workspace) else workspace
    given: dict[str, Any] = {"workspace": None if url is None else os.fspath(url)}
    given |= {"project": project, "run": run_id}
    # fsspec tells file systems by the options that were given, and an option that was left open is none.
    return RefartFileSystem(**{name: value for name, value in given.items() if value is not None})


class RefartFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Logged versions as folders; see `filesystem` for the options.

    Files are the entries, folders follow from their paths. `open` and ranges read the pinned object; what is read from
    start to end (`cat_file`, `get_file`, a file that is read through) is compared with what was recorded, as by
    `Artifact.download`, and raises its errors. Whatever would write raises `ReadOnlyError`.

    It may be pickled, and used in forked children and by any number of threads; a copy reads the very versions that the
    aliases meant here. Its workers need the same configuration and credentials.
    """

    protocol = "refart"

    def __init__(
        self,
        *,
        workspace: str | os.PathLike[str] | None = None,
        project: str | None = None,
        run: str | None = None,
        versions: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        """`versions` tells what aliases mean: `{"project/name:latest": 3}`. Copies in other processes are made so."""
        unknown = sorted(set(options) - _OF_FSSPEC)
        if unknown:
            raise InvalidInputError(
                f"storage option {unknown[0]!r} is not one of refart://: project, run, versions, workspace"
            )
        super().__init__(**options)
        self._workspace = None if workspace is None else os.fspath(workspace)
        self._project = None if project is None else names.check_name(project, "project")
        self._run = run
        self._versions = dict(versions or {})
        self._url: str | None = None
        self._opened: dict[tuple[str, int], _Opened] = {}

    # -- versions --------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """A path without `refart://` and slashes at its ends; a bare name is that of its latest version."""
        path = super()._strip_protocol(path)
        if isinstance(path, list):
            return path
        path = path.lstrip("/")  # Dask begins the paths of every file system so; no project has an empty name
        return f"{path}:{names.LATEST}" if path and ":" not in path else path

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget what aliases meant; the next look asks the catalog again."""
        super().invalidate_cache(path)
        self._versions, self._opened = {}, {}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of it means the same versions by the same aliases, whatever was logged since."""
        known = self._known()
        options = {**self.storage_options, **({"versions": known} if known else {})}
        if self._workspace is not None and names.uri_scheme(self._workspace) is None:
            options["workspace"] = os.path.abspath(os.path.expanduser(self._workspace))
        return make_instance, (type(self), (), options)

    def _known(self) -> dict[str, int]:
        """What aliases mean in the workspace that was looked at last, as far as they were looked up."""
        known = dict(self._versions)
        for (url, _), opened in list(self._opened.items()):  # copies, since other threads may add to them
            if url == self._url:
                looked_up = list(opened.rows.items())
                known |= {str(ref): row.key.number for ref, row in looked_up if isinstance(ref.selector, str)}
        return known

    def _here(self) -> tuple[Context, _Opened]:
        """The workspace, which is that of the environment if none was named, and what is open of it in this process:
        a forked child shares with its parent only what aliases mean."""
        context = shared_context(self._workspace, create=False)
        self._url, key = context.url, (context.url, os.getpid())
        opened = self._opened.get(key)
        return context, opened if opened is not None else self._opened.setdefault(key, _Opened())

    def _at(self, path: str) -> _Place:
        """What a path names. Raises `PathNotFoundError` for no version; whether the path is in it is not looked at."""
        path = self._strip_protocol(path)
        try:
            context, opened = self._here()
            ref, inner = self._parsed(path, context)
            with opened.lock:
                if (row := opened.rows.get(ref)) is None:
                    row = opened.rows[ref] = self._look_up(context, ref)
                if (manifest := opened.manifests.get(row.key)) is None:
                    manifest = opened.manifests[row.key] = Manifest.open(context.store, row.manifest.address)
        except NotFoundError as error:
            raise PathNotFoundError(f"refart://{path}: {error}") from error
        base = path if inner is None else path[: -len(inner) - 1]
        return _Place(context, base, row, manifest, inner)

    def _parsed(self, path: str, context: Context) -> tuple[names.VersionRef, str | None]:
        try:
            return names.parse_version_uri(f"refart://{path}", self._project or context.local.config.project)
        except InvalidInputError as error:  # there is no such path, as any other file system would say
            raise NotFoundError(f"no version has such a name: {error}") from None

    def _look_up(self, context: Context, ref: names.VersionRef) -> VersionRow:
        row = context.catalog.version(ref.project, ref.name, self._known().get(str(ref), ref.selector))
        if self._run is not None:
            context.catalog.record_use(self._run, row.key, datetime.now(UTC))
        return row

    def _entry_at(self, path: str) -> tuple[_Place, Entry]:
        place = self._at(path)
        entry = place.entry()
        if entry is None:
            if place.is_folder():
                raise IsADirectoryError(f"{place.name} is a folder of {place.row.key}")
            raise place.missing()
        return place, entry

    # -- look ------------------------------------------------------------------------------------

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """`name`, `type`, `size`, `version` (what the alias meant) and `created`; of a file also `content_id`, `uri`
        and `pin`."""
        place = self._at(path)
        entry = place.entry()
        if entry is not None:
            return place.file(entry)
        if place.is_folder():
            return place.folder(place.name)
        raise place.missing()

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether there is a file or folder; an error that hides the answer is raised."""
        try:
            self.info(path)
        except PathNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """The files and folders in a folder, by name, or the file at the path. Reads what holds them and no more."""
        place = self._at(path)
        found = list(place.infos(levels(place.manifest, place.path)))
        if not found and (place.path is not None or place.row.manifest.entry_count):
            found = [self.info(path)]
        found.sort(key=lambda info: str(info["name"]))
        return found if detail else [info["name"] for info in found]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """All files at and below a path, in one pass over their part of the version; up to `maxdepth` folders deep,
        what lies deeper is skipped. Empty where the version has nothing there."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        place = self._at(path)
        if maxdepth is None:
            parts: Iterable[Level] = (Level(page, []) for page in place.manifest.pages(place.path))
            itself = None
        else:
            parts = levels(place.manifest, place.path, maxdepth)
            itself = place.entry()
        found = {} if itself is None else {place.name: place.file(itself)}
        for info in place.infos(parts, with_above=withdirs):
            if withdirs or info["type"] == "file":
                found.setdefault(info["name"], info)
        if withdirs and found.keys() - {place.name}:
            found.setdefault(place.name, place.folder(place.name))
        ordered = dict(sorted(found.items()))
        return ordered if detail else list(ordered)

    def checksum(self, path: str) -> str:
        """The content id, where it tells the bytes; else what fixes the object (its URI and pin), else the entry."""
        place, entry = self._entry_at(path)
        return entries.hash_key(entry) or entries.object_key(entry) or f"{place.row.key}/{entry.path}"

    ukey = checksum

    def created(self, path: str) -> datetime:
        """When the version was logged."""
        self.info(path)
        return self._at(path).row.created_at

    modified = created

    def sign(self, path: str, expiration: int = 3600, **kwargs: Any) -> str:
        """A URL by which anyone reads the pinned object for so many seconds; see `ArtifactEntry.presign`."""
        place, entry = self._entry_at(path)
        return presign(place.context.local, entry, expiration)

    # -- bytes -----------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> RefartFile:
        if mode != "rb":
            _refuse()
        kwargs.pop("size", None)  # of a file that was pickled: whatever is opened says it again
        place, entry = self._entry_at(path)
        return RefartFile(self, place, entry, block_size=block_size, cache_options=cache_options, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The bytes of a file, all of them (one GET; compared with what was recorded) or a range (pinned)."""
        if start is not None or end is not None:
            part: bytes = super().cat_file(path, start, end, **{"cache_type": "none", **kwargs})
            return part
        place, entry = self._entry_at(path)
        with stream(place.context.local, place.context.store, entry) as chunks:
            return b"".join(chunks)

    def cat_ranges(
        self,
        paths: list[str],
        starts: int | list[int | None] | None,
        ends: int | list[int | None] | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[bytes | Exception]:
        """Ranges of files, which are opened once each and read beside each other."""
        if max_gap is not None:
            raise NotImplementedError("max_gap")
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        begins = starts if isinstance(starts, list) else [starts] * len(paths)
        stops = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(begins) == len(stops) == len(paths):
            raise ValueError("paths, starts and ends must be as many")
        of_path = defaultdict(list)
        for number, path in enumerate(paths):
            of_path[path].append(number)

        def read(path: str) -> list[tuple[int, bytes | Exception]]:
            wanted = of_path[path]
            try:
                with self.open(path, cache_type="none", **kwargs) as file:
                    return [(n, _range(file, begins[n], stops[n])) for n in wanted]
            except Exception as error:
                if on_error != "return":
                    raise
                return [(n, error) for n in wanted]

        found: list[bytes | Exception] = [b""] * len(paths)
        threads = self._here()[0].local.config.threads
        with thread_pool(threads) as pool:
            for results in map_bounded(pool, read, of_path, window=4 * threads):
                for number, result in results:
                    found[number] = result
        return found

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **kwargs: Any,
    ) -> None:
        """Copy a file to this machine, compared with what was recorded: it appears by rename when it is right.

        An open `outfile` is written to as the bytes come; they are wrong where this raises.
        """
        outfile = lpath if outfile is None and isfilelike(lpath) else outfile
        if outfile is None and self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        place, entry = self._entry_at(rpath)
        callback.set_size(entry.size)
        with stream(place.context.local, place.context.store, entry) as chunks:
            if outfile is not None:
                _copy(chunks, outfile, callback)
                return
            folder = os.path.dirname(os.path.abspath(lpath))
            os.makedirs(folder, exist_ok=True)
            with files.temporary_file(folder) as temporary:
                _copy(chunks, temporary, callback)
                temporary.flush()
                os.replace(temporary.name, lpath)

    # -- nothing is ever written -----------------------------------------------------------------

    def _read_only(self, *_: Any, **__: Any) -> NoReturn:
        """Raises `ReadOnlyError`."""
        _refuse()

    mkdir = makedirs = mkdirs = rmdir = rm = rm_file = _rm = _read_only
    touch = pipe = pipe_file = put = put_file = copy = cp_file = mv = _read_only


class RefartFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of `RefartFileSystem`: ranges of the pinned object, by the caches of fsspec.

    Where all is read in order, the last read compares it with what was recorded, and raises before it hands over.
    """

    DEFAULT_BLOCK_SIZE = BLOCK_BYTES

    def __init__(self, fs: RefartFileSystem, place: _Place, entry: Entry, **kwargs: Any) -> None:
        self._lock = threading.Lock()
        self._reader, self._details = _reader(place.context, entry), place.file(entry)
        try:
            self._details["size"] = self._reader.seek(0, os.SEEK_END)
            super().__init__(fs, place.name, "rb", size=self._details["size"], **kwargs)
            if self.size == 0:
                self._fetch_range(0, 1)  # compares what is not there
        except BaseException:
            self._reader.close()
            raise

    def _fetch_range(self, start: int, end: int) -> bytes:
        with self._lock:  # some caches of fsspec read ahead in a thread
            self._reader.seek(start)
            parts = []
            while start < end and (part := self._reader.read(end - start)):
                parts.append(part)
                start += len(part)
            return b"".join(parts)

    def close(self) -> None:
        """Let go of the connection."""
        super().close()
        self._reader.close()


@dataclass
class _Opened:
    """What is open of one workspace in one process."""

    rows: dict[names.VersionRef, VersionRow] = field(default_factory=dict)
    manifests: dict[VersionKey, Manifest] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Place(NamedTuple):
    """What a path names: a version, or a path in it."""

    context: Context
    base: str
    """The version as the path spells it."""
    row: VersionRow
    manifest: Manifest
    path: str | None

    @property
    def name(self) -> str:
        return self.base if self.path is None else f"{self.base}/{self.path}"

    def entry(self) -> Entry | None:
        return None if self.path is None else self.manifest.get(self.path)

    def is_folder(self) -> bool:
        return self.path is None or is_folder(self.manifest, self.path)

    def missing(self) -> PathNotFoundError:
        return PathNotFoundError(f"{self.row.key} has no entry {self.path!r} and nothing below it")

    def file(self, entry: Entry) -> dict[str, Any]:
        """What is told about an entry."""
        return {
            "name": f"{self.base}/{entry.path}",
            "size": entry.size,
            "type": "file",
            "content_id": entry.content_id,
            "uri": entry.uri,
            "pin": entry.pin,
            "version": str(self.row.key),
            "created": self.row.created_at,
        }

    def folder(self, name: str) -> dict[str, Any]:
        """What is told about a folder."""
        version, created = str(self.row.key), self.row.created_at
        return {"name": name, "size": 0, "type": "directory", "version": version, "created": created}

    def infos(self, parts: Iterable[Level], *, with_above: bool = False) -> Iterator[dict[str, Any]]:
        """Files and folders; with those that they lie in, below this one, where these are not told by themselves."""
        seen: set[str] = set()
        for level in parts:
            above = _folders_of(level, self.path or "") if with_above else level.folders
            for path in above:
                if path not in seen:
                    seen.add(path)
                    yield self.folder(f"{self.base}/{path}")
            yield from map(self.file, entries_of(level.entries))


def _folders_of(level: Level, top: str) -> set[str]:
    """The folders of a level and all that lie between them, or an entry, and `top`."""
    found = set(level.folders) | set(_parents(level.entries))
    for path in list(found):
        while (path := path.rpartition("/")[0]) and path not in found:
            found.add(path)
    return {path for path in found if len(path) > len(top)}


def _parents(page: Page) -> list[str]:
    """The folders that the entries of a page lie in."""
    paths = page["path"].filter(pc.match_substring(page["path"], "/"))
    return pc.replace_substring_regex(paths, "/[^/]*$", "").unique().to_pylist()  # type: ignore[no-any-return]


def _reader(context: Context, entry: Entry) -> VerifiedReader:
    """The bytes of an entry, unbuffered. Of one without a recorded size, what the server says is its end."""
    if entry.size is None:
        with open_entry(context, entry) as file:
            entry = replace(entry, size=file.seek(0, os.SEEK_END))
    reader = open_entry(context, entry).detach()
    assert isinstance(reader, VerifiedReader)
    return reader


def _range(file: RefartFile, start: int | None, end: int | None) -> bytes:
    """Bytes of an open file, by the meaning that Python's slices have."""
    begin, stop, _ = slice(start, end).indices(file.size)
    file.seek(begin)
    data: bytes = file.read(max(stop - begin, 0))
    return data


def _copy(chunks: Iterable[bytes], target: Any, callback: Any) -> None:
    for chunk in chunks:
        target.write(chunk)
        callback.relative_update(len(chunk))


def _refuse() -> NoReturn:
    raise ReadOnlyError(
        "refart:// is read-only, since a logged version cannot change: new_draft() gives an editable copy"
    )
