"""Signed URLs of GCS (version 4), made with Google's own library; the generation is part of what is signed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.auth.credentials import Signing
from google.cloud.storage import Client

from refart.errors import InvalidInputError


def signed_url(
    credentials: Any,
    endpoint: str,
    what: str,
    bucket: str,
    key: str,
    generation: str | None,
    expires_s: int,
    parameters: Mapping[str, str],
) -> str:
    """A URL for a GET of an object. Makes no request where the credentials hold a private key.

    Raises `InvalidInputError` for credentials that cannot sign, such as those of a person or of a machine's metadata
    server, and whatever impersonated ones raise, since they are asked to sign by a request.
    """
    if not isinstance(credentials, Signing):
        kind = "anonymous" if credentials is None else f"of the kind {type(credentials).__name__}"
        raise InvalidInputError(
            f"{what}: the credentials are {kind}, which cannot sign a URL: use the key of a service account, or"
            " impersonate one"
        )
    blob = Client(project="-", credentials=credentials).bucket(bucket).blob(key)
    url: str = blob.generate_signed_url(
        version="v4",
        expiration=timedelta(seconds=expires_s),
        api_access_endpoint=endpoint,
        generation=generation,
        query_parameters=dict(parameters),
    )
    return url
