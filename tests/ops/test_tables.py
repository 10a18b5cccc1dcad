"""A version as a table: Arrow, pandas, Polars, and SQL over its shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

import refart
from refart import Workspace
from refart.entries import SCHEMA, Entry
from refart.errors import ConflictError, FormatError, InvalidInputError
from refart.ops.tables import sql
from refart.store import FolderStore, open_store
from tests.manifest.support import FolderStore as Shards
from tests.manifest.support import pages_of, reference, small_shards

ENTRIES = [
    *(reference(f"train/{n:03}.bin", size=n) for n in range(40)),
    *(reference(f"é/{n}/ü.bin", base="gs://other/") for n in range(5)),
    Entry("README", 3, "sha256:" + "0" * 64),
    Entry("by hand", None, "none", "https://example.org/elsewhere?x=1", "etag:abc"),
]


@pytest.fixture
def artifact(refart_workspace: Workspace, tmp_path: Path) -> refart.Artifact:
    (tmp_path / "data" / "train").mkdir(parents=True)
    for name in ("a", "train/b", "train/c"):
        (tmp_path / "data" / name).write_text(name)
    with refart_workspace.init() as run:
        draft = refart.Artifact("data", "dataset")
        draft.add_reference(tmp_path / "data")
        with draft.new_file("notes") as file:
            file.write("kept")
        return run.log_artifact(draft)


# -- Arrow -----------------------------------------------------------------------------------------------------------


def test_entries_are_a_table(artifact: refart.Artifact) -> None:
    table = artifact.to_arrow()
    assert table.schema == SCHEMA
    assert table["path"].to_pylist() == ["a", "notes", "train/b", "train/c"]
    assert table.to_pylist()[0]["uri"].endswith("/data/a")
    assert artifact.to_arrow(["size", "path"], prefix="train/").to_pylist() == [
        {"size": 7, "path": "train/b"},
        {"size": 7, "path": "train/c"},
    ]
    assert artifact.to_pandas(["path"])["path"].tolist() == table["path"].to_pylist()
    assert [batch.num_rows for batch in artifact.to_batches(["path"], "a")] == [1]
    assert [uri.rpartition("/")[2] for uri in artifact.uris()] == ["a", "b", "c"]
    assert len(list(artifact.uris("train"))) == 2


def test_an_artifact_is_a_stream_of_arrow(artifact: refart.Artifact) -> None:
    import polars

    assert pa.table(artifact) == artifact.to_arrow()
    assert polars.DataFrame(artifact)["size"].sum() == artifact.size


def test_a_draft_is_a_table_but_has_no_shards_to_ask(artifact: refart.Artifact) -> None:
    draft = artifact.new_draft()
    assert draft.to_arrow() == artifact.to_arrow()
    with pytest.raises(ConflictError, match="draft"):
        draft.sql("select 1")


@pytest.mark.parametrize("columns", [["paht"], [], "path"])
def test_columns_that_are_none_are_refused(artifact: refart.Artifact, columns: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="columns must be some of path, size"):
        artifact.to_batches(columns)


# -- SQL -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "memory"])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], list[dict[str, object]]]:
    """Ask about `ENTRIES` in many small shards, in a folder and behind a driver of fsspec."""
    shards = Shards(tmp_path / "made")
    with small_shards():
        index = shards.write(pages_of(ENTRIES)).index
    assert len(index.shards) > 3
    url = str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}"
    store = open_store(url, single_writer=True)
    for shard in index.shards:
        store.put_file("shards", shard.key, shards.path("shards", shard.key), sha256=False)
    return lambda query: sql(store, index, "default/data:v0", query).read_all().to_pylist()


def test_the_table_has_the_columns_of_entries(ask: Callable[[str], list[dict[str, object]]]) -> None:
    ordered = sorted(ENTRIES, key=lambda entry: entry.path)
    assert ask("from entries order by path") == [
        {name: getattr(entry, name) for name in SCHEMA.names} for entry in ordered
    ]
    assert ask("describe entries") != []
    assert ask("select count(*) as n, sum(size) as bytes from entries where path like 'train/%'") == [
        {"n": 40, "bytes": sum(range(40))}
    ]
    assert ask("select a.path from entries a join entries b on a.path = b.path where a.uri is null") == [
        {"path": "README"}
    ]


REFUSED = [
    "select * from read_text('/etc/hostname')",
    "select * from '/etc/hostname'",
    "select * from glob('/*')",
    "copy entries to '/tmp/out.csv'",
    "copy (select 1) to '/tmp/out.csv'",
    "attach '/tmp/out.db'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "create table t as from entries",
    "drop view entries",
    "pragma version",
    "select 1; select 2",
    "",
    "select nonsense from entries",
    "select * from nothing",
    "selec 1",
    "select path::int from entries",
]


def test_a_query_can_only_ask_about_entries(artifact: refart.Artifact) -> None:
    for query in REFUSED:
        with pytest.raises(InvalidInputError):
            artifact.sql(query)


def test_variables_of_the_caller_are_out_of_reach(artifact: refart.Artifact) -> None:
    secret = pa.table({"x": [1]})
    with pytest.raises(InvalidInputError, match="secret does not exist"):
        artifact.sql("from secret")
    assert secret.num_rows == 1


def test_a_shard_that_cannot_have_a_path_is_not_opened(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    with small_shards():
        index = shards.write(pages_of(ENTRIES)).index
    store = open_store(str(tmp_path / "store"))
    wanted = next(shard for shard in index.shards if shard.first_path <= "train/007.bin" <= shard.last_path)
    store.put_file(
        "shards", wanted.key, shards.path("shards", wanted.key), sha256=False
    )  # and none of the others
    ask = "select size from entries where path = 'train/007.bin'"
    assert sql(store, index, "x", ask).read_all().to_pylist() == [{"size": 7}]
    with pytest.raises(FormatError, match="the shards of x cannot be read"):
        sql(store, index, "x", "select count(size) from entries").read_all()


def test_a_damaged_shard_is_noticed(artifact: refart.Artifact) -> None:
    store = artifact._logged_context().store
    assert isinstance(store, FolderStore)
    (shard,) = artifact._reader().index.shards
    file = Path(str(store.local_path("shards", shard.key)))
    data = bytearray(file.read_bytes())
    data[data.index(b"train/b")] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(FormatError, match="damaged"):
        artifact.sql("select path from entries")
