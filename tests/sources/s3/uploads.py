"""Multipart uploads, written without refart."""

from __future__ import annotations

from typing import Any

from refart.testing import Lake

PART_BYTES = 5 << 20
"""The least that S3 takes for a part that is not the last."""

PARTS = (b"a" * PART_BYTES, b"b" * PART_BYTES, b"the rest")


def upload_parts(lake: Lake, key: str, parts: tuple[bytes, ...] = PARTS, **options: Any) -> str:
    """Upload an object part by part; its URI. `options` are those of `create_multipart_upload`."""
    where = {"Bucket": lake.bucket, "Key": key}
    upload = {
        **where,
        "UploadId": lake.client.create_multipart_upload(**where, **options)["UploadId"],
    }
    algorithm = {name: options[name] for name in options if name == "ChecksumAlgorithm"}
    done = []
    for number, part in enumerate(parts, start=1):
        answer = lake.client.upload_part(**upload, PartNumber=number, Body=part, **algorithm)
        told = {name: answer[name] for name in answer if name == "ETag" or name.startswith("Checksum")}
        done.append({**told, "PartNumber": number})
    lake.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
    return f"{lake.uri}/{key}"
