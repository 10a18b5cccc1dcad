"""The JSON API of GCS in the words of tests: what a request asks for, how an error is said."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import parse_qs


def operation_of(method: str, path: str, query: str) -> str:
    """`list`, `get` (what an object is) or `media` (its bytes); the method and path of anything else."""
    bucket, objects, key = path.removeprefix("/storage/v1/b/").partition("/o")
    if method != "GET" or not objects or "/" in bucket:
        return f"{method} {path}"
    if not key:
        return "list"
    return "media" if parse_qs(query).get("alt") == ["media"] else "get"


def gcs_error(status: int, reason: str, message: str = "") -> dict[str, Any]:
    """The fields of a `Fault` that answers with an error as GCS says it about objects and lists."""
    error = {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}
    return {
        "status": status,
        "body": json.dumps({"error": error}).encode(),
        "headers": {"Content-Type": "application/json; charset=UTF-8"},
    }


def media_error(status: int, message: str) -> dict[str, Any]:
    """The fields of a `Fault` that answers with an error as GCS says it where bytes were asked for."""
    return {
        "status": status,
        "body": message.encode(),
        "headers": {"Content-Type": "text/html; charset=UTF-8"},
    }


@cache
def service_account() -> dict[str, str]:
    """The key file of a service account that no one has; without `token_uri`, where its tokens come from."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "refart",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": "nobody@refart.iam.gserviceaccount.com",
    }
