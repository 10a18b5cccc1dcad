"""Download: only what is missing moves, only what is right appears, and nothing else is touched."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refart.cache import Cache
from refart.context import Context
from refart.entries import Entry
from refart.errors import (
    ChecksumError,
    ConflictError,
    InvalidInputError,
    PermissionDeniedError,
    RefartError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
    StoreError,
)
from refart.ops import targets
from refart.ops.download import DownloadReport, download, prune
from refart.receipts import Receipts
from tests.children import good, start_python
from tests.ops.support import Objects, managed, pages_of, sha256, tree, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


_opened: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and not isinstance(arguments[0], int):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_audit)  # cannot be removed; without a list to fill it does nothing


@contextmanager
def opened_below(folder: Path) -> Iterator[list[str]]:
    """The files below a folder that this process opens, in whatever way Python offers."""
    global _opened
    found: list[str] = []
    _opened = []
    try:
        yield found
    finally:
        found += [path for path in _opened if path.startswith(f"{folder}/")]
        _opened = None


@pytest.fixture
def mixed(context: Context, objects: Objects) -> list[Entry]:
    """A managed file, and references of different strength."""
    objects.held = "version"
    return [
        managed(context, "notes.txt", b"managed"),
        objects.put("raw/a.bin", b"sha256 known", "sha256"),
        objects.put("raw/b.bin", b"md5 known", "md5"),
        replace(objects.put("raw/deep/c.bin", b"etag known", "etag"), pin="version:1"),
        objects.put("empty", b""),
    ]


MIXED = {
    "notes.txt": b"managed",
    "raw/a.bin": b"sha256 known",
    "raw/b.bin": b"md5 known",
    "raw/deep/c.bin": b"etag known",
    "empty": b"",
}


# -- what is there afterwards ---------------------------------------------------------------------------


def test_every_entry_becomes_a_file(context: Context, mixed: list[Entry], root: Path) -> None:
    report = download(context, pages_of(*mixed), root)
    assert tree(root) == MIXED
    assert report == DownloadReport(
        str(root),
        files=5,
        moved_bytes=sum(map(len, MIXED.values())),
        confirmed_by_server=1,
        checked_by={"sha256": 2, "md5": 2, "version": 1},
    )


def test_a_version_without_entries_makes_an_empty_folder(context: Context, root: Path) -> None:
    assert download(context, pages_of(), root) == DownloadReport(str(root))
    assert list(root.iterdir()) == []


def test_a_second_download_moves_no_byte_and_opens_no_file(
    context: Context, objects: Objects, mixed: list[Entry], root: Path
) -> None:
    download(context, pages_of(*mixed), root)
    before = {path: path.stat() for path in root.rglob("*")}
    objects.fetched.clear()
    with opened_below(root) as opened:
        report = download(context, pages_of(*mixed), root)
    assert report == DownloadReport(str(root), files=5, kept_files=5)
    assert (objects.fetched, opened) == ([], [])
    assert {path: path.stat() for path in root.rglob("*")} == before


def test_without_receipts_files_are_read_and_kept(
    context: Context, objects: Objects, mixed: list[Entry], root: Path
) -> None:
    """As after the cache folder of the user was removed. What only the server knew must come again."""
    download(context, pages_of(*mixed), root)
    objects.fetched.clear()
    fresh = replace(
        context.local,
        receipts=Receipts(root.with_name("other.sqlite")),
        cache=Cache(root.with_name("other"), 1 << 20),
    )
    context = replace(context, local=fresh)
    with opened_below(root) as opened:
        report = download(context, pages_of(*mixed), root)
    assert (report.files, report.kept_files, objects.fetched) == (5, 4, ["raw/deep/c.bin"])
    assert {str(root / e.path) for e in mixed if e.path != "raw/deep/c.bin"} <= set(opened)
    with opened_below(root) as opened:
        download(context, pages_of(*mixed), root)
    assert opened == [], "what was read once is remembered"


def test_without_a_cache_a_second_download_moves_no_byte_either(
    context: Context, objects: Objects, mixed: list[Entry], root: Path, tmp_path: Path
) -> None:
    context = replace(context, local=replace(context.local, cache=Cache(tmp_path / "none", 0)))
    download(context, pages_of(*mixed), root)
    objects.fetched.clear()
    with opened_below(root) as opened:
        report = download(context, pages_of(*mixed), root)
    assert (report.kept_files, objects.fetched, opened) == (5, [], [])
    assert tree(root) == MIXED


# -- damage ---------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    path.chmod(0o600)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("spoil", [_flip, Path.unlink, lambda p: (p.chmod(0o600), p.write_bytes(b""))])
@pytest.mark.parametrize("path", ["notes.txt", "raw/a.bin", "raw/b.bin", "raw/deep/c.bin"])
def test_a_damaged_file_is_noticed_and_replaced(
    context: Context, mixed: list[Entry], root: Path, path: str, spoil: Callable[[Path], object]
) -> None:
    """The file may be hard-linked to the cache, which is then damaged with it, and must not be believed."""
    download(context, pages_of(*mixed), root)
    spoil(root / path)
    report = download(context, pages_of(*mixed), root)
    assert tree(root) == MIXED
    assert report.kept_files == 4


def test_the_newer_version_replaces_what_changed_only(context: Context, objects: Objects, root: Path) -> None:
    same = objects.put("same", b"1")
    download(context, pages_of(same, objects.put("a", b"old")), root)
    objects.fetched.clear()
    report = download(context, pages_of(same, objects.put("a", b"new")), root)
    assert tree(root) == {"same": b"1", "a": b"new"}
    assert (report.kept_files, objects.fetched) == (1, ["a"])


def test_a_link_at_the_target_is_replaced_and_not_followed(
    context: Context, objects: Objects, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    root.mkdir()
    (root / "a").symlink_to(outside)
    download(context, pages_of(objects.put("a", b"bytes")), root)
    assert outside.read_bytes() == b"precious"
    assert not (root / "a").is_symlink()
    assert (root / "a").read_bytes() == b"bytes"


# -- errors ---------------------------------------------------------------------------------------------


def test_a_source_that_breaks_in_the_middle_leaves_no_trace(
    context: Context, objects: Objects, root: Path
) -> None:
    whole, broken = objects.put("a", b"whole object"), objects.put("b", b"broken object")
    objects.breaks_after["mem://lake/b"] = 6
    with pytest.raises(SourceError, match="b: the connection broke off"):
        download(context, pages_of(whole, broken), root)
    assert "b" not in tree(root)
    assert set(tree(root)) <= {"a"}, "no temporary file is left"
    objects.breaks_after.clear()
    download(context, pages_of(whole, broken), root)
    assert tree(root) == {"a": b"whole object", "b": b"broken object"}


def test_a_file_there_before_outlives_a_failed_download(
    context: Context, objects: Objects, root: Path
) -> None:
    write(root, {"a": b"mine"})
    what = objects.put("a", b"theirs and longer")
    objects.breaks_after["mem://lake/a"] = 5
    with pytest.raises(SourceError):
        download(context, pages_of(what), root)
    assert tree(root) == {"a": b"mine"}


def test_files_finished_before_an_error_are_not_fetched_again(
    context: Context, objects: Objects, root: Path
) -> None:
    good_ones = [objects.put(f"a{n}", b"x%d" % n) for n in range(50)]
    bad = objects.put("z", b"gone")
    del objects.data["mem://lake/z"]
    with pytest.raises(ReferenceMissingError):
        download(context, pages_of(*good_ones, bad), root)
    assert sorted(objects.fetched) == sorted(e.path for e in good_ones)
    objects.fetched.clear()
    assert download(context, pages_of(*good_ones), root).moved_bytes == 0
    assert objects.fetched == []


def test_wrong_bytes_never_appear(context: Context, objects: Objects, root: Path) -> None:
    what = objects.put("a", b"right bytes")
    objects.data["mem://lake/a"] = b"wrong bytes"
    with pytest.raises(ReferenceChangedError):
        download(context, pages_of(what), root)
    objects.held = "version"
    with pytest.raises(ChecksumError):
        download(context, pages_of(what), root)
    assert tree(root) == {}


def test_a_gone_reference_is_an_error_that_names_it(context: Context, objects: Objects, root: Path) -> None:
    what = objects.put("a", b"bytes")
    objects.data.clear()
    with pytest.raises(ReferenceMissingError, match="a: mem://lake/a is gone"):
        download(context, pages_of(what), root)


def test_gone_references_can_be_left_out_but_changed_ones_cannot(
    context: Context, objects: Objects, root: Path
) -> None:
    here, gone = objects.put("here", b"bytes"), objects.put("gone", b"bytes of old")
    del objects.data["mem://lake/gone"]
    report = download(context, pages_of(here, gone), root, allow_missing_references=True)
    assert (report.files, report.missing) == (1, ["gone"])
    assert tree(root) == {"here": b"bytes"}
    objects.data["mem://lake/gone"] = b"other bytes!"
    with pytest.raises(ReferenceChangedError):
        download(context, pages_of(here, gone), root, allow_missing_references=True)


def test_a_lost_blob_is_no_missing_reference(context: Context, root: Path) -> None:
    what = managed(context, "a", b"bytes")
    Path(context.store.local_path("blobs", sha256(b"bytes")) or "").unlink()
    with pytest.raises(RefartError, match="is not in the store"):
        download(context, pages_of(what), root, allow_missing_references=True)


def test_what_nothing_confirms_is_named(context: Context, objects: Objects, root: Path) -> None:
    report = download(context, pages_of(objects.put("a", b"bytes", "none"), objects.put("b", b"x")), root)
    assert report.unverified == ["a"]


class Unwritable(Cache):
    """A cache that meets an error when it gives a file its name, as on a disk that is full or write-protected."""

    def __init__(self, error: OSError) -> None:
        super().__init__(Path("/nowhere"), 0)
        self._error = error

    def place(self, *arguments: Any, **named: Any) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoreError),
        (OSError(errno.EROFS, "Read-only file system"), StoreError),
        (PermissionError(errno.EACCES, "Permission denied"), PermissionDeniedError),
    ],
)
def test_a_root_that_cannot_be_written(
    context: Context, objects: Objects, root: Path, error: OSError, expected: type[Exception]
) -> None:
    context = replace(context, local=replace(context.local, cache=Unwritable(error)))
    with pytest.raises(expected, match=f"a: cannot write {root}/a: {error.strerror}"):
        download(context, pages_of(objects.put("a", b"x")), root)
    assert tree(root) == {}


# -- collisions with what lies there ----------------------------------------------------------------------


def test_foreign_files_stay(context: Context, objects: Objects, root: Path) -> None:
    write(root, {"mine.txt": b"mine", "raw/mine.txt": b"mine"})
    download(context, pages_of(objects.put("raw/a", b"theirs")), root)
    assert tree(root) == {"mine.txt": b"mine", "raw/mine.txt": b"mine", "raw/a": b"theirs"}


def test_a_folder_where_the_artifact_has_a_file(context: Context, objects: Objects, root: Path) -> None:
    write(root, {"a/mine.txt": b"mine"})
    with pytest.raises(ConflictError, match="a folder where the artifact has a file"):
        download(context, pages_of(objects.put("a", b"x")), root)
    assert tree(root) == {"a/mine.txt": b"mine"}
    assert objects.fetched == []


def test_a_file_where_the_artifact_has_a_folder(context: Context, objects: Objects, root: Path) -> None:
    write(root, {"a": b"mine"})
    with pytest.raises(ConflictError, match="a file where the artifact has a folder"):
        download(context, pages_of(objects.put("a/b/c", b"x")), root)
    assert tree(root) == {"a": b"mine"}


def test_paths_that_collide_are_refused_before_anything_is_written(
    context: Context, objects: Objects, root: Path
) -> None:
    entries = [objects.put(path, b"x") for path in ("0", "a", "a!", "a/b")]
    with pytest.raises(InvalidInputError, match="'a' is both a file and a folder"):
        download(context, pages_of(*entries), root)
    assert (tree(root), objects.fetched) == ({}, [])


# -- links and the cache ----------------------------------------------------------------------------------


def test_bytes_seen_before_come_from_the_cache(
    context: Context, objects: Objects, mixed: list[Entry], root: Path
) -> None:
    download(context, pages_of(*mixed), root)
    objects.fetched.clear()
    objects.data.clear()
    report = download(context, pages_of(*mixed), root.with_name("second"))
    assert tree(root.with_name("second")) == MIXED
    assert (report.cached_files, report.moved_bytes, objects.fetched) == (5, 0, [])


def test_hard_links_are_read_only_and_copies_are_your_own(
    context: Context, objects: Objects, root: Path
) -> None:
    pages = pages_of(objects.put("a", b"bytes"))
    download(context, pages, root / "linked", link="hardlink")
    download(context, pages, root / "copied", link="copy")
    linked, copied = (root / "linked/a").stat(), (root / "copied/a").stat()
    assert linked.st_nlink == 2
    assert linked.st_mode & 0o222 == 0
    assert copied.st_nlink == 1
    assert copied.st_mode & 0o200
    (root / "copied/a").write_bytes(b"edited")
    assert (root / "linked/a").read_bytes() == b"bytes"


@pytest.mark.parametrize("link", ["auto", "reflink", "hardlink", "copy"])
def test_every_way_to_link_gives_the_same_bytes(
    context: Context, objects: Objects, mixed: list[Entry], root: Path, link: Any
) -> None:
    for folder in ("first", "second"):
        download(context, pages_of(*mixed), root / folder, link=link)
        assert tree(root / folder) == MIXED


def test_an_unknown_way_to_link_is_refused_before_anything_is_made(context: Context, root: Path) -> None:
    with pytest.raises(InvalidInputError, match="link must be one of auto, reflink, hardlink, copy"):
        download(context, pages_of(), root, link="symlink")  # type: ignore[arg-type]
    assert not root.exists()


# -- prune ------------------------------------------------------------------------------------------------


def test_prune_removes_what_is_no_entry_and_empty_folders(
    context: Context, objects: Objects, root: Path, tmp_path: Path
) -> None:
    outside = write(tmp_path / "outside", {"precious": b"x"})
    pages = pages_of(objects.put("keep/a", b"x"))
    download(context, pages, root)
    write(root, {"old/deep/b": b"x", "c": b"x", "keep/.refart-0.part": b"x"})
    (root / "link").symlink_to(outside)
    shown: list[list[str]] = []
    removed = prune(root, pages(), lambda found: bool(shown.append(found)) or True)
    assert removed == shown[0] == ["c", "keep/.refart-0.part", "link", "old/deep/b"]
    assert tree(root) == {"keep/a": b"x"}
    assert not (root / "old").exists()
    assert tree(outside) == {"precious": b"x"}


def test_prune_asks_and_takes_no_for_an_answer(context: Context, root: Path) -> None:
    write(root, {"a": b"x"})
    assert prune(root, [], lambda _: False) == []
    assert tree(root) == {"a": b"x"}


def test_prune_does_not_ask_about_nothing(context: Context, root: Path) -> None:
    assert prune(root, [], lambda _: pytest.fail("there is nothing to ask about")) == []


@pytest.mark.parametrize("precious", ["home", "home/..", "here", "here/..", "here/../home/."])
def test_prune_refuses_folders_that_are_more_than_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precious: str
) -> None:
    write(tmp_path, {"home/a": b"x", "here/b": b"x"})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InvalidInputError, match="refart removes no files"):
        prune(tmp_path / precious, [], lambda _: True)
    assert tree(tmp_path) == {"home/a": b"x", "here/b": b"x"}


def test_prune_follows_no_link_that_took_a_folders_place(
    context: Context, root: Path, tmp_path: Path
) -> None:
    """Between the question and the answer, a folder below the root becomes a link that leads outside."""
    outside = write(tmp_path / "outside", {"a": b"precious"})
    write(root, {"old/a": b"x"})

    def swap(found: list[str]) -> bool:
        (root / "old").rename(tmp_path / "moved")
        (root / "old").symlink_to(outside)
        return True

    prune(root, [], swap)
    assert tree(outside) == {"a": b"precious"}


def test_prune_that_may_not_remove(context: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, {"a": b"x"})

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(PermissionDeniedError, match=r"cannot remove .*/root/a: Permission denied"):
        prune(root, [], lambda _: True)


# -- what killed processes left -----------------------------------------------------------------------------

LEFT = ".refart-0123456789abcdef.tmp"


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take unfinished files for dead at once, not when nobody has written to them for a while."""
    monkeypatch.setattr(targets, "QUIET_S", -60.0)


@pytest.mark.usefixtures("no_rest")
def test_the_next_download_removes_what_a_killed_one_left(
    context: Context, objects: Objects, root: Path
) -> None:
    write(root, {LEFT: b"half", f"d/{LEFT}": b"half", f"d/mine-{LEFT}": b"mine"})
    download(context, pages_of(objects.put("a", b"x"), objects.put("d/b", b"y")), root)
    assert tree(root) == {"a": b"x", "d/b": b"y", f"d/mine-{LEFT}": b"mine"}


@pytest.mark.usefixtures("no_rest")
def test_unfinished_files_of_a_running_download_stay(context: Context, objects: Objects, root: Path) -> None:
    write(root, {LEFT: b"half", "foreign": b"x"})
    with targets.open_root(root).working():
        download(context, pages_of(objects.put("a", b"x")), root)
        assert prune(root, pages_of(objects.put("a", b"x"))(), lambda _: True) == ["foreign"]
    assert tree(root) == {LEFT: b"half", "a": b"x"}


def test_an_unfinished_file_that_was_just_written_stays(
    context: Context, objects: Objects, root: Path
) -> None:
    write(root, {LEFT: b"half"})
    download(context, pages_of(objects.put("a", b"x")), root)
    assert tree(root) == {LEFT: b"half", "a": b"x"}


@pytest.mark.usefixtures("no_rest")
def test_prune_removes_what_killed_downloads_left_elsewhere(context: Context, root: Path) -> None:
    write(root, {f"old/{LEFT}": b"half"})
    assert prune(root, [], lambda _: True) == [f"old/{LEFT}"]


def test_an_entry_named_like_an_unfinished_file_is_refused(
    context: Context, objects: Objects, root: Path
) -> None:
    with pytest.raises(InvalidInputError, match=f"'d/{LEFT}' has a name that refart gives"):
        download(context, pages_of(objects.put("a", b"x"), objects.put(f"d/{LEFT}", b"x")), root)
    assert not root.exists()


# -- at the same time -------------------------------------------------------------------------------------

_DOWNLOAD = """
import sys, refart
artifact = refart.Api().artifact("many")
print("ready", flush=True)
sys.stdin.read()
artifact.download(sys.argv[1])
"""


def test_two_processes_may_download_to_one_root(refart_workspace, tmp_path: Path, root: Path) -> None:
    files = {f"d{n % 7}/f{n}": b"%d" % n * 1000 for n in range(200)}
    with refart_workspace.init() as run:
        artifact = refart_workspace.draft("many")
        artifact.add_dir(write(tmp_path / "source", files))
        run.log_artifact(artifact)
    children = [start_python(_DOWNLOAD, root) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        good(child.finished())
    assert tree(root) == files
