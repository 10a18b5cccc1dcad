"""Verify: every byte on disk against what was recorded, and an honest word where nothing is known."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from refart.context import Context
from refart.errors import NotFoundError
from refart.ops.download import download
from refart.ops.verify import VerifyReport, verify
from tests.ops.support import Objects, managed, pages_of, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_files_with_recorded_hashes_are_read_and_right(
    context: Context, objects: Objects, root: Path
) -> None:
    pages = pages_of(
        managed(context, "a", b"managed"), objects.put("b", b"md5"), objects.put("c", b"2", "sha256")
    )
    write(root, {"a": b"managed", "b": b"md5", "c": b"2", "mine": b"foreign"})
    report = verify(context, pages, root)
    assert report == VerifyReport(str(root), ok_files=3, read_bytes=11, foreign_files=1)
    assert report.is_good


def test_receipts_are_not_believed(context: Context, objects: Objects, root: Path) -> None:
    """Bytes that rotted leave size, time and inode as they were: only reading finds them."""
    pages = pages_of(objects.put("a", b"right"))
    download(context, pages, root, link="copy")
    before = (root / "a").stat()
    (root / "a").write_bytes(b"wrong")
    os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert download(context, pages, root).kept_files == 1, "a download trusts the receipt"
    assert verify(context, pages, root).modified == ["a"]


def test_what_is_wrong_is_listed_in_order(context: Context, objects: Objects, root: Path) -> None:
    names = ["gone", "longer", "other", "right", "shorter"]
    pages = pages_of(*(objects.put(name, b"bytes") for name in names))
    write(root, {"longer": b"bytes!", "other": b"bytez", "right": b"bytes", "shorter": b"byte"})
    report = verify(context, pages, root)
    assert (report.missing, report.modified, report.ok_files) == (["gone"], ["longer", "other", "shorter"], 1)
    assert not report.is_good


def test_a_link_or_a_folder_in_place_of_a_file_is_a_modification(
    context: Context, objects: Objects, root: Path
) -> None:
    pages = pages_of(*(objects.put(name, b"bytes") for name in ("dangling", "folder", "link")))
    write(root, {"folder/a": b"bytes", "elsewhere": b"bytes"})
    (root / "link").symlink_to("elsewhere")
    (root / "dangling").symlink_to("nowhere")
    report = verify(context, pages, root)
    assert report.modified == ["dangling", "folder", "link"]
    assert report.foreign_files == 2


def test_an_opaque_etag_is_verified_by_what_the_download_saw(
    context: Context, objects: Objects, root: Path
) -> None:
    objects.held = "version"
    pages = pages_of(replace(objects.put("a", b"bytes", "etag"), pin="version:1"))
    write(root, {"a": b"bytes"})
    assert verify(context, pages, root).unverifiable == ["a"], "this machine has not seen the object"
    (root / "a").unlink()
    download(context, pages, root)
    assert verify(context, pages, root).ok_files == 1
    (root / "a").chmod(0o600)
    (root / "a").write_bytes(b"bytez")
    assert verify(context, pages, root).modified == ["a"]


def test_the_etag_of_an_encrypted_object_is_no_md5_to_compare(
    context: Context, objects: Objects, root: Path
) -> None:
    etag = "md5:" + "0" * 32
    what = replace(objects.put("a", b"bytes"), content_id=etag, pin="version:1")
    objects.hash_is_plain, objects.said, objects.held = False, etag, "version"
    download(context, pages_of(what), root)
    assert verify(context, pages_of(what), root).ok_files == 1


def test_what_nothing_is_known_of_is_not_called_right(context: Context, objects: Objects, root: Path) -> None:
    pages = pages_of(objects.put("a", b"bytes", "none"))
    download(context, pages, root)
    report = verify(context, pages, root)
    assert (report.unverifiable, report.ok_files, report.is_good) == (["a"], 0, True)
    write(root, {"a": b"another size"})
    assert verify(context, pages, root).modified == ["a"], "the size is known"


def test_a_root_that_is_not_there(context: Context, root: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        verify(context, pages_of(), root)
    assert not root.exists()
