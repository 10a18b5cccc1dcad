"""Which file system a database lies on, and who holds its locks, told from Linux's tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refart.catalog import proc

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:2 master:1 - nfs4 server:/export/home rw,vers=4.2
31 30 8:2 / /home/local rw - xfs /dev/sda2 rw
32 22 0:41 / /mnt/my\\040lake rw - fuse.sshfs host:/lake rw
33 22 0:42 / /mnt/twice rw - cifs //server/share rw
34 33 8:3 / /mnt/twice rw - ext4 /dev/sda3 rw
35 22 0:43 / /mnt/guest rw - 9p host rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/catalog.db", None),
        ("/home/ada/catalog.db", ("nfs4", "/home")),
        ("/home", ("nfs4", "/home")),
        ("/homeless/catalog.db", None),
        ("/home/local/catalog.db", None),
        ("/mnt/my lake/x/catalog.db", ("fuse.sshfs", "/mnt/my lake")),
        ("/mnt/twice/catalog.db", None),
        ("/mnt/guest/catalog.db", None),
    ],
)
def test_the_innermost_and_last_mount_decides(
    path: str, expected: tuple[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(TABLE)
    monkeypatch.setattr(proc, "MOUNTS", mounts)
    assert expected == proc.network_mount(Path(path))


def test_a_symbolic_link_is_followed_to_where_the_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    monkeypatch.setattr(proc, "MOUNTS", tmp_path / "mountinfo")
    (tmp_path / "link").symlink_to("/home/ada")
    assert proc.network_mount(tmp_path / "link" / "catalog.db") == ("nfs4", "/home")


def test_the_holder_of_a_write_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "catalog.db-shm"
    file.write_bytes(b"")
    status = file.stat()
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    locks = tmp_path / "locks"
    locks.write_text(
        f"1: POSIX  ADVISORY  READ 11 {inode} 123 123\n"
        "2: POSIX  ADVISORY  WRITE 12 00:00:1 120 120\n"
        f"3: OFDLCK ADVISORY  WRITE -1 {inode} 120 120\n"
        f"3: -> POSIX  ADVISORY  WRITE 14 {inode} 120 120\n"
        f"4: POSIX  ADVISORY  WRITE {2**22 + 1} {inode} 120 120\n"
    )
    monkeypatch.setattr(proc, "LOCKS", locks)
    assert f"process {2**22 + 1}" == proc.lock_holder(tmp_path / "gone", file)
    locks.write_text("")
    assert proc.lock_holder(file) is None


def test_without_the_tables_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "MOUNTS", tmp_path / "none")
    monkeypatch.setattr(proc, "LOCKS", tmp_path / "none")
    assert proc.network_mount(tmp_path) is None
    assert proc.lock_holder(tmp_path) is None
