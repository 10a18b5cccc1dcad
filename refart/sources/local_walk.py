"""Every file below a folder: listed by several threads where the file system makes one wait."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from queue import SimpleQueue
from typing import Final, NamedTuple

from refart import files
from refart.errors import InvalidInputError, NotFoundError

STEP_ITEMS: Final = 256
"""Names that one thread reads or looks up at a time; a walk holds the results of no more than a few such steps."""


class Found(NamedTuple):
    """What lay at one path when it was looked up."""

    key: str
    """Path below the scanned folder."""
    path: str
    size: int
    mtime_ns: int
    problem: str | None
    """Why this cannot be an entry (a device, a name that is not UTF-8), as a sentence that names the file."""

    @classmethod
    def of(cls, key: str, path: str, details: os.stat_result) -> Found:
        return cls(key, path, details.st_size, details.st_mtime_ns, problem_of(path, details))


class _Folder(NamedTuple):
    key: str
    """Ends in a slash; empty for the scanned folder."""
    path: str
    identity: tuple[int, int]
    parent: _Folder | None


class _Step(NamedTuple):
    """A piece of work: begin a folder, go on reading its names, or look up names that were read."""

    folder: _Folder
    listing: os._ScandirIterator[str] | None = None
    items: Sequence[os.DirEntry[str]] | None = None


class _Answer(NamedTuple):
    found: Sequence[Found]
    folders: Sequence[_Folder]
    begun: Sequence[_Step]
    """What is left to do of the folder, to be taken from the end."""
    waited: bool
    """The file system kept the thread waiting, so that more threads would help."""


def walk(root: str, pool: Executor, *, width: int, follow_symlinks: bool) -> Generator[Found, None, None]:
    """Every file below a folder, in no particular order.

    The calling thread does the work as long as that costs nothing but processor time, as on a local disk whose
    folders are in memory. Each step that waits for the file system lets one more thread of `pool` work at the same
    time, up to `width`; each that does not, one less. Memory holds a bounded number of files, and those folders
    that were found and not yet read.

    With `follow_symlinks` a link counts as what it leads to; without, links are left out. `root` itself may be one.

    Raises `NotFoundError` for a link that leads nowhere and for what vanishes while its folder is read,
    `InvalidInputError` for a link back to a folder it lies in, `PermissionDeniedError`, `SourceError`.
    """
    base = root if root.endswith("/") else root + "/"
    folders = [_Folder("", base, _identity(stat_path(root)), None)]
    begun: list[_Step] = []
    running: dict[Future[_Answer], _Step] = {}
    done: SimpleQueue[Future[_Answer]] = SimpleQueue()
    at_once = 1
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
            if not answer.begun:  # names alone come fast, even where what they name does not
                at_once = min(at_once + 1, width) if answer.waited else max(at_once - 1, 1)
            folders += answer.folders
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
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"the name of {os.fsencode(path)!r} is not UTF-8, so no manifest can hold it: rename it"
    return None


def _next(begun: list[_Step], folders: list[_Folder]) -> _Step:
    """Folders that are begun come first, so that no more are open than steps under way."""
    return begun.pop() if begun else _Step(folders.pop())


def _close(begun: list[_Step], running: dict[Future[_Answer], _Step]) -> None:
    """Close the folders that are still open, after the steps under way."""
    for future, step in running.items():
        if future.cancel():
            begun.append(step)
        elif future.exception() is None:
            begun += future.result().begun
    for step in begun:
        if step.listing is not None:
            step.listing.close()


def _take(step: _Step, follow_symlinks: bool, at_once: int) -> _Answer:
    """Do one step, as one of `at_once` threads."""
    wall, processor = time.perf_counter(), time.thread_time()
    found, folders, begun = _do(step, follow_symlinks)
    wall, processor = time.perf_counter() - wall, time.thread_time() - processor
    # Threads wait for each other and for the caller as well: about as long as each of them works.
    return _Answer(found, folders, begun, waited=wall > (at_once + 1) * processor)


def _do(step: _Step, follow_symlinks: bool) -> tuple[list[Found], list[_Folder], list[_Step]]:
    """The files and folders that a step finds, and the steps that it leaves."""
    folder, listing, items = step
    if items is None:
        listing, items = _names(folder, listing)
        if listing is not None:  # other threads go on with the folder while one looks these names up
            return [], [], [_Step(folder, listing), _Step(folder, items=items)]
    found: list[Found] = []
    folders: list[_Folder] = []
    for item in items:
        details = _look_up(item, follow_symlinks)
        path = folder.path + item.name
        if stat.S_ISDIR(details.st_mode):
            folders.append(_below(folder, item, details))
        elif not stat.S_ISLNK(details.st_mode):
            found.append(Found.of(folder.key + item.name, path, details))
    return found, folders, []


def _names(
    folder: _Folder, listing: os._ScandirIterator[str] | None
) -> tuple[os._ScandirIterator[str] | None, list[os.DirEntry[str]]]:
    """The next names of a folder, and its listing where that may have more."""
    try:
        listing = os.scandir(folder.path) if listing is None else listing
        try:
            items = list(islice(listing, STEP_ITEMS))
        except BaseException:
            listing.close()
            raise
    except OSError as error:
        raise files.reading_error(error, folder.path) from error
    if len(items) == STEP_ITEMS:
        return listing, items
    listing.close()
    return None, items


def _look_up(item: os.DirEntry[str], follow_symlinks: bool) -> os.stat_result:
    try:
        return item.stat(follow_symlinks=follow_symlinks)
    except FileNotFoundError as error:
        if item.is_symlink():
            raise _broken_link(item.path) from error
        raise NotFoundError(
            f"{item.path!r} vanished while its folder was read; try again when nothing is removed there"
        ) from error
    except OSError as error:
        raise files.reading_error(error, item.path) from error


def _broken_link(path: str) -> NotFoundError:
    return NotFoundError(f"{path!r} is a symbolic link to {os.readlink(path)!r}, which does not exist")


def _below(parent: _Folder, item: os.DirEntry[str], details: os.stat_result) -> _Folder:
    """A folder in a folder. Only a link can lead back up: without one, inode numbers are not even looked at,
    since some network file systems give the same one twice."""
    path = parent.path + item.name
    identity = _identity(details)
    if item.is_symlink():
        above: _Folder | None = parent
        while above is not None:
            if above.identity == identity:
                raise InvalidInputError(
                    f"{path!r} is a symbolic link back to a folder it lies in; remove the link, or leave links"
                    " out with follow_symlinks=False"
                )
            above = above.parent
    return _Folder(f"{parent.key}{item.name}/", path + "/", identity, parent)


def _identity(details: os.stat_result) -> tuple[int, int]:
    return details.st_dev, details.st_ino
