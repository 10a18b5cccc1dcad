"""The download root: the one place that decides where under it a path may be written."""

from __future__ import annotations

import fcntl
import os
import stat as stat_module
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refart import files
from refart.entries import PAGE_ROWS, Page
from refart.errors import ConflictError, InvalidInputError, NotFoundError, PermissionDeniedError, RefartError

MAX_COMPONENT_BYTES = 255  # NAME_MAX of the common file systems
QUIET_S = 10.0
"""How long nobody has written to a temporary file that may be removed. Enough for a root inside of another one."""


class Root:
    """A folder that files are written to; nothing leaves it, whatever lies in it (symbolic links included)."""

    def __init__(self, folder: Path, *, folds_case: bool) -> None:
        self.folder = folder
        self.folds_case = folds_case
        """True where `A` and `a` name one file (macOS, Windows)."""
        self._is_new = False
        self._made: dict[str, bool] = {}  # folder → whether it is new
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._dead_before_s: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Say, while files are placed here, that this process does so: others then leave its unfinished files alone.

        Where nobody else says so at the beginning, the temporary files that lie here were left by processes that were
        killed; `make_parent` removes them from the folders it comes by. On file systems without locks they stay.
        """
        try:
            folder = os.open(self.folder, os.O_RDONLY)  # its locks end with the process, however that ends
        except OSError:
            yield
            return
        try:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._dead_before_s = time.time() - QUIET_S
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_SH)
            yield
        finally:
            self._dead_before_s = None
            os.close(folder)

    def make(self) -> None:
        """Create the folder, and those above it, where they are missing; raises as `open_root` does."""
        with _explained(self.folder):
            self._is_new = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, path: str) -> str:
        """Absolute target of an entry path; the path was accepted by `check_paths`."""
        return f"{self.folder}/{path}"

    def make_parent(self, target: files.StrPath) -> bool:
        """Create the folders above `target`; refuse one that is a symbolic link (it may lead outside) or a file.

        A folder that is there already is rid of dead temporary files (see `working`). Returns whether the folder is
        new: then nothing lies at a target in it, as far as this process knows.
        """
        parent = os.path.dirname(target)
        if parent not in self._made:
            with self._lock:
                self._make(Path(parent))
        return self._made[parent]

    def turn(self, target: files.StrPath) -> threading.Lock:
        """To be held while a file is created in the folder of `target` or renamed there (after `make_parent`).

        The system lets one thread at a time do that in one folder, and has the others spin, which costs as much again.
        """
        return self._turns[os.path.dirname(target)]

    def _make(self, folder: Path) -> None:
        if str(folder) in self._made:
            return
        is_new = self._is_new
        if folder != self.folder:
            self._make(folder.parent)
            try:
                folder.mkdir()
                is_new = True
            except FileExistsError:
                self._check_real(folder)
                is_new = False
        self.remove_dead(folder)
        self._turns[str(folder)] = threading.Lock()
        self._made[str(folder)] = is_new

    def remove_dead(self, folder: files.StrPath) -> None:
        """Rid a folder at or below this one of dead temporary files (see `working`)."""
        if self._dead_before_s is not None:
            files.remove_left_over(folder, self._dead_before_s)

    def _check_real(self, folder: Path) -> None:
        mode = folder.lstat().st_mode
        if stat_module.S_ISLNK(mode):
            raise ConflictError(
                f"{folder} is a symbolic link; refart writes only to real folders below the root: remove it or"
                " choose another root"
            )
        if not stat_module.S_ISDIR(mode):
            raise ConflictError(
                f"{folder} is a file where the artifact has a folder: move it away or choose another root"
            )

    def walk(self) -> Iterator[str]:
        """Relative paths of all files (and links) below the root, unsorted; links are not followed.

        Without the temporary files that a process may be working on.
        """
        for base, folders, names in os.walk(self.folder, followlinks=False):
            links = [name for name in folders if Path(base, name).is_symlink()]
            relative = os.path.relpath(base, self.folder)
            for name in names + links:
                if not files.is_temporary(name) or self._is_dead(os.path.join(base, name)):
                    yield name if relative == "." else f"{relative}/{name}"

    def _is_dead(self, temporary: str) -> bool:
        return self._dead_before_s is not None and files.is_left_over(temporary, self._dead_before_s)

    def remove(self, path: str) -> None:
        """Remove one file that `walk` found; one that is gone, or that now lies outside, is left alone.

        Raises `PermissionDeniedError` where it cannot be removed.
        """
        target = Path(self.path_of(path))
        if os.path.realpath(target.parent) != str(target.parent):
            return  # a folder on the way became a symbolic link since the walk
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise PermissionDeniedError(f"cannot remove {target}: {error.strerror}") from None

    def remove_empty_folders(self) -> None:
        """Remove folders below the root that hold nothing."""
        for base, _, _ in os.walk(self.folder, topdown=False, followlinks=False):
            if Path(base) != self.folder:
                with suppress(OSError):  # it holds something
                    os.rmdir(base)


def open_root(root: str | os.PathLike[str], *, create: bool = True, must_exist: bool = False) -> Root:
    """Open a download root, and make it where it does not exist, unless `create` is False.

    Raises `InvalidInputError` where it is a file or cannot be made, `NotFoundError` where it must exist and does not,
    `PermissionDeniedError` where that is not allowed.
    """
    if not os.fspath(root) or "\0" in os.fspath(root):
        raise InvalidInputError(
            f"{os.fspath(root)!r} cannot be a download root: name a folder, '.' for the current one"
        )
    folder = Path(root).expanduser().absolute()
    with _explained(folder):
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError(f"download root {os.fspath(root)} is a file, not a folder")
        if must_exist and not folder.exists():
            raise NotFoundError(f"folder {os.fspath(root)} does not exist; download the version first")
        folder = folder.resolve()
        opened = Root(folder, folds_case=_folds_case(folder))
    if create:
        opened.make()
    return opened


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except RefartError:
        raise
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot make the download root {folder}: {error.strerror}") from None
    except OSError as error:
        raise InvalidInputError(f"cannot make the download root {folder}: {error.strerror}") from None
    except RuntimeError:  # from Path.resolve, before Python 3.13
        raise InvalidInputError(
            f"cannot make the download root {folder}: its links go round in circles"
        ) from None


def _folds_case(folder: Path) -> bool:
    """Whether the file system takes `A` for `a`: asked of names that are there, so nothing is written."""
    for known in (folder, *folder.parents):
        swapped = known.parent / known.name.swapcase()
        if swapped != known and known.exists():
            return swapped.exists() and swapped.samefile(known)
    return False


def check_paths(pages: Callable[[], Iterable[Page]], root: Root) -> int:
    """Check that all paths can be files under `root`, before anything is written; returns how many there are.

    Refused, naming the paths: one that is a file here and a folder there (`a` and `a/b`), two that a
    case-insensitive file system takes for one, a component that is too long or that this system would split.
    `pages` is called twice, since a folder may come long after the file of its name (`a`, `a!`, `a/b`). Memory
    grows with the number of folders (and, on case-insensitive file systems, of paths).
    """
    count = 0
    folders: set[str] = set()
    folded = _Folded() if root.folds_case else None
    for page in pages():
        path = page.column("path")
        count += len(path)
        _check_components(path)
        if folded is not None:
            folded.add(path)
        for folder in _parents(path):
            while folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0] or folder
    names = pa.array(sorted(folders), pa.string())
    for page in pages() if folders else ():
        clash = page.column("path").filter(pc.is_in(page.column("path"), value_set=names))
        if len(clash):
            raise InvalidInputError(
                f"{clash[0].as_py()!r} is both a file and a folder in this version, which a file system cannot hold:"
                " leave one out with path_prefix= or exclude="
            )
    return count


def _parents(path: Any) -> Iterable[str]:
    nested = path.filter(pc.match_substring(path, "/"))
    parent = pc.replace_substring_regex(nested, r"/[^/]*$", "")
    unique: list[str] = pc.unique(parent).to_pylist()
    return unique


def _check_components(path: Any) -> None:
    # Bytes, not characters, count; RE2 runs over bytes with (?s) and \C only, so long paths are looked at one by one.
    suspects = path.filter(pc.greater(pc.binary_length(path), MAX_COMPONENT_BYTES)).to_pylist()
    reserved = path.filter(pc.match_substring_regex(path, f"(^|/){files.TEMPORARY_PATTERN}"))
    if len(reserved):
        raise InvalidInputError(
            f"{reserved[0].as_py()!r} has a name that refart gives to unfinished files; exclude= leaves it out"
        )
    for text in suspects:
        for part in text.split("/"):
            if len(part.encode()) > MAX_COMPONENT_BYTES:
                raise InvalidInputError(
                    f"{text[:80]!r}…: a component of {len(part.encode())} bytes cannot be a file name (at most"
                    f" {MAX_COMPONENT_BYTES}); exclude= leaves it out"
                )
    if os.sep != "/":
        odd = path.filter(pc.match_substring_regex(path, r'[\\:*?"<>|]|[ .](/|$)'))
        if len(odd):
            raise InvalidInputError(
                f"{odd[0].as_py()!r} cannot be a file name on this system; exclude= leaves it out"
            )


class _Folded:
    """Finds paths that differ only by case or Unicode form, across pages."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def add(self, path: Any) -> None:
        folded = pc.utf8_lower(pc.utf8_normalize(path, form="NFC")).to_pylist()
        for text, key in zip(path.to_pylist(), folded, strict=True):
            other = self._seen.setdefault(key, text)
            if other != text:
                raise InvalidInputError(
                    f"{other!r} and {text!r} are one file on this case-insensitive file system; exclude= leaves one out"
                )


def not_in(names: Iterable[str], pages: Iterable[Page]) -> list[str]:
    """The file names that are not a path of `pages`, sorted by their bytes (a name on disk may be no text).

    Memory grows with the bytes of the names, not with the pages.
    """
    rest = pa.chunked_array(_encoded(names), pa.binary())
    for page in pages if len(rest) else ():
        paths = page.column("path").cast(pa.binary())
        rest = rest.filter(pc.invert(pc.is_in(rest, value_set=paths)))
        if not len(rest):
            break
    return [os.fsdecode(name) for name in rest.take(pc.sort_indices(rest)).to_pylist()]


def _encoded(names: Iterable[str]) -> Iterator[Any]:
    left = iter(names)
    while batch := [os.fsencode(name) for name in islice(left, PAGE_ROWS)]:
        yield pa.array(batch, pa.binary())


def refuse_precious(root: Root) -> None:
    """Refuse to remove files in a folder that is certainly more than a download."""
    here, home = Path.cwd().resolve(), Path.home().resolve()
    if root.folder in (here, home, *here.parents, *home.parents):
        raise InvalidInputError(
            f"{root.folder} is the home folder, the current folder or above one of them; refart removes no files"
            " there: give a folder of its own as root"
        )
