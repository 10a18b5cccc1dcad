"""What Linux knows about a database file: which file system it lies on, and which process holds a lock on it.

Elsewhere (no `/proc`) both questions have no answer: None.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

MOUNTS = Path("/proc/self/mountinfo")
LOCKS = Path("/proc/locks")

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "afs",
            "ceph",
            "lustre",
            "gpfs",
            "beegfs",
            "glusterfs",
            "davfs",
        ),
        *(
            "gcsfuse",
            "fuse.sshfs",
            "fuse.s3fs",
            "fuse.gcsfuse",
            "fuse.rclone",
            "fuse.goofys",
            "fuse.mountpoint-s3",
        ),
        *(
            "fuse.juicefs",
            "fuse.glusterfs",
            "fuse.ceph-fuse",
            "fuse.blobfuse2",
            "fuse.davfs2",
            "fuse.smbnetfs",
        ),
    }
)
"""Several machines see the same files here, and SQLite's WAL needs memory that all its users share.
9p and virtiofs are not among them: they join one guest to its host, and are the root of many sandboxes."""


def network_mount(path: Path) -> tuple[str, str] | None:
    """`(type, mount point)` of the network file system that holds `path`; None for a local one."""
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    path = path.resolve()
    best: tuple[str, Path] | None = None
    for line in table.splitlines():
        # "36 35 98:0 /root /mount/point rw shared:1 - ext4 /dev/sda1 rw": any number of fields before the
        # dash
        fields, _, after = line.partition(" - ")
        mount_point = Path(_unescape(fields.split(" ")[4]))
        # A later mount over the same point hides the earlier one.
        if path.is_relative_to(mount_point) and (
            best is None or len(best[1].parts) <= len(mount_point.parts)
        ):
            best = after.split(" ")[0], mount_point
    if best is None or best[0] not in NETWORK_FILE_SYSTEMS:
        return None
    return best[0], str(best[1])


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def lock_holder(*paths: Path) -> str | None:
    """`process 123 (python)` that holds a write lock on one of the files; None where that cannot be told.

    Reads a table instead of asking with `fcntl`: closing any handle of a file drops all POSIX locks that this
    process has on it, those of SQLite included.
    """
    inodes = set()
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        inodes.add(f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}")
    try:
        table = LOCKS.read_text()
    except OSError:
        return None
    for line in table.splitlines():
        # "1: POSIX  ADVISORY  WRITE 1234 fd:01:5678 120 120"; a waiter has "->" as its second field
        fields = line.split()
        if len(fields) == 8 and fields[3] == "WRITE" and fields[5] in inodes and int(fields[4]) > 0:
            return f"process {fields[4]}{_command(fields[4])}"
    return None


def _command(pid: str) -> str:
    try:
        return f" ({Path('/proc', pid, 'comm').read_text().strip()})"
    except OSError:
        return ""
