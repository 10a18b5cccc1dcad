"""Every file below a folder: listed by several threads where the file system makes one wait."""

from __future__ import annotations

import errno
import os
import stat
import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from itertools import compress, islice
from operator import attrgetter
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeAlias, cast

from refart import files
from refart.errors import InvalidInputError, NotFoundError, RefartError
from refart.receiptblocks import Files

STEP_ITEMS: Final = 256
"""Items that one thread looks up before it sees how long that took."""

STEP_S: Final = 0.01
"""How long a thread goes on with one folder where it has to wait. What is left is for whichever thread is free."""

JUDGED_S: Final = 0.02
"""Work after which it is seen whether more threads would help, or fewer."""

PARTS: Final = 16
"""So many steps' worth of files of one folder are told of together."""

MOST_ITEMS: Final = 131_072
"""Names of one folder that are in memory; a larger folder is taken in parts."""

LONG_PATH: Final = 200
"""Characters of a folder's path above which names are looked up by their whole path: what is too long for the system to
be opened by must not become an entry."""

_Item: TypeAlias = os.DirEntry[str] | str


class Found(NamedTuple):
    """Some of what lay in one folder when it was looked up: at least one file."""

    key: str
    """Path of the folder below the scanned one: empty, or with a slash at the end."""
    files: Files
    problems: Mapping[int, str]
    """Why files, by their number, cannot be entries (a device, a name that is not UTF-8): sentences that name them."""

    def part(self, start: int, end: int) -> Found:
        problems = {i - start: problem for i, problem in self.problems.items() if start <= i < end}
        return Found(self.key, self.files.part(start, end), problems)


def alone(path: str, details: os.stat_result) -> Generator[Found, None, None]:
    """One file, as if it lay alone in its folder."""
    folder, name = os.path.split(path)
    columns = ([name], [details.st_size], [details.st_mtime_ns], [details.st_ino])
    yield Found("", Files.of(folder.rstrip("/") + "/", *columns), {})


class _Folder(NamedTuple):
    key: str
    path: str
    """Both end in a slash, but for the key of the scanned folder, which is empty."""
    identity: tuple[int, int]
    parent: _Folder | None


class _Step(NamedTuple):
    """A piece of work: begin a folder, go on listing it, or look up items that were listed."""

    folder: _Folder
    listing: os._ScandirIterator[str] | None = None
    items: Sequence[_Item] | None = None


class _Answer(NamedTuple):
    found: Sequence[Found]
    folders: Sequence[_Folder]
    begun: Sequence[_Step]
    """What is left to do of the folder, to be taken from the end."""
    wall_s: float
    processor_s: float
    """Both 0 where only names were read: they come fast, even where what they name does not."""


def walk(root: str, pool: Executor, *, width: int, follow_symlinks: bool) -> Generator[Found, None, None]:
    """Every file below a folder. Each `Found` is in the order of its names; they come in no particular order.

    The calling thread does the work as long as that costs nothing but processor time, as on a local disk whose
    folders are in memory. Steps that wait for the file system let one more thread of `pool` work at the same time, up
    to `width`; those that do not, one less. Memory holds a bounded number of files, and those folders
    that were found and not yet read.

    With `follow_symlinks` a link counts as what it leads to; without, links are left out. `root` itself may be one.
    Unfinished files of refart's own (`files.is_temporary`) are left out.

    Raises `NotFoundError` for a link that leads nowhere and for what vanishes while its folder is read,
    `InvalidInputError` for a link back to a folder it lies in, `PermissionDeniedError`, `SourceError`.
    """
    base = root if root.endswith("/") else root + "/"
    folders = [_Folder("", base, _identity(stat_path(root)), None)]
    begun: list[_Step] = []
    running: dict[Future[_Answer], _Step] = {}
    done: SimpleQueue[Future[_Answer]] = SimpleQueue()
    at_once = 1
    wall_s = processor_s = 0.0
    try:
        while begun or folders or running:
            if at_once == 1 and not running:
                answer = _take(_next(begun, folders), follow_symlinks, at_once)
            else:
                while (begun or folders) and len(running) < at_once:
                    step = _next(begun, folders)
                    future = pool.submit(_take, step, follow_symlinks, at_once)
                    running[future] = step
                    future.add_done_callback(done.put)
                future = done.get()
                del running[future]
                answer = future.result()
            wall_s, processor_s = wall_s + answer.wall_s, processor_s + answer.processor_s
            if wall_s >= JUDGED_S:
                at_once = (
                    min(at_once + 1, width) if _waited(wall_s, processor_s, at_once) else max(at_once - 1, 1)
                )
                wall_s = processor_s = 0.0
            folders += reversed(answer.folders)  # taken from the end: pages are easier to sort
            begun += answer.begun
            yield from answer.found
    finally:
        _close(begun, running)


def stat_path(path: str) -> os.stat_result:
    """What lies at a path that a person named or an entry recorded; links are followed."""
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            raise _broken_link(path) from error
        raise files.reading_error(error, path) from error


def problem_of(path: str, details: os.stat_result) -> str | None:
    """Why what lies at a path cannot be an entry; None for a regular file whose name is UTF-8."""
    if not stat.S_ISREG(details.st_mode):
        kind = {
            stat.S_IFDIR: "a folder",
            stat.S_IFSOCK: "a socket",
            stat.S_IFIFO: "a pipe (FIFO)",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
        }.get(stat.S_IFMT(details.st_mode), "no regular file")
        return f"{path!r} is {kind}: only files hold bytes that can be versioned"
    if not _is_utf8(path):
        return f"the name of {os.fsencode(path)!r} is not UTF-8, so no manifest can hold it: rename it"
    return None


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _next(begun: list[_Step], folders: list[_Folder]) -> _Step:
    """Folders that are begun come first, so that no more are open than steps under way."""
    return begun.pop() if begun else _Step(folders.pop())


def _close(begun: list[_Step], running: dict[Future[_Answer], _Step]) -> None:
    """Close the listings that are still open, after the steps under way."""
    for future, step in running.items():
        if future.cancel():
            begun.append(step)
        elif future.exception() is None:
            begun += future.result().begun
    for step in begun:
        if step.listing is not None:
            step.listing.close()


def _waited(wall_s: float, processor_s: float, at_once: int) -> bool:
    """Whether steps that took so long waited for the file system, so that more threads would help."""
    # Threads wait for each other, for the caller and for other programs as well.
    return wall_s > 2 * (at_once + 1) * processor_s


def _take(step: _Step, follow_symlinks: bool, at_once: int) -> _Answer:
    """Do one step, as one of `at_once` threads."""
    folder, listing, items = step
    if listing is not None:
        items, listing = _listed(folder, listing)
        return _Answer((), (), _steps(folder, listing, _names(items), at_once), 0.0, 0.0)
    wall_s, processor_s = time.perf_counter(), time.thread_time()
    gathered = _Gathered(folder)
    descriptor = _opened(folder)
    try:
        if items is None:
            items, listing = _listed(folder, _begun(folder, descriptor), as_entries=at_once == 1)
        if at_once > 1 and len(items) > STEP_ITEMS:
            return _Answer((), (), _steps(folder, listing, _names(items), at_once), 0.0, 0.0)
        left = list(reversed(items))
        del items  # an entry that was looked up is large
        while left:
            some = left[: -STEP_ITEMS - 1 : -1]
            del left[-STEP_ITEMS:]
            gathered.add(_names(some), _look_up(folder, descriptor, some, follow_symlinks))
            spent_s = time.perf_counter() - wall_s
            if spent_s > STEP_S and _waited(spent_s, time.thread_time() - processor_s, at_once):
                break
    except BaseException:
        if listing is not None:
            listing.close()
        raise
    finally:
        os.close(descriptor)
    begun = _steps(folder, listing, _names(left[::-1]), at_once)
    wall_s, processor_s = time.perf_counter() - wall_s, time.thread_time() - processor_s
    return _Answer(gathered.found(), gathered.folders, begun, wall_s, processor_s)


def _steps(
    folder: _Folder, listing: os._ScandirIterator[str] | None, names: Sequence[str], at_once: int
) -> list[_Step]:
    """What is left to do of a folder, for as many threads as work: the names at hand come first."""
    size = STEP_ITEMS if at_once > 1 else max(1, len(names))
    steps = [_Step(folder, items=names[start : start + size]) for start in range(0, len(names), size)]
    return steps if listing is None else [_Step(folder, listing), *steps]


def _names(items: Sequence[_Item]) -> list[str]:
    if items and isinstance(items[0], str):
        return cast("list[str]", items)
    return [entry.name for entry in cast("Sequence[os.DirEntry[str]]", items)]


def _opened(folder: _Folder) -> int:
    """A descriptor of a folder: from there, the system finds a name faster than by its whole path."""
    try:
        return os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise files.reading_error(error, folder.path) from error


def _begun(folder: _Folder, descriptor: int) -> os._ScandirIterator[str]:
    try:
        return os.scandir(descriptor)
    except OSError as error:
        raise files.reading_error(error, folder.path) from error


def _listed(
    folder: _Folder, listing: os._ScandirIterator[str], *, as_entries: bool = False
) -> tuple[Sequence[_Item], os._ScandirIterator[str] | None]:
    """The next items of a folder by name, and its listing where that may have more.

    Entries are looked up faster than names, but they are larger, and of no use once their descriptor is closed.
    """
    items: Sequence[_Item]
    try:
        some = islice(listing, MOST_ITEMS)
        items = sorted(some, key=attrgetter("name")) if as_entries else sorted(entry.name for entry in some)
    except OSError as error:
        listing.close()
        raise files.reading_error(error, folder.path) from error
    if len(items) == MOST_ITEMS:
        return _without_temporary(items), listing
    listing.close()
    return _without_temporary(items), None


def _without_temporary(items: Sequence[_Item]) -> Sequence[_Item]:
    """The items (by name) but the unfinished files of refart's own: nobody's data, and gone with who works on them."""

    def name_of(item: _Item) -> str:
        return item if isinstance(item, str) else item.name

    start = bisect_left(items, files.TEMPORARY_START, key=name_of)
    stop = start
    while stop < len(items) and name_of(items[stop]).startswith(files.TEMPORARY_START):
        stop += 1
    if start == stop:
        return items
    kept = [item for item in items[start:stop] if not files.is_temporary(name_of(item))]
    return [*items[:start], *kept, *items[stop:]]


def _look_up(
    folder: _Folder, descriptor: int, items: Sequence[_Item], follow_symlinks: bool
) -> list[os.stat_result]:
    """What lies at each item."""
    look: Callable[[Any], os.stat_result] = partial(os.DirEntry.stat, follow_symlinks=follow_symlinks)
    if len(folder.path) > LONG_PATH:
        items = [folder.path + name for name in _names(items)]
    if isinstance(items[0], str):
        look = partial(os.stat, dir_fd=descriptor, follow_symlinks=follow_symlinks)
    try:
        return list(map(look, items))
    except OSError as error:
        raise _looking_error(error, os.path.join(folder.path, error.filename)) from error


def _looking_error(error: OSError, path: str) -> RefartError:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return _broken_link(path)
        return NotFoundError(
            f"{path!r} vanished while its folder was read; try again when nothing is removed there"
        )
    return files.reading_error(error, path)


def _broken_link(path: str) -> NotFoundError:
    return NotFoundError(f"{path!r} is a symbolic link to {os.readlink(path)!r}, which does not exist")


class _Gathered:
    """What is found in one folder, step by step."""

    def __init__(self, folder: _Folder) -> None:
        self.folders: list[_Folder] = []
        self._folder = folder
        self._found: list[Found] = []
        self._parts: list[Files] = []

    def found(self) -> Sequence[Found]:
        if self._parts:
            self._found.append(Found(self._folder.key, Files.joined(self._parts), _NO_PROBLEMS))
            self._parts = []
        return self._found

    def add(self, names: list[str], details: Sequence[os.stat_result]) -> None:
        """Note the files and the folders among some names. Links are left out: one that is followed is none."""
        kinds = {stat.S_IFMT(mode) for mode in {found.st_mode for found in details}}
        if not kinds.isdisjoint((stat.S_IFDIR, stat.S_IFLNK)):
            each = list(zip(names, details, strict=True))
            self.folders += (_below(self._folder, *item) for item in each if stat.S_ISDIR(item[1].st_mode))
            kept = [not (stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)) for found in details]
            names, details = list(compress(names, kept)), list(compress(details, kept))
        if not names:
            return
        path = self._folder.path
        numbers = (
            [d.st_size for d in details],
            [d.st_mtime_ns for d in details],
            [d.st_ino for d in details],
        )
        files = Files.of(path, names, *numbers)
        if kinds - _NO_PROBLEM or not _is_utf8(path + files.names):
            told = (problem_of(path + name, found) for name, found in zip(names, details, strict=True))
            problems = {i: problem for i, problem in enumerate(told) if problem is not None}
            self.found()
            self._found.append(Found(self._folder.key, files, problems))
        else:
            self._parts.append(files)
            if len(self._parts) == PARTS:
                self.found()


_NO_PROBLEM: Final = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK))
_NO_PROBLEMS: Final[Mapping[int, str]] = {}


def _below(parent: _Folder, name: str, details: os.stat_result) -> _Folder:
    """A folder in a folder. Only a link can lead back up: inode numbers alone do not tell, since some network file
    systems give the same one twice."""
    path = parent.path + name
    identity = _identity(details)
    above: _Folder | None = parent
    while above is not None:
        if above.identity == identity and os.path.islink(path):
            raise InvalidInputError(
                f"{path!r} is a symbolic link back to a folder it lies in; remove the link, or leave links"
                " out with follow_symlinks=False"
            )
        above = above.parent
    return _Folder(f"{parent.key}{name}/", path + "/", identity, parent)


def _identity(details: os.stat_result) -> tuple[int, int]:
    return details.st_dev, details.st_ino
