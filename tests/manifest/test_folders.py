"""Folders derived from sorted paths, and how little is read for them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refart.entries import entries_of
from refart.manifest.folders import is_folder, levels
from refart.manifest.reader import Manifest
from tests.manifest.support import FolderStore, pages_of, reference, small_shards

COMPONENTS = st.sampled_from(["a", "ab", "a!", "a0", "b", "é", "a-b"])
PATHS = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)


def manifest_of(root: Path, paths: set[str]) -> tuple[Manifest, FolderStore]:
    store = FolderStore(root)
    return store.manifest(pages_of(map(reference, paths))), store


def listed(manifest: Manifest, folder: str | None, depth: int = 1) -> tuple[list[str], list[str]]:
    files, folders = [], []
    for level in levels(manifest, folder, depth):
        files += [entry.path for entry in entries_of(level.entries)]
        folders += level.folders
    return files, folders


def expected(paths: set[str], folder: str | None, depth: int) -> tuple[list[str], list[str]]:
    """By the plain meaning of a path."""
    begin = "" if folder is None else f"{folder}/"
    below = [path[len(begin) :].split("/") for path in sorted(paths) if path.startswith(begin)]
    files = [begin + "/".join(parts) for parts in below if len(parts) <= depth]
    folders = [begin + "/".join(parts[:depth]) for parts in below if len(parts) > depth]
    return files, list(dict.fromkeys(folders))


@settings(max_examples=30)
@given(st.sets(PATHS, min_size=1, max_size=60), st.integers(1, 3))
def test_every_folder_lists_what_its_paths_say(paths: set[str], depth: int) -> None:
    with TemporaryDirectory() as root, small_shards():
        manifest, _ = manifest_of(Path(root), paths)
        above = {"/".join(path.split("/")[:n]) for path in paths for n in range(1, 4)}
        for folder in (None, "nothing", *above):
            assert listed(manifest, folder, depth) == expected(paths, folder, depth), folder
            if folder is not None:
                assert is_folder(manifest, folder) == any(path.startswith(f"{folder}/") for path in paths)


def test_a_folder_is_never_its_longer_namesake(tmp_path: Path) -> None:
    """An object store may have an object and a folder of the same name; both are told."""
    manifest, _ = manifest_of(tmp_path, {"a", "a/b", "ab", "a!/c", "a0"})
    assert listed(manifest, None) == (["a", "a0", "ab"], ["a!", "a"])
    assert listed(manifest, "a") == (["a/b"], [])


@pytest.mark.parametrize("in_place", [True, False])
def test_listing_the_top_opens_no_shard_inside_a_folder(tmp_path: Path, in_place: bool) -> None:
    """Ten folders of 200 entries each in some 250 shards: only those where a folder may begin are opened."""
    paths = {f"{folder}/{n:03}/x" for folder in "abcdefghij" for n in range(200)}
    with small_shards():
        store = FolderStore(tmp_path, in_place=in_place)
        manifest = store.manifest(pages_of(map(reference, paths)))
        assert len(manifest.index.shards) > 150
        assert listed(manifest, None) == ([], list("abcdefghij"))
        assert len(store.opened) <= 9
        store.opened.clear()
        assert is_folder(manifest, "d")
        assert len(store.opened) <= 1
