"""The download root: nothing is written outside of it, and what cannot be a folder tree is refused beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from refart.entries import Entry, page_of
from refart.errors import ConflictError, InvalidInputError, NotFoundError
from refart.ops import targets
from refart.ops.targets import Root, open_root
from tests import strategies
from tests.ops.support import tree, write


def references(*paths: str) -> list[Entry]:
    return [Entry(path, 0, "none", f"s3://b/{path}") for path in paths]


def check(paths: list[str], *, folds_case: bool = False, page_rows: int = 1) -> int:
    rows = strategies.in_order(references(*paths))
    root = Root(Path("/nowhere"), folds_case=folds_case)
    return targets.check_paths(lambda: strategies.paged(rows, page_rows), root)


# -- paths that cannot lie side by side -------------------------------------------------------------------


def collides(paths: set[str]) -> bool:
    """The model: some path is also a folder of another."""
    folders = {"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 1)}
    return bool(paths & folders)


@given(st.sets(strategies.few_paths, max_size=12), st.integers(1, 5))
def test_a_file_and_a_folder_of_one_name_are_found(paths: set[str], page_rows: int) -> None:
    try:
        assert check(list(paths), page_rows=page_rows) == len(paths)
        found = False
    except InvalidInputError:
        found = True
    assert found == collides(paths)


def test_a_folder_may_come_long_after_the_file_of_its_name() -> None:
    between = [f"a!{n:05d}" for n in range(5000)]
    with pytest.raises(InvalidInputError, match="'a' is both a file and a folder"):
        check(["a", *between, "a/b"], page_rows=100)
    assert check(["a", *between], page_rows=100) == 5001


def test_deep_folders_collide_too() -> None:
    with pytest.raises(InvalidInputError, match="'a/b' is both"):
        check(["a/b", "a/b/c/d/e/f"])


@pytest.mark.parametrize("pair", [("A", "a"), ("d/É", "d/é"), ("e\u0301", "\u00e9")])
def test_names_that_a_file_system_may_take_for_one(pair: tuple[str, str]) -> None:
    assert check(list(pair)) == 2
    with pytest.raises(InvalidInputError, match="one file on this case-insensitive file system"):
        check(list(pair), folds_case=True)


def test_a_component_is_measured_in_bytes() -> None:
    assert check(["é" * 127, "x" * 255 + "/" + "y" * 255]) == 2
    with pytest.raises(InvalidInputError, match="256 bytes cannot be a file name"):
        check(["a/" + "é" * 128])


# -- the root -----------------------------------------------------------------------------------------------


def test_a_root_is_made_with_the_folders_above_it(tmp_path: Path) -> None:
    root = open_root(tmp_path / "a/b/c")
    assert root.folder == (tmp_path / "a/b/c").resolve()
    assert root.folder.is_dir()


def test_a_root_may_be_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert open_root(tmp_path / "link").folder == tmp_path / "real"


def test_a_root_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_root("~/data").folder == tmp_path / "data"


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300, "link"])
def test_what_cannot_be_a_root(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"file": b""})
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(InvalidInputError, match="download root"):
        open_root(tmp_path / name)
    assert tree(tmp_path) == {"file": b""}


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_an_empty_root_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As of an environment variable that is not set."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="cannot be a download root"):
        open_root(name)


def test_a_root_that_must_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist; download the version first"):
        open_root(tmp_path / "none", must_exist=True)
    assert not (tmp_path / "none").exists()


@given(strategies.paths)
def test_every_entry_path_stays_below_the_root(path: str) -> None:
    root = Root(Path("/data/root"), folds_case=False)
    target = root.path_of(path)
    assert os.path.normpath(target) == target
    assert target.startswith("/data/root/")


def test_folders_are_made_once_and_by_many(tmp_path: Path) -> None:
    one, other = open_root(tmp_path), open_root(tmp_path)
    for root in (one, other, one):
        root.make_parent(tmp_path / "a/b/file")
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize("link", ["a", "a/b"])
def test_a_symbolic_link_on_the_way_is_refused(tmp_path: Path, link: str) -> None:
    """It may lead out of the root; even where it does not, two paths could then be one file."""
    outside = tmp_path / "outside"
    (tmp_path / "root/a").parent.mkdir(parents=True)
    outside.mkdir()
    (tmp_path / "root" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "root" / link).symlink_to(outside)
    root = open_root(tmp_path / "root")
    with pytest.raises(ConflictError, match="is a symbolic link"):
        root.make_parent(root.folder / "a/b/file")
    assert list(outside.iterdir()) == []


def test_a_file_on_the_way_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"x"})
    with pytest.raises(ConflictError, match="is a file where the artifact has a folder"):
        open_root(tmp_path).make_parent(tmp_path / "a/b/c")


def test_walking_finds_files_and_links_and_follows_none(tmp_path: Path) -> None:
    write(tmp_path, {"root/a": b"", "root/d/b": b"", "outside/c": b""})
    (tmp_path / "root/d/link").symlink_to(tmp_path / "outside")
    (tmp_path / "root/dangling").symlink_to("nowhere")
    (tmp_path / "root/empty").mkdir()
    root = open_root(tmp_path / "root")
    assert sorted(root.walk()) == ["a", "d/b", "d/link", "dangling"]
    root.remove_empty_folders()
    assert not (tmp_path / "root/empty").exists()
    assert (tmp_path / "root/d").exists()


def test_the_case_of_names_is_asked_of_the_file_system(tmp_path: Path) -> None:
    folder = tmp_path / "MixedCase"
    folder.mkdir()
    assert open_root(folder).folds_case == (tmp_path / "mIXEDcASE").exists()


# -- names against pages ------------------------------------------------------------------------------------


@given(st.sets(strategies.few_paths), st.sets(strategies.few_paths), st.integers(1, 7))
def test_names_that_no_page_has(names: set[str], paths: set[str], page_rows: int) -> None:
    pages = strategies.paged(references(*paths), page_rows)
    assert targets.not_in(names, pages) == sorted(names - paths, key=str.encode)


def test_no_names_read_no_page() -> None:
    assert targets.not_in([], (pytest.fail("not needed") for _ in range(1))) == []


def test_a_file_name_that_is_no_text_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    found = targets.not_in(open_root(tmp_path).walk(), [page_of(references("a"))])
    assert found == ["\udcff"]
