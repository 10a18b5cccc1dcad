"""The simulated S3, asked by botocore and s3fs: what they list and read is what the lake holds."""

from __future__ import annotations

import hashlib
import json
from urllib.request import urlopen

import botocore.session
import pytest
import s3fs
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks import floor
from benchmarks.lake import LAYOUTS, render
from benchmarks.simulated_s3 import rate, simulated_s3

OBJECTS, NONCURRENT, DELETED, SIZE_BYTES = 234, 2, 12, 1_000
PLAIN_OBJECTS = 1_234


@pytest.fixture(scope="module", params=LAYOUTS)
def ready(request):
    """A versioned bucket of each layout, with old versions and deleted keys."""
    options = {"objects": OBJECTS, "noncurrent": NONCURRENT, "deleted": DELETED, "size_bytes": SIZE_BYTES}
    with simulated_s3(layout=request.param, versions="on", **options) as ready:
        yield ready


@pytest.fixture(scope="module")
def plain():
    """A bucket without versions."""
    with simulated_s3(objects=PLAIN_OBJECTS, layout="dates") as ready:
        yield ready


def client_of(ready):
    session = botocore.session.Session()
    # By default each LastModified costs more than all the rest; as they stand, they compare as well.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=ready["endpoint"],
        config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}),
    )


def listed(client, operation, what, **parameters):
    """All of one kind of element, over all pages."""
    pages = client.get_paginator(operation).paginate(Bucket="lake", **parameters)
    return [element for page in pages for element in page.get(what, [])]


@pytest.fixture(scope="module")
def client(ready):
    return client_of(ready)


@pytest.fixture(scope="module")
def keys(client, ready):
    return [one["Key"] for one in listed(client, "list_objects_v2", "Contents", Prefix=ready["prefix"])]


def test_every_key_is_listed_once_in_order(keys, ready):
    assert len(keys) == ready["objects"] == OBJECTS
    assert keys == sorted(set(keys), key=str.encode)
    assert all(key.startswith(ready["prefix"]) for key in keys)


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("page", [13, OBJECTS - 1, OBJECTS])
def test_all_ways_of_listing_agree(client, keys, operation, page):
    found = listed(client, operation, "Contents", PaginationConfig={"PageSize": page})
    assert [one["Key"] for one in found] == keys


def test_no_page_has_more_than_a_thousand_keys(plain):
    page = client_of(plain).list_objects_v2(Bucket="lake", MaxKeys=7_000)
    assert page["KeyCount"] == len(page["Contents"]) == 1_000


def test_a_listing_starts_behind_any_key(client, keys):
    """Whether the key exists or not."""
    for index in (0, 1, OBJECTS // 2, OBJECTS - 2, OBJECTS - 1):
        after = listed(client, "list_objects_v2", "Contents", StartAfter=keys[index])
        assert [one["Key"] for one in after] == keys[index + 1 :]
        after = listed(client, "list_objects_v2", "Contents", StartAfter=keys[index] + "\0")
        assert [one["Key"] for one in after] == keys[index + 1 :]
        at = client.list_objects_v2(Bucket="lake", StartAfter=keys[index][:-1], MaxKeys=2)
        assert keys[index] in [one["Key"] for one in at["Contents"]]


def test_a_prefix_selects(client, keys):
    for prefix in ("", keys[0][:-3], keys[OBJECTS // 2][:-1], keys[-1], keys[-1] + "0", "warehouse/f"):
        wanted = [key for key in keys if key.startswith(prefix)]
        assert [one["Key"] for one in listed(client, "list_objects_v2", "Contents", Prefix=prefix)] == wanted


def test_folders_are_listed_by_a_delimiter(client, keys, ready):
    """By every operation, over pages of any size; and folder by folder each key once."""

    def walk(prefix):
        parameters = {"Prefix": prefix, "Delimiter": "/"}
        folders = listed(client, "list_objects_v2", "CommonPrefixes", **parameters)
        for operation in ("list_objects", "list_object_versions"):
            small = {"PaginationConfig": {"PageSize": 7}} if len(folders) < 30 else {}
            assert listed(client, operation, "CommonPrefixes", **parameters, **small) == folders
        names = [one["Key"] for one in listed(client, "list_objects_v2", "Contents", **parameters)]
        return names + [key for folder in folders[:3] for key in walk(folder["Prefix"])]

    found = walk(ready["prefix"])
    assert found == [key for key in keys if key in set(found)]
    assert found


@pytest.fixture(scope="module")
def history(client, ready):
    versions = listed(client, "list_object_versions", "Versions", Prefix=ready["prefix"])
    markers = listed(client, "list_object_versions", "DeleteMarkers", Prefix=ready["prefix"])
    return versions, markers


def test_every_version_is_listed_once(client, keys, history):
    versions, markers = history
    assert len(versions) == OBJECTS * (1 + NONCURRENT) + DELETED * NONCURRENT
    assert len(markers) == DELETED
    ids = [one["VersionId"] for one in versions + markers]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 32 for one in ids)
    assert [one["Key"] for one in versions if one["IsLatest"]] == keys
    assert not {one["Key"] for one in markers} & set(keys)
    assert listed(client, "list_object_versions", "Versions", PaginationConfig={"PageSize": 50}) == versions


def test_old_versions_follow_the_latest(history):
    versions, _ = history
    for older, newer in zip(versions[1:], versions, strict=False):
        if older["Key"] == newer["Key"]:
            assert not older["IsLatest"]
            assert older["LastModified"] < newer["LastModified"]


def test_versions_start_behind_all_of_a_key_or_behind_one_version(client, history):
    versions, _ = history
    at = next(n for n in range(100, len(versions)) if versions[n]["IsLatest"])
    key, version = versions[at]["Key"], versions[at]["VersionId"]
    behind = listed(client, "list_object_versions", "Versions", KeyMarker=key)
    assert behind == [one for one in versions if one["Key"] > key]
    page = client.list_object_versions(Bucket="lake", KeyMarker=key, VersionIdMarker=version, MaxKeys=2)
    assert page["Versions"] == versions[at + 1 : at + 3]


def test_a_bucket_without_versions_lists_null_versions(plain):
    client = client_of(plain)
    assert "Status" not in client.get_bucket_versioning(Bucket="lake")
    versions = listed(client, "list_object_versions", "Versions")
    assert {(one["VersionId"], one["IsLatest"]) for one in versions} == {("null", True)}
    assert [one["Key"] for one in versions] == [
        one["Key"] for one in listed(client, "list_objects_v2", "Contents")
    ]


def test_keys_are_plain_where_no_encoding_is_asked_for(plain):
    body = urlopen(f"{plain['endpoint']}/lake?list-type=2").read()
    assert b"<EncodingType>" not in body
    assert body.count(b"<Key>warehouse/events/date=2024-01-01/hour=0") == 1_000


def test_the_sum_of_the_sizes_is_told(plain):
    sizes = [one["Size"] for one in listed(client_of(plain), "list_objects_v2", "Contents")]
    assert sum(sizes) == plain["bytes"]


def test_objects_are_read_as_their_etags_say(client, keys, history):
    versions, markers = history
    assert client.get_bucket_versioning(Bucket="lake")["Status"] == "Enabled"
    bodies = set()
    for one in versions[: 2 * (1 + NONCURRENT)]:
        which = {"Bucket": "lake", "Key": one["Key"], "VersionId": one["VersionId"]}
        body = client.get_object(**which)["Body"].read()
        assert len(body) == client.head_object(**which)["ContentLength"] == one["Size"] == SIZE_BYTES
        assert f'"{hashlib.md5(body).hexdigest()}"' == one["ETag"]
        bodies.add(body)
    assert len(bodies) == 2 * (1 + NONCURRENT)
    latest = client.get_object(Bucket="lake", Key=keys[0], IfMatch=versions[0]["ETag"])
    assert latest["VersionId"] == versions[0]["VersionId"]
    whole = latest["Body"].read()
    for wanted, part in (
        ("bytes=0-0", whole[:1]),
        ("bytes=960-979", whole[960:980]),
        ("bytes=990-2000", whole[990:]),
        ("bytes=5-", whole[5:]),
        ("bytes=-3", whole[-3:]),
    ):
        assert client.get_object(Bucket="lake", Key=keys[0], Range=wanted)["Body"].read() == part
    for status, request in (
        (404, {"Key": "none"}),
        (404, {"Key": keys[0], "VersionId": "0" * 32}),
        (404, {"Key": markers[0]["Key"]}),
        (405, {"Key": markers[0]["Key"], "VersionId": markers[0]["VersionId"]}),
        (412, {"Key": keys[0], "IfMatch": '"0"'}),
        (416, {"Key": keys[0], "Range": f"bytes={SIZE_BYTES}-"}),
    ):
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket="lake", **request)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_s3fs_finds_and_reads(ready, keys):
    """Signed, and with its own client."""
    files = s3fs.S3FileSystem(
        key="any", secret="any", endpoint_url=ready["endpoint"], skip_instance_cache=True
    )
    assert files.find(f"lake/{ready['prefix']}") == [f"lake/{key}" for key in keys]
    assert len(files.cat_file(f"lake/{keys[-1]}")) == SIZE_BYTES


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_floor_counts_every_object_once(layout):
    """With and without versions, over ranges whose ends lie within the versions of a key."""
    with simulated_s3(objects=9_999, layout=layout, versions="on", noncurrent=3, deleted=30) as ready:
        for versions, connections in ((False, 1), (False, 7), (True, 1), (True, 7), (True, 32)):
            where = ready["endpoint"], ready["bucket"], ready["prefix"]
            counted = floor.count(*where, versions=versions, connections=connections)
            assert counted[:2] == (9_999, ready["bytes"])
            assert counted.pages <= (9_999 + 30) * (4 if versions else 1) // 1_000 + connections


def test_requests_are_counted():
    with simulated_s3(objects=1_500) as ready:
        client = client_of(ready)
        listed(client, "list_objects_v2", "Contents")
        client.head_bucket(Bucket="lake")
        stats = json.load(urlopen(f"{ready['endpoint']}/_stats"))
    assert stats["requests"] == {"ListObjectsV2": 2, "HeadBucket": 1}
    assert stats["connections"] == 2
    assert stats["bytes"] > 1_500 * 300


def test_a_lake_is_the_same_every_time():
    one, other = (render(50, versioned=True, noncurrent=1, deleted=3) for _ in range(2))
    assert bytes(one.versions.slice(0, 106)) == bytes(other.versions.slice(0, 106))
    assert len(one.versions) == 50 * 2 + 3 * 2


def test_the_rate_of_the_server_is_told(capsys):
    rate(objects=1_000, pages=64)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 4  # both listings over 1, 2, 4 and 32 connections
    assert all(line.startswith("ListObject") for line in lines[1:])
