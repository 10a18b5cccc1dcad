"""Copies and deletions that S3 servers make themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from refart.errors import (
    ChecksumError,
    ConflictError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources.base import Parts
from refart.sources.clients import Refused
from refart.sources.s3 import parts as s3_parts
from refart.sources.s3 import writing as s3_writing
from refart.sources.s3.client import S3Client
from refart.sources.s3.source import S3Source
from tests.servers import SeaweedFS

PART = b"p" * (5 << 20)


@pytest.fixture
def bucket(seaweed: SeaweedFS):
    return seaweed.bucket(versioned=True)


@pytest.fixture
def source(seaweed: SeaweedFS) -> S3Source:
    return S3Source(seaweed.storage_options)


def upload_in_parts(bucket, key: str, *parts: bytes, **about) -> None:
    where = {"Bucket": bucket.bucket, "Key": key}
    upload = {**where, "UploadId": bucket.client.create_multipart_upload(**where, **about)["UploadId"]}
    sent = [
        {"PartNumber": n, "ETag": bucket.client.upload_part(**upload, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate(parts, 1)
    ]
    bucket.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})


def test_what_was_uploaded_in_parts_is_copied_in_the_same_parts(
    versioned_lake, s3_requests, monkeypatch
) -> None:
    """So its ETag is the same. moto does not tell the size of a part."""
    monkeypatch.setattr(s3_parts, "parts_of", lambda *_: Parts(len(PART), lambda: True))
    source, uri = S3Source({}), f"{versioned_lake.uri}/k"
    about = {
        "Metadata": {"by": "me"},
        "ContentType": "text/x",
        "Expires": datetime(2040, 1, 1, tzinfo=UTC),
    }
    upload_in_parts(versioned_lake, "k", PART, b"end", **about)
    entry = source.stat(uri)
    versioned_lake.put("k", b"other")
    copied = source.copy(entry, uri, over=source.stat(uri))
    assert (copied.content_id, copied.size) == (entry.content_id, entry.size)
    assert copied.pin not in (None, entry.pin)
    assert source.stat(uri) == copied
    found = versioned_lake.client.head_object(Bucket=versioned_lake.bucket, Key="k")
    assert {name: found.get(name) for name in about} == about


def test_a_server_that_gives_copied_parts_other_etags_copies_them_all_the_same(bucket, source) -> None:
    """SeaweedFS: the ETag of a part that is larger than its chunks is none of S3's."""
    upload_in_parts(bucket, "k", PART, b"end")
    entry = source.stat(f"{bucket.uri}/k")
    bucket.put("k", b"other")
    copied = source.copy(entry, entry.uri, over=source.stat(entry.uri))
    assert (copied.size, copied.content_id == entry.content_id) == (entry.size, False)
    assert bucket.client.get_object(Bucket=bucket.bucket, Key="k")["Body"].read() == PART + b"end"


def test_a_server_that_takes_the_condition_keeps_what_came_between(bucket, source, monkeypatch) -> None:
    monkeypatch.setattr(s3_writing, "_is_amazon", lambda url: True)  # so that nobody looks right before
    bucket.put("k", b"1")
    entry = source.stat(f"{bucket.uri}/k")
    bucket.put("there", b"already")
    with pytest.raises(ConflictError, match="there changed"):
        source.copy(entry, f"{bucket.uri}/there", over=None)
    with pytest.raises(ConflictError, match="there changed"):
        source.delete(entry.__class__("there", 1, entry.content_id, f"{bucket.uri}/there", "version:x"))
    assert source.stat(f"{bucket.uri}/there").size == len(b"already")


def test_objects_too_large_for_one_request_are_copied_in_parts(
    versioned_lake, s3_requests, monkeypatch
) -> None:
    monkeypatch.setattr(s3_writing, "MAX_COPY_BYTES", 1)
    source, uri = S3Source({}), f"{versioned_lake.uri}/large"
    where = {"Bucket": versioned_lake.bucket, "Key": "large"}
    versioned_lake.client.put_object(**where, Body=PART + b"end", Tagging="a=1&b=%20")
    entry = source.stat(uri)
    versioned_lake.put("large", b"other")
    monkeypatch.setattr(s3_writing, "PART_BYTES", len(PART))
    copied = source.copy(entry, uri, over=source.stat(uri))
    assert (copied.size, copied.content_id.endswith("-2")) == (entry.size, True)  # another kind of ETag
    assert s3_requests.count("UploadPartCopy") == 2
    assert versioned_lake.client.get_object(**where)["Body"].read() == PART + b"end"
    tags = {tag["Key"]: tag["Value"] for tag in versioned_lake.client.get_object_tagging(**where)["TagSet"]}
    assert tags == {"a": "1", "b": " "}


def test_a_copy_in_parts_that_fails_leaves_no_upload(versioned_lake, monkeypatch) -> None:
    monkeypatch.setattr(s3_writing, "MAX_COPY_BYTES", 1)
    source = S3Source({})
    entry = source.stat(f"{versioned_lake.uri}/README.txt")
    with pytest.raises(ConflictError):
        source.copy(entry, f"{versioned_lake.uri}/raw/labels.json", over=None)
    assert "Uploads" not in versioned_lake.client.list_multipart_uploads(Bucket=versioned_lake.bucket)


def test_a_version_that_is_gone_cannot_be_copied(versioned_lake) -> None:
    source, uri = S3Source({}), f"{versioned_lake.uri}/gone"
    version = versioned_lake.put("gone", b"1")
    entry = source.stat(uri)
    versioned_lake.delete("gone", version)
    with pytest.raises(ReferenceMissingError):
        source.copy(entry, uri, over=None)


@pytest.fixture
def instead(monkeypatch):
    """`instead(act)`: has `act(send)` answer each CopyObject, where `send()` really sends it."""

    def set_act(act) -> None:
        call = S3Client.call

        def called(self, operation, what, **parameters):
            def send():
                return call(self, operation, what, **parameters)

            return act(send) if operation == "CopyObject" else send()

        monkeypatch.setattr(S3Client, "call", called)

    return set_act


def test_a_source_that_is_overwritten_meanwhile_is_no_good_copy(unversioned_lake, instead) -> None:
    """By bytes of the same size, at a server that overlooks the condition on the source."""
    source, uri = S3Source({}), f"{unversioned_lake.uri}/k"
    unversioned_lake.put("k", b"right")
    entry = source.stat(uri)

    def overwritten(send):
        unversioned_lake.put("k", b"wrong")
        return send()

    instead(overwritten)
    with pytest.raises(ChecksumError, match="/there has other bytes than what was copied: expected md5:"):
        source.copy(entry, f"{unversioned_lake.uri}/there", over=None)


@pytest.mark.parametrize("encryption", [{}, {"ServerSideEncryption": "aws:kms"}])
def test_etags_of_what_kms_encrypts_are_not_compared(versioned_lake, instead, encryption) -> None:
    source, uri = S3Source({}), f"{versioned_lake.uri}/k"
    versioned_lake.client.put_object(Bucket=versioned_lake.bucket, Key="k", Body=b"right", **encryption)
    entry = source.stat(uri)

    def other_etag(send):
        answer = send()
        answer["CopyObjectResult"]["ETag"] = f'"{"0" * 32}"'
        return answer

    instead(other_etag)
    if encryption:
        copied = source.copy(entry, f"{uri}2", over=None)
        assert (copied.size, copied.content_id) == (5, f"md5:{'0' * 32}")
    else:
        with pytest.raises(ChecksumError):
            source.copy(entry, f"{uri}2", over=None)


@pytest.mark.parametrize("is_answered", [True, False])
def test_where_content_ids_say_nothing_the_source_is_looked_at_again(
    unversioned_lake, instead, is_answered
) -> None:
    """The first as of a server that ignores the condition on the source; the other that refuses it by a 412."""
    source, uri = S3Source({}), f"{unversioned_lake.uri}/k"
    unversioned_lake.put("k", b"right")
    entry = source.stat(uri)

    def overwritten(send):
        unversioned_lake.put("k", b"wrong")
        if not is_answered:
            raise SourceError("the server refused") from Refused("PreconditionFailed", 412)
        answer = send()
        answer["CopyObjectResult"]["ETag"] = '"of-another-kind"'
        return answer

    instead(overwritten)
    with pytest.raises(ReferenceChangedError, match=r"/k.* has changed"):
        source.copy(entry, f"{unversioned_lake.uri}/there", over=None)


def test_what_has_no_etag_for_a_condition_is_looked_at_right_before(
    versioned_lake, s3_requests, monkeypatch
) -> None:
    """At Amazon too."""
    monkeypatch.setattr(s3_writing, "_is_amazon", lambda url: True)
    source = S3Source({})
    entry = source.stat(f"{versioned_lake.uri}/README.txt")
    over = replace(source.stat(f"{versioned_lake.uri}/raw/labels.json"), content_id="none", pin="version:old")
    with pytest.raises(ConflictError):
        source.copy(entry, over.uri, over=over)
    assert s3_requests.count("CopyObject") == 0


def test_what_is_archived_is_named(versioned_lake) -> None:
    source, uri = S3Source({}), f"{versioned_lake.uri}/cold"
    where = {"Bucket": versioned_lake.bucket, "Key": "cold"}
    versioned_lake.client.put_object(**where, Body=b"1", StorageClass="GLACIER")
    with pytest.raises(SourceError, match=r"cold.* is archived \(GLACIER\): restore it first"):
        source.copy(source.stat(uri), f"{uri}2", over=None)
    versioned_lake.client.restore_object(**where, RestoreRequest={"Days": 1})
    assert source.copy(source.stat(uri), f"{uri}2", over=None).size == 1
