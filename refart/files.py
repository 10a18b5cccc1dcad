"""Local files: read with clear errors, hashed while they are copied, placed whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError, RefartError, SourceError
from refart.parallel import check_stopped

CHUNK_BYTES: Final = 1 << 20  # 1 MiB: hashing releases the GIL, and a chunk stays in the processor's cache
NEW_FILE: Final = 0o666
READ_ONLY: Final = 0o444

StrPath: TypeAlias = str | os.PathLike[str]

_PASSING_ERRORS: Final = frozenset(
    (
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
    )
)
"""What a network file system answers while its server is away or has just come back."""


def reading_error(error: OSError, path: StrPath) -> RefartError:
    """What an error of the operating system says about a file or folder that a person named for reading."""
    shown = repr(os.fspath(path))
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return NotFoundError(f"{shown} does not exist")
    if isinstance(error, PermissionError):
        return PermissionDeniedError(f"{shown} cannot be read: permission denied; get read access to it")
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO):
        return InvalidInputError(f"{shown} cannot be read as a file: {error.strerror}")
    return SourceError(
        f"{shown} cannot be read: {error.strerror or error}", transient=error.errno in _PASSING_ERRORS
    )


def open_for_reading(path: StrPath) -> BinaryIO:
    """The file, unbuffered. Raises what `reading_error` makes of the failure."""
    try:
        return Path(path).open("rb", buffering=0)
    except OSError as error:
        raise reading_error(error, path) from error


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of an open file; a failing read raises what `reading_error` makes of it."""
    while True:
        check_stopped()
        try:
            chunk = file.read(CHUNK_BYTES)
        except OSError as error:
            raise reading_error(error, file.name) from error
        if not chunk:
            return
        yield chunk


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 (hex) of the rest of an open file."""
    return hash_rest(file.fileno(), file.name)[0]


def open_descriptor(path: StrPath) -> int:
    """`open_for_reading` for hashing many small files: a file object would cost as much as opening itself."""
    try:
        # Should a pipe have taken the place of a file meanwhile, nobody waits for who writes to it.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise reading_error(error, path) from error


def hash_rest(descriptor: int, path: StrPath) -> tuple[str, int]:
    """The SHA-256 (hex) of the rest of an open file, and how many bytes that was. Errors as `chunks`."""
    digest = hashlib.sha256()
    size_bytes = 0
    block = _block_of_thread()
    while count := read_block(descriptor, block, path):
        digest.update(block[:count])
        size_bytes += count
    return digest.hexdigest(), size_bytes


def read_block(descriptor: int, block: memoryview, path: StrPath) -> int:
    """Read what comes next in an open file into a block; 0 at its end. Errors as `chunks`."""
    check_stopped()
    try:
        return os.readv(descriptor, (block,))
    except OSError as error:
        raise reading_error(error, path) from error


def _block_of_thread() -> memoryview:
    """A buffer to read into. It is used again: a new one for each file would cost more than a small file."""
    block: memoryview | None = getattr(_thread, "block", None)
    if block is None:
        block = _thread.block = memoryview(bytearray(CHUNK_BYTES))
    return block


_thread = threading.local()


def copy_hashed(source: BinaryIO, target: BinaryIO) -> str:
    """Copy the rest of `source`; returns the SHA-256 (hex) of what was written.

    A failing write raises `OSError` as it is: only the caller knows what `target` stands for.
    """
    digest = hashlib.sha256()
    for chunk in chunks(source):
        target.write(chunk)
        digest.update(chunk)
    return digest.hexdigest()


def write_all(file: FileIO, data: bytes) -> None:
    """Write to an unbuffered file, which may take a part at a time (a disk that gets full, more than 2 GiB)."""
    written = file.write(data)
    while written < len(data):
        written += file.write(memoryview(data)[written:])


TEMPORARY_START: Final = ".refart-"
TEMPORARY_PATTERN: Final = r"\.refart-[0-9a-f]{16}\.tmp$"
"""What `temporary_name` gives ends in this, and nothing else should. For `re` and RE2."""


def temporary_name(folder: StrPath) -> str:
    """A path in `folder` that nobody uses. Short, so that it fits where any other name does."""
    return f"{os.fspath(folder)}/.refart-{os.urandom(8).hex()}.tmp"


def is_temporary(name: str) -> bool:
    """Whether a file name is one that `temporary_name` gives: of an unfinished file, or what a killed process left."""
    return re.match(TEMPORARY_PATTERN, name) is not None


def is_left_over(temporary: StrPath, before_s: float) -> bool:
    """Whether a temporary file was last written to, or linked, before a time (in seconds since 1970)."""
    try:
        # Not the modified time: what is linked from a cache has an old one.
        return os.lstat(temporary).st_ctime < before_s
    except FileNotFoundError:
        return False


def remove_left_over(folder: StrPath, before_s: float) -> None:
    """Remove temporary files in a folder that are left over from before a time; what cannot be removed stays."""
    with suppress(OSError), os.scandir(folder) as listing:
        for name in [item.name for item in listing if is_temporary(item.name)]:
            path = os.path.join(folder, name)
            if is_left_over(path, before_s):
                os.unlink(path)


@contextmanager
def temporary_file(folder: StrPath, *, mode: int = NEW_FILE) -> Iterator[BinaryIO]:
    """A new file in `folder`, open for writing; its path is its `name`.

    To keep it, link or rename it before leaving: on leaving, whatever bears the temporary name is removed.
    `mode` is subject to the umask; the open file can be written even where `mode` is read-only.
    """
    path = temporary_name(folder)
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def place_new(temporary: StrPath, target: StrPath) -> bool:
    """Give a finished file its name, unless the name is taken (by a link too); returns whether it was not."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        if os.path.lexists(target):  # no hard links here (FAT, some network file systems)
            return False
        os.replace(temporary, target)
    return True


def sync(file: BinaryIO) -> None:
    """Return only when the bytes written so far would survive a power failure."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: StrPath) -> None:
    """Return only when the names in a folder would survive a power failure (where the system can tell)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def backdate(path: StrPath) -> None:
    """Give a file that refart placed a modified time at a whole second in the past.

    The clock behind modified times stands still for milliseconds, so that an edit right after the file was
    placed could leave its time as it was. With this every later edit changes it, on file systems that keep
    whole seconds too.
    """
    second = int(time.time()) - 3
    os.utime(path, (second, second))
