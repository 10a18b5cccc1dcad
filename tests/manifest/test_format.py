"""`docs/format.md` is the specification: its example must follow from its own words, twice.

Once by refart, and once by the few plain functions here, written from the document without refart or Arrow.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given

from refart.entries import SCHEMA, Entry
from refart.manifest.index import FORMATS, ManifestIndex, ShardInfo
from refart.manifest.roots import Root
from refart.manifest.shards import FILE_SCHEMA
from tests.manifest.support import FolderStore, listed, small_shards
from tests.strategies import paged, sorted_entries

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
EXAMPLE = json.loads(re.search(r"```json example\n(.*?)```", DOCUMENT, re.DOTALL).group(1))
ENTRIES = [Entry(**row) for row in EXAMPLE["entries"]]

COLUMNS = {
    "content": ["path", "size", "content_id"],
    "manifest": ["path", "size", "content_id", "uri"],
    "key": ["path", "size", "content_id", "uri", "pin"],
}


def plain_shards(entries, cut_bits=16):
    """Dictionaries sorted by path, as lists that end at cuts."""
    shards, open_shard = [], []
    for entry in sorted(entries, key=lambda e: e["path"].encode()):
        open_shard.append(entry)
        if int(hashlib.sha256(entry["path"].encode()).hexdigest(), 16) >> (256 - cut_bits) == 0:
            shards.append(open_shard)
            open_shard = []
    return shards + ([open_shard] if open_shard else [])


def plain_shard_digest(shard, name):
    data = f"refart/1 shard {name}\n".encode() + len(shard).to_bytes(8, "little")
    for column in COLUMNS[name]:
        values = [entry[column] for entry in shard]
        if column == "size":
            sizes = [-1 if v is None else v for v in values]
            data += hashlib.sha256(b"".join(v.to_bytes(8, "little", signed=True) for v in sizes)).digest()
        else:
            encoded = [None if v is None else v.encode() for v in values]
            lengths = [0xFFFFFFFF if v is None else len(v) for v in encoded]
            data += hashlib.sha256(b"".join(n.to_bytes(4, "little") for n in lengths)).digest()
            data += hashlib.sha256(b"".join(v or b"" for v in encoded)).digest()
    return hashlib.sha256(data).hexdigest()


def plain_root(digests, name):
    data = f"refart/1 root {name}\n".encode() + len(digests).to_bytes(8, "little")
    return "sha256:" + hashlib.sha256(data + b"".join(map(bytes.fromhex, digests))).hexdigest()


def plain_index(entries, file_bytes, cut_bits=16):
    """The document of an index; `file_bytes` has the size of each shard's file, which no digest covers."""
    rows = []
    for shard, size in zip(plain_shards(entries, cut_bits), file_bytes, strict=True):
        digests = {name: plain_shard_digest(shard, name) for name in COLUMNS}
        row = {
            "key": digests["key"],
            "content_digest": digests["content"],
            "manifest_digest": digests["manifest"],
        }
        row |= {"first_path": shard[0]["path"], "last_path": shard[-1]["path"], "rows": len(shard)}
        row["size_bytes"] = sum(e["size"] or 0 for e in shard)
        row["managed_bytes"] = sum(e["size"] or 0 for e in shard if e["uri"] is None)
        row["referenced_bytes"] = row["size_bytes"] - row["managed_bytes"]
        row["weak_rows"] = sum(
            e["content_id"] == "none" or e["content_id"].startswith(("stat:", "etag:W/")) for e in shard
        )
        rows.append(row | {"file_bytes": size})
    index = {"format": "refart.manifest/2", "entry_count": sum(row["rows"] for row in rows), "shards": rows}
    index["weak_count"] = sum(row["weak_rows"] for row in rows)
    for total in ("size_bytes", "managed_bytes", "referenced_bytes"):
        index[total] = sum(row[total] for row in rows)
    for name in ("content", "manifest"):
        index[f"{name}_digest"] = plain_root([row[f"{name}_digest"] for row in rows], name)
    return index


def plain_json(index):
    return json.dumps(index, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def test_example_shows_what_is_special():
    """A null of every kind, a path that is not ASCII, and a cut."""
    for column in ("size", "uri", "pin"):
        assert None in [row[column] for row in EXAMPLE["entries"]]
    assert any(not e.path.isascii() for e in ENTRIES)
    assert len(EXAMPLE["index"]["shards"]) > 1


def test_example_by_plain_functions():
    index = plain_index(EXAMPLE["entries"], [shard["file_bytes"] for shard in EXAMPLE["index"]["shards"]])
    assert index == EXAMPLE["index"]
    assert hashlib.sha256(plain_json(index)).hexdigest() == EXAMPLE["address"]


def test_example_by_refart(tmp_path):
    """Only the size of the files may differ: another Parquet library writes other bytes."""
    store = FolderStore(tmp_path)
    manifest = store.manifest(paged(ENTRIES, 3))
    found = json.loads(manifest.index.to_json())
    for shard, documented in zip(found["shards"], EXAMPLE["index"]["shards"], strict=True):
        assert shard.pop("file_bytes") > 0
        documented = {k: v for k, v in documented.items() if k != "file_bytes"}
        assert shard == documented
    assert {**found, "shards": None} == {**EXAMPLE["index"], "shards": None}
    assert listed(manifest.pages()) == ENTRIES


def test_example_index_is_readable():
    """Also by its documented address."""
    index = ManifestIndex.from_json(plain_json(EXAMPLE["index"]))
    assert index.address == EXAMPLE["address"]


def test_example_step_by_step():
    """The digests spelled out below the example are those of its first entry."""
    steps = re.search(r"```text\n(path .*?)```", DOCUMENT, re.DOTALL).group(1)
    [first, *_] = plain_shards(EXAMPLE["entries"])
    [entry] = first
    path = entry["path"].encode()
    shown = re.findall(r"[0-9a-f]{8,}", steps)
    assert shown[:3] == [
        len(path).to_bytes(4, "little").hex(),
        hashlib.sha256(len(path).to_bytes(4, "little")).hexdigest(),
        hashlib.sha256(path).hexdigest(),
    ]
    assert shown[-2] == (b"refart/1 shard content\n" + (1).to_bytes(8, "little")).hex()
    columns = bytes.fromhex("".join(digest for digest in shown[:-1] if len(digest) == 64))
    assert shown[-1] == hashlib.sha256(bytes.fromhex(shown[-2]) + columns).hexdigest()
    assert shown[-1] == plain_shard_digest(first, "content")


@given(rows=sorted_entries(max_size=40))
def test_refart_and_plain_functions_agree(tmp_path_factory, rows):
    """For any entries, to the byte of the index."""
    with small_shards():
        index = FolderStore(tmp_path_factory.mktemp("store")).write(paged(rows, 6)).index
    entries = [{name: getattr(e, name) for name in SCHEMA.names} for e in rows]
    sizes = [shard.file_bytes for shard in index.shards]
    assert plain_json(plain_index(entries, sizes, cut_bits=3)) == index.to_json()


def table_after(heading):
    """The first cells of the rows of the tables in a section."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` ", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Entries", SCHEMA.names),
        ("The shard file", FILE_SCHEMA.names),
        (
            "The index",
            [
                *("format", "content_digest", "manifest_digest", "entry_count", "size_bytes"),
                *("referenced_bytes", "managed_bytes", "weak_count", "shards", "roots"),
                *ShardInfo.__dataclass_fields__,
                *Root.__dataclass_fields__,
            ],
        ),
    ],
)
def test_tables_list_every_column_and_field(heading, names):
    assert table_after(heading) == names


def test_format_tag_is_documented():
    assert all(f"`{tag}`" in DOCUMENT for tag in FORMATS)


def test_documented_encodings_are_those_of_the_file(tmp_path):
    """The shard of the example, as its footer describes it."""
    store = FolderStore(tmp_path)
    built = store.write(paged(ENTRIES, 4))
    group = pq.ParquetFile(store.path("shards", built.index.shards[1].key)).metadata.row_group(0)
    section = DOCUMENT.split("\n## The shard file\n")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` .*\| `?(\w+)`? \|$", section, re.MULTILINE))
    for number, name in enumerate(FILE_SCHEMA.names):
        column = group.column(number)
        expected = documented[name].replace("dictionary", "RLE_DICTIONARY")
        assert expected in column.encodings
        assert column.compression == "ZSTD"
