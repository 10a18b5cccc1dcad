"""Adding what an S3 Inventory lists."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import Artifact, Workspace
from refart.entries import Entry, entries_of
from refart.errors import (
    ChecksumError,
    ConflictError,
    FormatError,
    InvalidInputError,
    NotFoundError,
)
from refart.manifest.roots import Root
from refart.ops.inventory import FIELDS, _decoded
from refart.testing import LAKE_OBJECTS, Lake, S3Requests
from tests.ops import inventories
from tests.ops.inventories import DATA, FORMATS, MANIFEST, Format, Row

MD5 = hashlib.md5(b"x").hexdigest()
ODD_KEYS = ("a b", "a+b", "a%20b", "a#b?c", "é/\U0001f600", "a//b", 'a"b', "a,b", "NULL", "1e5")


@pytest.fixture
def folder(tmp_path: Path, refart_workspace: Workspace) -> Path:
    """A copy of an inventory on disk."""
    return tmp_path / "copy"


def put_into(folder: Path) -> Any:
    def put(key: str, data: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return put


def row(key: str, /, **fields: Any) -> Row:
    return {"key": key, "size": 1, "e_tag": MD5, "encryption_status": "SSE-S3", **fields}


def added(folder: Path, **options: Any) -> dict[str, Entry]:
    artifact = Artifact("a", "dataset")
    artifact.add_inventory(folder / MANIFEST, **options)
    return {entry.path: entry for entry in entries(artifact)}


def entries(artifact: Artifact) -> list[Entry]:
    return [entry for page in artifact._editable().pages() for entry in entries_of(page)]


@pytest.mark.parametrize("file_format", FORMATS)
class TestFormats:
    def test_rows_become_what_a_listing_of_versions_gives(self, folder: Path, file_format: Format) -> None:
        version = {"version_id": "V1", "is_latest": True, "is_delete_marker": False}
        inventories.write(
            put_into(folder),
            [
                [row("images/a", **version), row("images/b", **version, e_tag=f"{MD5}-2")],
                [row("c", **version | {"version_id": "null"})],
            ],
            file_format,
        )
        assert added(folder) == {
            "c": Entry("c", 1, f"md5:{MD5}", "s3://lake/c", None),
            "images/a": Entry("images/a", 1, f"md5:{MD5}", "s3://lake/images/a", "version:V1"),
            "images/b": Entry("images/b", 1, f"etag:{MD5}-2", "s3://lake/images/b", "version:V1"),
        }

    def test_only_current_versions_count(self, folder: Path, file_format: Format) -> None:
        rows = [
            row("kept", version_id="2", is_latest=True, is_delete_marker=False),
            row("kept", version_id="1", is_latest=False, is_delete_marker=False, size=9),
            row("gone", version_id="2", is_latest=True, is_delete_marker=True, size=None, e_tag=None),
            row("gone", version_id="1", is_latest=False, is_delete_marker=False),
        ]
        inventories.write(put_into(folder), [rows], file_format)
        assert {path: entry.pin for path, entry in added(folder).items()} == {"kept": "version:2"}

    def test_odd_keys_are_the_exact_keys(self, folder: Path, file_format: Format) -> None:
        inventories.write(put_into(folder), [[row(key) for key in ODD_KEYS]], file_format)
        assert {entry.uri for entry in added(folder).values()} == {f"s3://lake/{key}" for key in ODD_KEYS}

    def test_the_least_fields_are_enough(self, folder: Path, file_format: Format) -> None:
        inventories.write(put_into(folder), [[row("a")]], file_format, columns=("bucket", "key"))
        assert added(folder)["a"] == Entry("a", None, "none", "s3://lake/a", None)

    def test_a_file_that_is_not_of_that_format(self, folder: Path, file_format: Format) -> None:
        data = b"no such thing\n"
        inventories.write(put_into(folder), [], file_format, files=[_told("x", data)])
        put_into(folder)(f"{DATA}/x", data)
        with pytest.raises(FormatError, match="cannot be read as the inventory says"):
            added(folder)


def _told(name: str, data: bytes) -> dict[str, Any]:
    return {"key": f"{DATA}/{name}", "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}


class TestIdentity:
    @pytest.mark.parametrize("encryption", ["SSE-KMS", "SSE-C", "DSSE-KMS"])
    def test_the_etag_of_an_encrypted_object_is_no_md5(self, folder: Path, encryption: str) -> None:
        rows = [
            row("a", encryption_status=encryption),
            row("b", encryption_status=encryption, version_id="V"),
        ]
        inventories.write(put_into(folder), [rows])
        found = added(folder)
        assert (found["a"].content_id, found["a"].pin) == (f"etag:{MD5}", f"etag:{MD5}")
        assert (found["b"].content_id, found["b"].pin) == (f"etag:{MD5}", "version:V")

    @pytest.mark.parametrize("encryption", ["NOT-SSE", "SSE-S3", None])
    def test_other_etags_are(self, folder: Path, encryption: str | None) -> None:
        inventories.write(put_into(folder), [[row("a", encryption_status=encryption)]])
        assert added(folder)["a"].content_id == f"md5:{MD5}"


class TestChoice:
    @pytest.fixture(autouse=True)
    def inventory(self, folder: Path) -> None:
        keys = ("data/a.csv", "data/b.json", "data/", "data2/c.csv", "data.csv", "other/data/d.csv")
        rows = [row(key, size=0 if key.endswith("/") else 1) for key in keys]
        inventories.write(put_into(folder), [rows[:3], rows[3:]])

    @pytest.mark.parametrize("prefix", ["data", "data/", "s3://lake/data"])
    def test_a_prefix_covers_whole_components(self, folder: Path, prefix: str) -> None:
        assert {p: e.uri for p, e in added(folder, prefix=prefix).items()} == {
            "a.csv": "s3://lake/data/a.csv",
            "b.json": "s3://lake/data/b.json",
        }

    def test_folder_markers_are_no_entries(self, folder: Path) -> None:
        assert set(added(folder)) == {
            "data/a.csv",
            "data/b.json",
            "data2/c.csv",
            "data.csv",
            "other/data/d.csv",
        }

    def test_patterns_and_a_folder(self, folder: Path) -> None:
        assert set(added(folder, prefix="data", name="x", exclude="*.json")) == {"x/a.csv"}

    def test_what_was_chosen_is_kept_for_status_and_refresh(self, folder: Path) -> None:
        artifact = Artifact("a", "dataset")
        artifact.add_inventory(folder / MANIFEST, prefix="data", name="x", include="*.csv")
        artifact.add_inventory(folder / MANIFEST, include=["data2/"])
        assert artifact._editable().roots == (
            Root("s3://lake/data", "x", ("*.csv",)),
            Root("s3://lake/", None, ("data2/",)),
        )

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"prefix": "nothing"}, NotFoundError, "matches no object"),
            ({"prefix": "s3://pond/data"}, InvalidInputError, "does not lie in s3://lake"),
            ({"prefix": "data.csv"}, InvalidInputError, "is an object"),
            ({"max_objects": 2}, InvalidInputError, "max_objects=2"),
            ({"max_objects": 0}, InvalidInputError, "at least 1"),
            ({"name": "../up"}, InvalidInputError, "not allowed"),
        ],
    )
    def test_what_is_refused_adds_nothing(
        self, folder: Path, options: dict[str, Any], error: type[Exception], match: str
    ) -> None:
        artifact = Artifact("a", "dataset")
        with pytest.raises(error, match=match):
            artifact.add_inventory(folder / MANIFEST, **options)
        assert entries(artifact) == []

    def test_nothing_is_fine_where_it_is_expected(self, folder: Path) -> None:
        assert added(folder, prefix="nothing", allow_empty=True) == {}


class TestHostile:
    @pytest.mark.parametrize(
        ("manifest", "error", "match"),
        [
            ({"version": "2031-01-01"}, FormatError, "'2016-11-30' is known"),
            ({"fileFormat": "Avro"}, FormatError, "known are CSV, ORC, Parquet"),
            ({"sourceBucket": "a/b"}, FormatError, "is no bucket"),
            ({"files": {}}, FormatError, "must be text, and files a list"),
            ({"files": [{"key": "k", "size": 1, "MD5checksum": "x"}]}, FormatError, "32 hex digits"),
            ({"fileSchema": "Bucket, Size"}, FormatError, "cannot be read"),
            ({"fileSchema": "Key, Bucket"}, FormatError, "cannot be read"),
        ],
    )
    def test_manifests(self, folder: Path, manifest: Any, error: type[Exception], match: str) -> None:
        inventories.write(put_into(folder), [[row("a")]], **manifest)
        with pytest.raises(error, match=match):
            added(folder)

    @pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"version": 1}', "\udcff", "[" * 100_000])
    def test_no_manifest_at_all(self, folder: Path, text: str) -> None:
        put_into(folder)(MANIFEST, text.encode(errors="surrogateescape"))
        with pytest.raises(FormatError, match="is not the manifest of an S3 Inventory"):
            added(folder)

    def test_no_file(self, folder: Path) -> None:
        with pytest.raises(NotFoundError, match=r"there is no inventory at .*manifest\.json"):
            added(folder)

    def test_a_data_file_with_other_bytes_adds_nothing(self, folder: Path) -> None:
        inventories.write(put_into(folder), [[row("a")], [row("b")]])
        path = folder / DATA / "1.csv"
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        path.write_bytes(data)
        artifact = Artifact("a", "dataset")
        with pytest.raises(ChecksumError, match="is not the data file that the inventory names"):
            artifact.add_inventory(folder / MANIFEST)
        assert entries(artifact) == []

    def test_a_data_file_that_is_gone(self, folder: Path) -> None:
        inventories.write(put_into(folder), [[row("a")]])
        (folder / DATA / "0.csv").unlink()
        with pytest.raises(NotFoundError, match=r"0\.csv"):
            added(folder)

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"size": -1}, InvalidInputError),
            ({"e_tag": "a\x01b"}, InvalidInputError),
            ({"version_id": "a\nb"}, InvalidInputError),
            ({"bucket": "pond"}, FormatError),
            ({"key": None}, FormatError),
        ],
    )
    def test_rows(self, folder: Path, fields: dict[str, Any], error: type[Exception]) -> None:
        inventories.write(put_into(folder), [[row("a"), row("b", **fields)]], "Parquet")
        with pytest.raises(error):
            added(folder)

    def test_keys_that_meet_in_one_path(self, folder: Path) -> None:
        inventories.write(put_into(folder), [[row("a", size=1), row("a", size=2)]])
        with pytest.raises((ConflictError, InvalidInputError), match="a"):
            added(folder)

    @given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1)))
    def test_decoding_is_the_inverse_of_encoding(self, keys: list[str]) -> None:
        import pyarrow as pa

        encoded = [inventories._csv_value("key", key) for key in keys]
        assert _decoded(pa.array(encoded, pa.string())).to_pylist() == keys


class TestOnS3:
    def test_it_costs_no_request_to_the_bucket_and_gives_what_a_listing_gives(
        self, versioned_lake: Lake, s3: Any, s3_requests: S3Requests, refart_workspace: Workspace
    ) -> None:
        s3.create_bucket(Bucket="inventories")
        listing = s3.list_object_versions(Bucket=versioned_lake.bucket)["Versions"]
        rows = [
            row(
                o["Key"],
                size=o["Size"],
                e_tag=o["ETag"].strip('"'),
                version_id=o["VersionId"],
                is_latest=True,
            )
            for o in listing
        ]
        inventories.write(
            Lake("inventories", s3).put, [rows[:2], rows[2:]], "Parquet", source=versioned_lake.bucket
        )
        s3_requests.clear()
        taken = Artifact("a", "dataset")
        taken.add_inventory(f"s3://inventories/{MANIFEST}")
        assert s3_requests.operations == ["HeadObject"] + ["GetObject"] * 3
        listed = Artifact("a", "dataset")
        listed.add_reference(versioned_lake.uri)
        assert entries(taken) == entries(listed)
        with refart_workspace.init() as run:
            version = run.log_artifact(taken)
            assert Path(version.download()).joinpath("README.txt").read_bytes() == LAKE_OBJECTS["README.txt"]

    def test_status_and_refresh_know_what_the_inventory_told(
        self, unversioned_lake: Lake, tmp_path: Path, refart_workspace: Workspace
    ) -> None:
        """Encrypted objects, too, of which a listing tells less than the inventory."""
        objects = unversioned_lake.client.list_objects_v2(Bucket=unversioned_lake.bucket)["Contents"]
        rows = [
            row(o["Key"], size=o["Size"], e_tag=o["ETag"].strip('"'), encryption_status=encryption)
            for o, encryption in zip(objects, ["SSE-KMS", "SSE-S3", "SSE-KMS", None], strict=True)
        ]
        inventories.write(put_into(tmp_path), [rows], source=unversioned_lake.bucket)
        draft = Artifact("a", "dataset")
        draft.add_inventory(tmp_path / MANIFEST)
        before = entries(draft)
        assert draft.refresh().is_empty
        assert [entry.content_id for entry in entries(draft)] == [entry.content_id for entry in before]
        unversioned_lake.put("later", b"x")
        report = draft.refresh()
        assert (report.kept, report.added) == (4, 1)

    def test_a_manifest_of_another_form_of_json(
        self, versioned_lake: Lake, refart_workspace: Workspace
    ) -> None:
        versioned_lake.put("manifest.json", json.dumps({"entries": []}).encode())
        with pytest.raises(FormatError):
            Artifact("a", "dataset").add_inventory(f"{versioned_lake.uri}/manifest.json")


def test_every_field_is_one_of_the_documented_ones() -> None:
    assert [named for named, _ in FIELDS.values()] == [
        *("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "ETag", "EncryptionStatus"),
    ]
