"""The fsspec file system of versions: folders from paths, pinned and checked bytes, no writing."""

from __future__ import annotations

import io
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import fsspec
import pytest

import refart
from refart import Workspace
from refart.errors import ChecksumError, InvalidInputError, PermissionDeniedError, ReferenceChangedError
from refart.fs import PathNotFoundError, ReadOnlyError, RefartFileSystem
from refart.manifest.reader import Manifest
from refart.s3server import S3Requests
from refart.testing import Lake
from tests.manifest.support import small_shards


@pytest.fixture(autouse=True)
def fresh_instances() -> None:
    """fsspec keeps instances for the whole process, and with them what aliases meant."""
    RefartFileSystem.clear_instance_cache()


@pytest.fixture
def log(refart_workspace: Workspace) -> Callable[..., refart.Artifact]:
    def log(uri: str, name: str = "raw", **how: Any) -> refart.Artifact:
        with refart_workspace.init() as run:
            draft = refart.Artifact(name, "dataset")
            draft.add_reference(uri, **how)
            return run.log_artifact(draft)

    return log


def files(root: Path, *paths: str) -> str:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return str(root)


@pytest.fixture
def raw(log: Callable[..., refart.Artifact], versioned_lake: Lake) -> Lake:
    """`raw:v0` of a lake whose every object was overwritten since."""
    log(f"{versioned_lake.uri}/raw")
    for key in ("raw/2026/a.csv", "raw/2026/b.csv", "raw/labels.json"):
        versioned_lake.put(key, b"something else, written later")
    return versioned_lake


# -- look ------------------------------------------------------------------------------------------------------------


def test_a_version_is_a_folder(raw: Lake) -> None:
    fs = fsspec.filesystem("refart")
    assert fs.ls("refart://raw:v0", detail=False) == ["raw:v0/2026", "raw:v0/labels.json"]
    assert fs.ls("raw:v0/2026/", detail=False) == ["raw:v0/2026/a.csv", "raw:v0/2026/b.csv"]
    assert fs.ls("raw:v0/labels.json", detail=False) == ["raw:v0/labels.json"]
    assert fs.find("raw:v0") == ["raw:v0/2026/a.csv", "raw:v0/2026/b.csv", "raw:v0/labels.json"]
    assert fs.find("raw:v0", maxdepth=1) == ["raw:v0/labels.json"]
    assert fs.find("raw:v0", maxdepth=1, withdirs=True) == ["raw:v0", "raw:v0/2026", "raw:v0/labels.json"]
    assert fs.find("raw:v0/labels.json") == ["raw:v0/labels.json"]
    assert fs.glob("raw:v0/*/*.csv") == ["raw:v0/2026/a.csv", "raw:v0/2026/b.csv"]
    assert fs.glob("raw:v0/**/b*") == ["raw:v0/2026/b.csv"]
    assert [(at, sorted(folders), sorted(names)) for at, folders, names in fs.walk("raw:v0")] == [
        ("raw:v0", ["2026"], ["labels.json"]),
        ("raw:v0/2026", [], ["a.csv", "b.csv"]),
    ]
    assert fs.isdir("raw:v0/2026")
    assert fs.isfile("raw:v0/labels.json")
    assert not fs.exists("raw:v0/2026/a")
    assert fs.du("raw:v0") == sum(fs.size(path) for path in fs.find("raw:v0"))


def test_info_tells_the_entry_and_the_version(raw: Lake, refart_workspace: Workspace) -> None:
    fs = fsspec.filesystem("refart")
    artifact = refart_workspace.artifact("raw:v0")
    entry = artifact.get_entry("labels.json")
    info = fs.info("raw:latest/labels.json")
    assert info == {
        "name": "raw:latest/labels.json",
        "type": "file",
        "size": 15,
        "content_id": entry.content_id,
        "uri": entry.uri,
        "pin": entry.pin,
        "version": "default/raw:v0",
        "created": artifact.created_at,
    }
    assert info["pin"].startswith("version:")
    assert fs.checksum("raw:v0/labels.json") == fs.ukey("raw:v0/labels.json") == entry.content_id
    assert fs.created("raw:v0/labels.json") == fs.modified("raw:v0/2026") == artifact.created_at
    assert fs.info("raw:v0/2026")["type"] == "directory"


def test_a_bare_name_is_its_latest_version_and_a_project_may_stand_before_it(raw: Lake) -> None:
    fs = fsspec.filesystem("refart")
    assert fs.ls("refart://raw", detail=False)[0] == "raw:latest/2026"
    assert fs.ls("refart://default/raw:v0/", detail=False)[0] == "default/raw:v0/2026"
    with pytest.raises(PathNotFoundError, match="elsewhere"):
        fsspec.filesystem("refart", project="elsewhere").ls("raw:v0")


def test_what_is_not_there_is_not_found(raw: Lake) -> None:
    fs = fsspec.filesystem("refart")
    for path in (
        "",
        "nothing:v0",
        "raw:v7",
        "raw:v0/nothing",
        "raw:v0/20",
        "raw:v0/../x",
        "a b:v0",
        "a/b/raw:v0",
    ):
        for look in (fs.info, fs.ls, fs.cat_file, fs.open, fs.created, fs.checksum):
            with pytest.raises(FileNotFoundError) as caught:
                look(path)
            assert isinstance(caught.value, refart.NotFoundError)
        assert not fs.exists(path)
        assert not fs.isdir(path)
        assert not fs.isfile(path)


def test_a_wrong_configuration_is_no_missing_file(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("refart")
    monkeypatch.setenv("REFART_THREADS", "many")
    with pytest.raises(InvalidInputError, match="REFART_THREADS"):
        fs.exists("raw:v0")


def test_the_default_workspace_is_that_of_the_environment(
    raw: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fsspec.filesystem("refart")
    assert fs.exists("raw")
    with Workspace.open(tmp_path / "another"):
        monkeypatch.setenv("REFART_URL", str(tmp_path / "another"))
        assert not fs.exists("raw")


def test_a_folder_is_never_its_longer_namesake(log: Callable[..., Any], tmp_path: Path) -> None:
    log(files(tmp_path / "data", "ab", "a/b", "a/b!", "a!/c", "a0/d"))
    fs = fsspec.filesystem("refart")
    assert fs.ls("raw:v0", detail=False) == [f"raw:v0/{name}" for name in ("a", "a!", "a0", "ab")]
    assert fs.ls("raw:v0/a", detail=False) == ["raw:v0/a/b", "raw:v0/a/b!"]
    assert fs.find("raw:v0/a") == ["raw:v0/a/b", "raw:v0/a/b!"]
    assert fs.find("raw:v0/a/b") == ["raw:v0/a/b"]


def test_listing_a_folder_does_not_read_the_manifest_whole(
    log: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_shards():
        artifact = log(
            files(tmp_path / "data", *(f"{a}/{b}/{c}" for a in "abc" for b in range(20) for c in "xyz"))
        )
        assert len(artifact._reader().index.shards) > 15
        opened: list[str] = []
        original = Manifest.open_shard

        def counted(manifest: Manifest, shard: Any) -> Any:
            opened.append(shard.first_path)
            return original(manifest, shard)

        monkeypatch.setattr(Manifest, "open_shard", counted)
        fs = fsspec.filesystem("refart")
        assert fs.ls("raw:v0", detail=False) == ["raw:v0/a", "raw:v0/b", "raw:v0/c"]
        assert len(opened) <= 3
        opened.clear()
        assert fs.isdir("raw:v0/b")
        assert len(opened) <= 2


# -- bytes -----------------------------------------------------------------------------------------------------------


def test_every_way_of_reading_gives_the_logged_bytes(raw: Lake, tmp_path: Path) -> None:
    fs = fsspec.filesystem("refart")
    path, wanted = "refart://raw:v0/labels.json", b'["cat", "dog"]\n'
    with fs.open(path) as file:
        assert (file.read(1), file.read()) == (wanted[:1], wanted[1:])
        assert (file.seek(-3, io.SEEK_END), file.read()) == (12, wanted[-3:])
    with fs.open(path, "r", encoding="utf-8") as file:
        assert file.read() == wanted.decode()
    assert fsspec.open(path).open().read() == wanted
    assert fs.cat_file(path) == fs.cat(path) == wanted
    assert fs.cat_file(path, 2, 5) == wanted[2:5]
    assert fs.cat_file(path, -4, None) == wanted[-4:]
    assert fs.cat_ranges([path, path], [0, -5], [4, -1]) == [wanted[:4], wanted[-5:-1]]
    assert fs.head(path, 3) == wanted[:3]
    assert fs.tail(path, 3) == wanted[-3:]
    assert fs.cat("raw:v0/2026/*") == {
        "raw:v0/2026/a.csv": b"id,label\n1,cat\n2,dog\n",
        "raw:v0/2026/b.csv": b"id,label\n3,cat\n",
    }
    fs.get(path, str(tmp_path / "got.json"))
    assert (tmp_path / "got.json").read_bytes() == wanted
    into = io.BytesIO()
    fs.get_file(path, into)
    assert into.getvalue() == wanted
    fs.get("raw:v0", str(tmp_path / "all"), recursive=True)
    assert (tmp_path / "all" / "2026" / "b.csv").read_bytes() == b"id,label\n3,cat\n"


def test_a_whole_object_costs_one_get_and_a_range_reads_no_more_than_it(
    log: Callable[..., Any], versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    data = bytes(range(256)) * 8192
    versioned_lake.put("big/object", data)
    log(f"{versioned_lake.uri}/big")
    fs = fsspec.filesystem("refart")
    s3_requests.clear()
    assert fs.cat_file("raw:v0/object") == data
    assert s3_requests.operations == ["GetObject"]
    s3_requests.clear()
    with fs.open("raw:v0/object") as file:
        file.seek(1_000_000)
        assert file.read(500_000) == data[1_000_000:1_500_000]
    assert s3_requests.operations == ["GetObject"] * 2  # the beginning, which finds the object, and the range
    s3_requests.clear()
    assert fs.cat_ranges(["raw:v0/object"] * 2, [100, 1_000_000], [200, 1_000_100], on_error="raise") == [
        data[100:200],
        data[1_000_000:1_000_100],
    ]
    assert s3_requests.operations == ["GetObject"] * 2


def test_lines_are_read_in_growing_ranges(
    log: Callable[..., Any], versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    versioned_lake.put("big/lines", b"a line of text\n" * 100_000)
    log(f"{versioned_lake.uri}/big")
    s3_requests.clear()
    with fsspec.open("refart://raw:v0/lines") as file:
        assert sum(1 for _ in file) == 100_000
    assert s3_requests.count("GetObject") <= 6


def test_the_caches_of_fsspec_are_at_hand(raw: Lake) -> None:
    fs = fsspec.filesystem("refart")
    for cache_type in ("readahead", "none", "bytes", "blockcache", "all", "background"):
        with fs.open("raw:v0/2026/a.csv", block_size=5, cache_type=cache_type) as file:
            assert file.read(4) + file.read() == b"id,label\n1,cat\n2,dog\n"


@pytest.mark.parametrize("new", [b"bbbb", b"bbbbb"])
def test_bytes_that_are_not_the_recorded_ones_are_never_handed_over(
    log: Callable[..., Any], tmp_path: Path, new: bytes
) -> None:
    log(files(tmp_path / "data", "some"))
    (tmp_path / "data" / "some").write_bytes(new)
    fs = fsspec.filesystem("refart")
    got = tmp_path / "got"
    for read in (
        lambda: fs.cat_file("raw:v0/some"),
        lambda: fs.open("raw:v0/some").read(),
        lambda: fs.get_file("raw:v0/some", str(got)),
    ):
        with pytest.raises((ReferenceChangedError, ChecksumError)):
            read()
    assert not got.exists()
    assert list(tmp_path.glob(".refart-*")) == []


def test_an_empty_object_is_compared_too(log: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "empty").touch()
    log(str(tmp_path / "data"))
    fs = fsspec.filesystem("refart")
    assert fs.cat_file("raw:v0/empty") == fs.open("raw:v0/empty").read() == b""
    (tmp_path / "data" / "empty").write_text("no more")
    with pytest.raises(ReferenceChangedError):
        fs.open("raw:v0/empty").read()


def test_managed_files_are_read_as_well(refart_workspace: Workspace, tmp_path: Path) -> None:
    with refart_workspace.init() as run:
        draft = refart.Artifact("kept", "dataset")
        draft.add_dir(files(tmp_path / "data", "some"))
        run.log_artifact(draft)
    fs = fsspec.filesystem("refart")
    assert fs.cat_file("kept:v0/some") == fs.open("kept:v0/some").read() == b"some"
    assert fs.info("kept:v0/some")["uri"] is None


def test_an_entry_of_unknown_size_is_compared_at_its_end(
    log: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(files(tmp_path / "data", "some"))
    original = Manifest.get

    def sizeless(manifest: Manifest, path: str) -> Any:
        entry = original(manifest, path)
        return entry and replace(entry, size=None)

    monkeypatch.setattr(Manifest, "get", sizeless)
    fs = fsspec.filesystem("refart")
    with fs.open("raw:v0/some") as file:
        assert (file.size, file.read()) == (4, b"some")
    (tmp_path / "data" / "some").write_bytes(b"another")
    with pytest.raises(ReferenceChangedError):
        fs.open("raw:v0/some").read()


def test_a_file_is_signed_for_others(raw: Lake) -> None:
    url = fsspec.filesystem("refart").sign("refart://raw:v0/labels.json", expiration=60)
    with urlopen(url) as answer:
        assert answer.read() == b'["cat", "dog"]\n'


def test_a_folder_cannot_be_read_as_a_file(raw: Lake) -> None:
    with pytest.raises(IsADirectoryError, match="2026"):
        fsspec.filesystem("refart").cat_file("raw:v0/2026")


def test_nothing_can_be_written(raw: Lake, tmp_path: Path) -> None:
    fs = fsspec.filesystem("refart")
    (tmp_path / "new").touch()
    for write in (
        lambda: fs.open("raw:v0/new", "wb"),
        lambda: fs.open("raw:v0/new", "xb"),
        lambda: fs.open("raw:v0/labels.json", "ab"),
        lambda: fs.pipe_file("raw:v0/new", b""),
        lambda: fs.pipe({"raw:v0/new": b""}),
        lambda: fs.put(str(tmp_path / "new"), "raw:v0/new"),
        lambda: fs.put_file(str(tmp_path / "new"), "raw:v0/new"),
        lambda: fs.rm("raw:v0/labels.json"),
        lambda: fs.rm_file("raw:v0/labels.json"),
        lambda: fs.rmdir("raw:v0/2026"),
        lambda: fs.mkdir("raw:v0/new"),
        lambda: fs.makedirs("raw:v0/new"),
        lambda: fs.touch("raw:v0/new"),
        lambda: fs.copy("raw:v0/labels.json", "raw:v0/new"),
        lambda: fs.mv("raw:v0/labels.json", "raw:v0/new"),
        lambda: fs.write_text("raw:v0/new", ""),
        lambda: fs.delete("raw:v0/labels.json"),
        lambda: fs.upload(str(tmp_path / "new"), "raw:v0/new"),
    ):
        with pytest.raises(ReadOnlyError, match="read-only") as caught:
            write()
        assert isinstance(caught.value, PermissionError)
    assert fs.find("raw:v0") == ["raw:v0/2026/a.csv", "raw:v0/2026/b.csv", "raw:v0/labels.json"]


# -- what an alias means, and copies ---------------------------------------------------------------------------------


@pytest.fixture
def moving(log: Callable[..., refart.Artifact], tmp_path: Path) -> Callable[[str], None]:
    """Log other bytes as the next version of `data`."""

    def move(text: str) -> None:
        (tmp_path / "moving").mkdir(exist_ok=True)
        (tmp_path / "moving" / f"{text}.txt").write_text(text)
        log(str(tmp_path / "moving"), "data")

    move("one")
    return move


def test_latest_stays_what_it_was_until_it_is_asked_again(moving: Callable[[str], None]) -> None:
    fs = fsspec.filesystem("refart")
    assert fs is refart.filesystem()
    assert fs.find("data:latest") == ["data:latest/one.txt"]
    moving("two")
    assert (
        fs.find("data:latest") == fsspec.filesystem("refart").find("data:latest") == ["data:latest/one.txt"]
    )
    assert fs.info("data:latest")["version"] == "default/data:v0"
    fresh = fsspec.filesystem("refart", skip_instance_cache=True)
    assert fresh.info("data:latest")["version"] == "default/data:v1"
    fs.invalidate_cache()
    assert len(fs.find("data:latest")) == 2


def test_a_copy_reads_the_same_version(moving: Callable[[str], None], tmp_path: Path) -> None:
    fs = refart.filesystem()
    assert fs.info("data")["version"] == "default/data:v0"
    sent = pickle.dumps(fs)
    moving("two")
    RefartFileSystem.clear_instance_cache()
    copy = pickle.loads(sent)
    assert copy.find("data:latest") == ["data:latest/one.txt"]
    elsewhere = refart.filesystem("postgresql://somewhere/else", project="p", run="r")
    assert pickle.loads(pickle.dumps(elsewhere)) == elsewhere
    assert pickle.loads(pickle.dumps(copy)).info("data")["version"] == "default/data:v0"
    file = pickle.loads(pickle.dumps(fs.open("data:latest/one.txt")))
    assert file.read() == b"one"


def read_in_child(fs: RefartFileSystem, path: str) -> tuple[bytes, str]:
    return fs.cat_file(path), fs.info(path)["version"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_children_read_what_the_parent_means(moving: Callable[[str], None], method: str) -> None:
    fs = refart.filesystem()
    assert fs.cat_file("data:latest/one.txt") == b"one"
    moving("two")
    with multiprocessing.get_context(method).Pool(1) as pool:
        read = pool.apply(read_in_child, (fs, "data:latest/one.txt"))
    assert read == (b"one", "default/data:v0")


def test_many_threads_share_one_instance(moving: Callable[[str], None]) -> None:
    fs = refart.filesystem()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(fs.cat_file, ["data:latest/one.txt"] * 50)) == {b"one"}


def test_a_run_can_be_told_what_was_read(moving: Callable[[str], None], refart_workspace: Workspace) -> None:
    with refart_workspace.init() as run:
        refart.filesystem(run=run).cat_file("data:latest/one.txt")
        with fsspec.open("refart://data:v0/one.txt", run=run.id) as file:
            file.read()
        refart.filesystem().cat_file("data:latest/one.txt")
    assert [used.qualified_name for used in refart_workspace.run(run.id).used_artifacts()] == [
        "default/data:v0"
    ]


def test_a_workspace_is_named_by_its_url_and_never_made(
    moving: Callable[[str], None], refart_workspace: Workspace, tmp_path: Path
) -> None:
    assert refart.filesystem(refart_workspace).exists("data")
    assert refart.filesystem(refart_workspace.url).exists("data")
    assert refart.filesystem(tmp_path / "workspace", project="default").exists("data")
    with pytest.raises(FileNotFoundError, match="no refart workspace"):
        refart.filesystem(tmp_path / "nothing").ls("data")
    assert not (tmp_path / "nothing").exists()


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'workspce' is not one of refart://"):
        fsspec.filesystem("refart", workspce="/somewhere")


def test_an_answer_that_is_hidden_is_no_answer(raw: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = refart.filesystem()
    assert fs.exists("raw:v0")

    def denied(*_: object) -> None:
        raise PermissionDeniedError("no")

    monkeypatch.setattr(Manifest, "get", denied)
    with pytest.raises(PermissionDeniedError):
        fs.exists("raw:v0/labels.json")
