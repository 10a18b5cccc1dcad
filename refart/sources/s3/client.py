"""Requests to S3 by botocore: storage options, one client per environment, and errors in refart's words.

botocore and not aiobotocore (s3fs): its clients serve many threads, and `moto.mock_aws` can stand in for
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import botocore.session
from botocore import UNSIGNED, xform_name
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError, RefartError, SourceError
from refart.sources.clients import MAX_CONNECTIONS, Refused, Renewed, code_in, harmless
from refart.sources.s3 import whole as s3_whole
from refart.sources.s3.whole import WholeReader

READ_OPTIONS: Final = frozenset(
    {"key", "secret", "token", "username", "password", "profile", "anon", "endpoint_url", "use_ssl"}
    | {"client_kwargs", "config_kwargs", "requester_pays", "s3_additional_kwargs"}
    | {"max_concurrency", "version_aware"}
)
"""The options of s3fs that say how to reach a bucket; here they mean what they mean there."""

STORE_OPTIONS: Final = frozenset(
    {"default_block_size", "default_fill_cache", "default_cache_type", "cache_regions", "max_paths"}
    | {"fixed_upload_size", "local_expiry_check", "asynchronous", "loop", "session"}
    | {"use_listings_cache", "listings_expiry_time", "skip_instance_cache"}
)
"""The options of s3fs that only tune its own files and caches. A store under the same prefix may need them;
reading references has no use for them."""

LISTINGS: Final = ("ListObjectsV2", "ListObjectVersions")

ErrorKind = type[NotFoundError] | type[PermissionDeniedError] | type[InvalidInputError] | type[SourceError]

# Amazon S3 API reference, "Error responses". A HEAD has no body and so only its status for a code.
ERRORS: Final[Mapping[str, tuple[ErrorKind, str]]] = {
    "NoSuchBucket": (NotFoundError, "the bucket does not exist"),
    "NoSuchKey": (NotFoundError, "the object does not exist"),
    "NoSuchVersion": (NotFoundError, "that version does not exist"),
    "404": (NotFoundError, "the bucket or object does not exist"),
    "AccessDenied": (PermissionDeniedError, "access is denied"),
    "AllAccessDisabled": (PermissionDeniedError, "access is denied"),
    "403": (PermissionDeniedError, "access is denied"),
    "401": (PermissionDeniedError, "access is denied"),
    "ExpiredToken": (PermissionDeniedError, "the credentials have expired"),
    "InvalidToken": (PermissionDeniedError, "the credentials are not valid"),
    "InvalidAccessKeyId": (PermissionDeniedError, "the credentials are not valid"),
    "SignatureDoesNotMatch": (PermissionDeniedError, "the credentials are not valid"),
    "RequestTimeTooSkewed": (PermissionDeniedError, "the clock of this machine is wrong"),
    "InvalidObjectState": (SourceError, "the object is archived: restore it first"),
    "ObjectNotInActiveTierError": (SourceError, "the object is archived: restore it first"),
    "InvalidBucketName": (InvalidInputError, "that is not a bucket name"),
    "KeyTooLongError": (InvalidInputError, "the key is longer than S3 allows"),
}

TRANSIENT: Final = frozenset(
    {"SlowDown", "RequestTimeout", "RequestTimeoutException", "Throttling", "InternalError"}
)
TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

# What servers answer, in sets by what follows from it. A HEAD has its status only.
DENIED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "403"})
UNSUPPORTED: Final = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405"})
MISSING: Final = frozenset({"NoSuchKey", "NoSuchBucket", "NotFound", "404"})
GONE: Final = MISSING | {"NoSuchVersion", "MethodNotAllowed", "405", "InvalidArgument", "400"}
"""A version that cannot be had: purged, a delete marker (405), or no id that this bucket ever gave (400)."""
CHANGED: Final = frozenset({"PreconditionFailed", "412", "InvalidRange", "416"})


class S3Client:
    """A botocore client made from storage options; renewed with the `AWS_…` environment."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - READ_OPTIONS - STORE_OPTIONS)
        if unknown:
            raise InvalidInputError(
                f"storage option {unknown[0]!r} is not one of s3://: {', '.join(sorted(READ_OPTIONS))}"
            )
        self.lists_versions: bool | None = options.get("version_aware")
        """s3fs' `version_aware`; None where it is not said."""
        self.max_concurrency: int | None = options.get("max_concurrency")
        """s3fs' `max_concurrency`: of requests for one thing at once; None where it is not said."""
        if self.max_concurrency is not None and (
            not isinstance(self.max_concurrency, int) or self.max_concurrency < 1
        ):
            raise InvalidInputError("the storage option max_concurrency of s3:// must be at least 1")
        self._client = Renewed(partial(_make, dict(options)), "AWS_")
        self._signing = Renewed(partial(_make, _signing_by_v4(options)), "AWS_")
        self._extra = dict(options.get("s3_additional_kwargs") or {})
        if options.get("requester_pays"):
            self._extra["RequestPayer"] = "requester"

    def call(self, operation: str, what: str, **parameters: Any) -> dict[str, Any]:
        """Send one request (`operation` in the words of the S3 API) and return botocore's response.

        Listings come unparsed: their bytes stand under `RawBody`. `what` begins the message of an error.
        Raises the error of `refart.errors` that fits; `code_of` tells what the server called it.
        """
        try:
            client, learnt = self._client.current()
            shape = client.meta.service_model.operation_model(operation).input_shape
            extra = {name: value for name, value in self._extra.items() if name in shape.members}
            response: dict[str, Any] = getattr(client, xform_name(operation))(**{**extra, **parameters})
        except RefartError:
            raise
        except Exception as error:  # botocore stumbles over odd answers, too
            failure = translated(error, what)
        else:
            if learnt.whole is not None and (way := response.pop(s3_whole.WAY, None)) is not None:
                learnt.whole.learn(parameters["Bucket"], parameters["Key"], way)
            return response
        raise failure  # here, where the error of botocore's is no part of the context any more

    @property
    def endpoint_url(self) -> str:
        """Where requests go that name no bucket."""
        return str(self._client.current()[0].meta.endpoint_url)

    def presigned(self, what: str, expires_s: int, **parameters: Any) -> str:
        """A URL that makes a GetObject of these parameters for whoever has it, without a request. Errors as of `call`.

        Raises `InvalidInputError` where the storage options ask for headers (a requester who pays, a customer's key):
        they would be signed, and a URL alone cannot carry them.
        """
        try:
            client, _ = self._signing.current()
            shape = client.meta.service_model.operation_model("GetObject").input_shape
            extra = {name: value for name, value in self._extra.items() if name in shape.members}
            url: str = client.generate_presigned_url(
                "get_object", Params={**extra, **parameters}, ExpiresIn=expires_s
            )
        except RefartError:
            raise
        except Exception as error:
            failure = translated(error, what)
        else:
            signed = parse_qs(urlsplit(url).query).get("X-Amz-SignedHeaders", ["host"])[0].split(";")
            if signed != ["host"]:
                headers = ", ".join(header for header in signed if header != "host")
                raise InvalidInputError(
                    f"{what}: by its storage options it is read with the headers {headers}, which no URL can carry"
                )
            return url
        raise failure  # as in `call`

    def place(self) -> tuple[str, str]:
        """Endpoint and region that requests go to."""
        meta = self._client.current()[0].meta
        return str(meta.endpoint_url), str(meta.region_name or "")

    def learnt(self) -> Learnt:
        """What a source learnt about buckets through this client; forgotten with it."""
        return self._client.current()[1]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What requests told about buckets."""

    has_versions: dict[str, bool] = field(default_factory=dict)
    """Whether to list with version ids."""

    unordered: set[str] = field(default_factory=set)
    """Those that do not list by key, or not from a key on."""

    whole: WholeReader | None = None
    """The quick way to small objects, where there is one."""


def _signing_by_v4(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a client that signs URLs: botocore's own choice for some regions is version 2, by which objects
    under KMS cannot be read."""
    if options.get("anon"):
        return dict(options)
    return {
        **options,
        "config_kwargs": {"signature_version": "s3v4", **(options.get("config_kwargs") or {})},
    }


def _make(options: Mapping[str, Any]) -> tuple[Any, Learnt]:
    """A client, and room for what is learnt through it."""
    session = botocore.session.Session(profile=options.get("profile"))
    settings: dict[str, Any] = {
        "max_pool_connections": MAX_CONNECTIONS,
        # Whole reads ask for a checksum themselves; some servers answer ranges with that of the whole object.
        "response_checksum_validation": "when_required",
    }
    if options.get("anon"):
        settings["signature_version"] = UNSIGNED
    settings.update(options.get("config_kwargs") or {})
    given = {
        "aws_access_key_id": options.get("key") or options.get("username"),
        "aws_secret_access_key": options.get("secret") or options.get("password"),
        "aws_session_token": options.get("token"),
        "endpoint_url": options.get("endpoint_url"),
        "use_ssl": options.get("use_ssl"),
    }
    arguments = {name: value for name, value in given.items() if value is not None}
    arguments.update(options.get("client_kwargs") or {})
    try:
        client = session.create_client("s3", **{"config": Config(**settings), **arguments})
    except (BotoCoreError, TypeError, ValueError) as error:
        said = harmless(str(error)) if isinstance(error, BotoCoreError) else ""
        raise InvalidInputError(
            f"the storage options of s3:// are not usable: {said or type(error).__name__}"
        ) from None
    for listing in LISTINGS:
        # With the asterisk it comes before all that is registered for s3 (`botocore.hooks`, the order of a search).
        client.meta.events.register(f"before-parse.*.{listing}", _leave_unparsed)
    client.meta.events.register("before-parse.*.GetObject", _drop_times)
    return client, Learnt(whole=s3_whole.reader_of(client, session, options, arguments))


def _drop_times(response_dict: dict[str, Any], **_: object) -> None:
    """Take away the headers that botocore would parse to times, which takes it longer than all others; nobody asks."""
    for header in ("Last-Modified", "Expires"):
        response_dict["headers"].pop(header, None)


def _leave_unparsed(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Take the body of a successful listing away before botocore parses it.

    `before-parse` is the event by which botocore's own handlers amend responses. One of them reads the body of every
    200, too, since it may carry an error; so this one comes first, and takes away only what begins and ends as a
    listing. All else is left to them, to be noticed, and to be asked for again.
    """
    body = response_dict["body"]
    if response_dict["status_code"] != 200:
        return
    for root in (b"ListBucketResult", b"ListVersionsResult"):
        if b"<" + root in body[:1024] and body[-64:].rstrip().endswith(b"</%b>" % root):
            customized_response_dict["RawBody"] = body
            response_dict["body"] = b"<%b/>" % root


def code_of(error: RefartError) -> str:
    """What the server called the error: S3's code, the HTTP status where it sent none, `""` where it said
    nothing."""
    return error.__cause__.code if isinstance(error.__cause__, Refused) else ""


def translated(error: Exception, what: str) -> RefartError:
    """The error of `refart.errors` for what botocore raised; never shows credentials, signatures, headers."""
    if isinstance(error, ClientError):
        return _answered(error, what)
    name = type(error).__name__
    if isinstance(error, NoCredentialsError):
        return PermissionDeniedError(
            f"{what}: no AWS credentials were found; configure them, or set anon = true for a public bucket"
        )
    if isinstance(error, (PartialCredentialsError, CredentialRetrievalError, SSOError, TokenRetrievalError)):
        return PermissionDeniedError(f"{what}: the AWS credentials cannot be used ({name})")
    if isinstance(error, SSLError):
        return SourceError(f"{what}: the server's certificate was not accepted ({name})")
    if isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError)):
        return SourceError(f"{what}: the server cannot be reached or hung up ({name})", transient=True)
    if isinstance(error, BotoCoreError):
        return InvalidInputError(f"{what}: {harmless(str(error)) or name}")
    return SourceError(f"{what}: the server's answer is not that of S3 ({name})")


def _answered(error: ClientError, what: str) -> RefartError:
    code = code_in(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kind, meaning = ERRORS.get(code) or ERRORS.get(str(status)) or (SourceError, "the server refused")
    said = harmless(error.response.get("Error", {}).get("Message") or "")
    answer = f"{error.operation_name} was answered {code or status}{': ' if said else ''}{said}"
    message = f"{what}: {meaning} ({answer})"
    is_transient = code in TRANSIENT or status in TRANSIENT_STATUS
    refusal = SourceError(message, transient=is_transient) if kind is SourceError else kind(message)
    refusal.__cause__ = Refused(code, status)
    return refusal
