"""What a workspace or a folder holds, in a form that can be compared: to see that nothing was left half done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refart import Workspace


def files_below(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Size, modified time and inode of every file below a folder, by relative path. A missing folder has none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            stat = path.lstat()
            found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


def store_files(workspace: Workspace) -> dict[str, tuple[int, int, int]]:
    """The files in the store of an embedded workspace."""
    return files_below(Path(workspace.url, "store"))


def blobs(workspace: Workspace) -> list[str]:
    """The SHA-256 of every managed file in the store."""
    return [Path(name).name for name in store_files(workspace) if name.startswith("blobs/")]


def catalog_rows(workspace: Workspace) -> list[object]:
    """All that the catalog says about artifacts: collections, versions with their labels, what was changed."""
    versions = [version._row for version in workspace.artifacts()]
    return [workspace.collections(), versions, workspace.audit(limit=10_000)]


@contextmanager
def nothing_done(workspace: Workspace, *folders: Path) -> Iterator[None]:
    """Check that the block leaves catalog, store and folders exactly as they were."""

    def everything() -> list[object]:
        state = [catalog_rows(workspace), store_files(workspace)]
        return [*state, *((folder.exists(), files_below(folder)) for folder in folders)]

    before = everything()
    yield
    assert everything() == before
