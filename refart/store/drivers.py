"""How each driver writes an object whole, once, and unharmed; and what its errors mean.

|       | created exclusively by             | the bytes are checked by                                     |
| ----- | ---------------------------------- | ------------------------------------------------------------ |
| S3    | `If-None-Match: *`                 | the server: a Content-MD5 with the object, or with each part |
| GCS   | `ifGenerationMatch=0`              | us: the md5Hash of what was stored; what is wrong is removed |
| Azure | `If-None-Match: *`                 | the server: a Content-MD5 with the blob, or with each block  |

A driver's own file object (`fs.open(path, "xb")`) does for GCS and memory only: that of s3fs sends no checksum that
every server knows, that of adlfs none.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar, Final, Protocol

from fsspec.asyn import sync

from refart.errors import StoreError


class Upload(Protocol):
    """An object that is sent in parts, and exists from `complete()` on."""

    def add(self, part: bytes) -> None: ...

    def complete(self) -> None: ...

    def abort(self) -> None:
        """Give up; what was sent never becomes an object."""


class Driver:
    """Writing through any driver of fsspec. `exclusive` asks for an error where the object exists."""

    extra: ClassVar[str] = "all"
    """The extra of this package that installs the driver."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def send(self, path: str, data: bytes, *, exclusive: bool) -> None:
        """Write a whole object in one request."""
        self._fs.pipe_file(path, data, mode=_mode(exclusive))

    def begin(self, path: str, part_bytes: int, *, exclusive: bool) -> Upload:
        """Begin an object of several parts, all but the last of `part_bytes`."""
        return _FileUpload(self._fs, path, part_bytes, exclusive)


class _FileUpload:
    """By the driver's own file object."""

    def __init__(self, fs: Any, path: str, part_bytes: int, exclusive: bool) -> None:
        self._file = fs.open(path, "xb" if exclusive else "wb", block_size=part_bytes)

    def add(self, part: bytes) -> None:
        self._file.write(part)

    def complete(self) -> None:
        self._file.close()

    def abort(self) -> None:
        with suppress(Exception):
            self._file.discard()
        self._file.closed = True  # else the driver completes it when it is collected


class S3(Driver):
    """s3fs. Content-MD5 is the one checksum that all servers of the S3 API compare."""

    extra = "s3"

    def send(self, path: str, data: bytes, *, exclusive: bool) -> None:
        self._fs.pipe_file(path, data, mode=_mode(exclusive), ContentMD5=_base64_md5(data))

    def begin(self, path: str, part_bytes: int, *, exclusive: bool) -> Upload:
        return _S3Upload(self._fs, path, exclusive)


class _S3Upload:
    def __init__(self, fs: Any, path: str, exclusive: bool) -> None:
        self._call = fs.call_s3
        bucket, key, _ = fs.split_path(path)
        self._upload = {"Bucket": bucket, "Key": key}
        begun = self._call("create_multipart_upload", **self._upload)
        self._upload["UploadId"] = begun["UploadId"]
        # Declared by `s3_additional_kwargs`, it has to be repeated for each part on completion.
        self._checksum = f"Checksum{begun.get('ChecksumAlgorithm')}"
        self._condition = {"IfNoneMatch": "*"} if exclusive else {}
        self._parts: list[dict[str, Any]] = []

    def add(self, part: bytes) -> None:
        number = len(self._parts) + 1
        sent = self._call(
            "upload_part", **self._upload, PartNumber=number, Body=part, ContentMD5=_base64_md5(part)
        )
        kept = {name: sent[name] for name in ("ETag", self._checksum) if name in sent}
        self._parts.append({"PartNumber": number, **kept})

    def complete(self) -> None:
        self._call(
            "complete_multipart_upload",
            **self._upload,
            **self._condition,
            MultipartUpload={"Parts": self._parts},
        )

    def abort(self) -> None:
        with suppress(Exception):
            self._call("abort_multipart_upload", **self._upload)


class GCS(Driver):
    """gcsfs. It cannot send a hash along for the server to compare, so what was stored is compared."""

    extra = "gcs"

    def send(self, path: str, data: bytes, *, exclusive: bool) -> None:
        stored = self._fs.pipe_file(path, data, mode=_mode(exclusive))
        if not isinstance(stored, dict):  # older ones return nothing
            stored = self._fs.info(path)
        confirm_on_gcs(self._fs, path, stored, _base64_md5(data))

    def begin(self, path: str, part_bytes: int, *, exclusive: bool) -> Upload:
        return _GCSUpload(self._fs, path, part_bytes, exclusive)


class _GCSUpload(_FileUpload):
    def __init__(self, fs: Any, path: str, part_bytes: int, exclusive: bool) -> None:
        super().__init__(fs, path, part_bytes, exclusive)
        self._fs, self._path = fs, path
        self._md5 = hashlib.md5(usedforsecurity=False)

    def add(self, part: bytes) -> None:
        self._md5.update(part)
        super().add(part)

    def complete(self) -> None:
        # Not by gcsfs' `consistency`: it compares nothing where the last part is empty.
        super().complete()
        confirm_on_gcs(self._fs, self._path, self._fs.info(self._path), _base64(self._md5.digest()))


def confirm_on_gcs(fs: Any, path: str, stored: dict[str, Any], md5: str) -> None:
    """Raise `StoreError` where an object (its resource, as GCS describes it) has another MD5; exactly that
    generation of it is removed."""
    found = stored.get("md5Hash")
    if found == md5:
        return
    bucket, key, _ = fs.split_path(path)
    with suppress(Exception):  # it may be gone by now, or not ours to delete: readers notice
        fs.call("DELETE", "b/{}/o/{}", bucket, key, generation=stored["generation"])
    raise StoreError(
        f"{path} did not arrive as it was sent: expected the MD5 {md5}, found {found}; it was removed: try again,"
        " and check what lies between here and the server"
    )


class Azure(Driver):
    """The client of adlfs, which itself cannot ask for a check of blocks."""

    extra = "azure"

    def send(self, path: str, data: bytes, *, exclusive: bool) -> None:
        blob = _AzureBlob(self._fs, path)
        blob.call("upload_blob", data, length=len(data), overwrite=not exclusive, validate_content=True)

    def begin(self, path: str, part_bytes: int, *, exclusive: bool) -> Upload:
        return _AzureUpload(self._fs, path, exclusive)


class _AzureBlob:
    def __init__(self, fs: Any, path: str) -> None:
        self._loop = fs.loop
        container, key, _ = fs.split_path(path)
        self._client = fs.service_client.get_blob_client(container, key)

    def call(self, method: str, *arguments: Any, **options: Any) -> None:
        sync(self._loop, getattr(self._client, method), *arguments, **options)


class _AzureUpload(_AzureBlob):
    def __init__(self, fs: Any, path: str, exclusive: bool) -> None:
        super().__init__(fs, path)
        self._exclusive = exclusive
        self._ids: list[str] = []

    def add(self, part: bytes) -> None:
        self._ids.append(uuid.uuid4().hex)  # of one length, also with those of others who write the same blob
        self.call("stage_block", self._ids[-1], part, length=len(part), validate_content=True)

    def complete(self) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        condition = {"match_condition": MatchConditions.IfMissing} if self._exclusive else {}
        self.call("commit_block_list", [BlobBlock(block_id) for block_id in self._ids], **condition)

    def abort(self) -> None:
        """Nothing to do: Azure drops blocks that nobody commits, after a week."""


DRIVERS: Final[dict[str, type[Driver]]] = {
    "s3": S3,
    "s3a": S3,
    "gs": GCS,
    "gcs": GCS,
    "az": Azure,
    "abfs": Azure,
    "abfss": Azure,
    "memory": Driver,
}


def _mode(exclusive: bool) -> str:
    return "create" if exclusive else "overwrite"


def _base64_md5(data: bytes) -> str:
    return _base64(hashlib.md5(data, usedforsecurity=False).digest())


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


# -- what errors mean ------------------------------------------------------------------------------------------
# Drivers let errors of their clients through, of no common base, or wrap them: then the server's answer is the cause.


def is_taken(error: BaseException) -> bool:
    """Whether a server refused to create what exists (412), or saw two writers at once (409)."""
    said = {"PreconditionFailed", "ConditionalRequestConflict", 409, 412}
    return _is(error, FileExistsError) or not said.isdisjoint(_answers(error))


def is_not_implemented(error: BaseException) -> bool:
    """Whether a server does not know what it was asked for (501)."""
    return not {"NotImplemented", 501}.isdisjoint(_answers(error))


def is_denied(error: BaseException) -> bool:
    """Whether credentials are missing, wrong, or not enough."""
    return (
        _is(error, PermissionError)
        or not {401, 403}.isdisjoint(_answers(error))
        # botocore's NoCredentialsError, google-auth's DefaultCredentialsError and RefreshError
        or re.search("Credentials|RefreshError|ClientAuthentication", type(error).__name__) is not None
        or (isinstance(error, OSError) and str(error).startswith("Forbidden: "))  # gcsfs, of a 403
    )


def is_missing(error: BaseException) -> bool:
    """Whether the object, or its bucket or container, does not exist."""
    return _is(error, FileNotFoundError) or 404 in _answers(error)


def is_missing_bucket(error: BaseException) -> bool:
    """Whether a server of the S3 API said that it has no such bucket."""
    return "NoSuchBucket" in _answers(error)


def is_unreachable(error: BaseException) -> bool:
    """Whether no server answered."""
    names = (type(one).__name__ for one in _causes(error))
    return any(re.search("Connect|ServiceRequest|Timeout", name) for name in names)


def summary(error: BaseException) -> str:
    """One line about an error, without the queries of URLs, which may be signed."""
    first = next(iter(str(error).strip().splitlines()), "")
    said = re.sub(r"\?\S+", "?…", first)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(one, kind) for one in _causes(error))


def _answers(error: BaseException) -> set[str | int]:
    """HTTP statuses, and error codes of S3, in an error and its causes."""
    found: set[str | int] = set()
    for one in _causes(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # of botocore
            found.add(response.get("Error", {}).get("Code", ""))
            found.add(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        # In the words of azure-core, of aiohttp (where reading `code` warns), and of gcsfs
        for name in ("status_code", "status", "code"):
            status = getattr(one, name, None)
            if status is not None:
                found.add(status)
                break
    return found
