"""Requests to Azure Blob Storage: storage options, one client for each account, and errors in refart's words.

azure-storage-blob and not adlfs, which neither reads under a condition nor lists versions. Its synchronous clients
serve many threads.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import requests
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.core.utils import parse_connection_string
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.storage.blob import (
    BlobProperties,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    StorageStreamDownloader,
    generate_blob_sas,
)
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError, RefartError, SourceError
from refart.sources.azure.uris import BLOB_HOST, Place
from refart.sources.clients import MAX_CONNECTIONS, Refused, Renewed, code_in

T = TypeVar("T")

DRIVER_OPTIONS: Final = frozenset(
    {"account_name", "account_key", "connection_string", "credential", "sas_token", "anon", "account_host"}
    | {"tenant_id", "client_id", "client_secret", "location_mode"}
    | {"timeout", "connection_timeout", "read_timeout"}
)
"""The options of adlfs that say how to reach an account; here they mean what they mean there."""

IDENTITY_OPTIONS: Final = frozenset(
    {"authority", "managed_identity_client_id", "workload_identity_client_id", "workload_identity_tenant_id"}
    | {"exclude_workload_identity_credential", "exclude_developer_cli_credential", "exclude_cli_credential"}
    | {
        "exclude_environment_credential",
        "exclude_managed_identity_credential",
        "exclude_powershell_credential",
    }
    | {"exclude_shared_token_cache_credential", "exclude_interactive_browser_credential", "process_timeout"}
    | {"shared_cache_username", "shared_cache_tenant_id", "interactive_browser_tenant_id"}
    | {"interactive_browser_client_id"}
)
"""Of `azure.identity.DefaultAzureCredential`, to which adlfs hands on what it does not know."""

STORE_OPTIONS: Final = frozenset(
    {"blocksize", "default_fill_cache", "default_cache_type", "version_aware", "assume_container_exists"}
    | {"max_concurrency", "request_session", "socket_timeout", "asynchronous", "loop"}
    | {"use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"}
)
"""The options of adlfs that only tune its own files and caches, or that it has no use for itself. A store under the
same prefix may need them; reading references does not."""

VARIABLES: Final = ("AZURE_", "IDENTITY_", "MSI_", "IMDS_")
"""How the environment variables begin that adlfs and azure-identity look at."""

FROM_ENVIRONMENT: Final = (
    *("account_name", "account_key", "connection_string", "sas_token"),
    *("client_id", "client_secret", "tenant_id"),
)
"""Options that `AZURE_STORAGE_…` variables give where they are left open, as with adlfs."""

PIECE_BYTES: Final = 1 << 22  # 4 MiB
"""Of a blob by one GET: azure-storage-blob reads the answer whole, and holds it three times for a moment. This bounds
the memory of each thread."""

BLOCK_BYTES: Final = 1 << 18  # 256 KiB
"""Of an answer by one read from its socket."""

PAGE_BLOBS: Final = 5000
"""The most that one answer lists (REST API, "List Blobs", maxresults)."""

TIMEOUTS_S: Final = {"connection_timeout": 20, "read_timeout": 60}  # the client's own

RETRIES = 3
BACKOFF_S = 1
"""Before the first retry; then about 3 and 5 seconds. The client's own 15 and more would soon be minutes."""

# azure-identity tells every way it tried in a warning, which without a handler would go to standard error.
logging.getLogger("azure").addHandler(logging.NullHandler())

ErrorKind = type[NotFoundError] | type[PermissionDeniedError] | type[InvalidInputError] | type[SourceError]

# REST API, "Blob Storage error codes" and "Common REST API error codes". A status stands for the codes it comes with.
ERRORS: Final[Mapping[str, tuple[ErrorKind, str]]] = {
    "ContainerNotFound": (NotFoundError, "the container does not exist"),
    "ContainerBeingDeleted": (NotFoundError, "the container is being deleted"),
    "BlobNotFound": (NotFoundError, "the blob does not exist"),
    "404": (NotFoundError, "it does not exist, or is not public"),
    "AccountIsDisabled": (PermissionDeniedError, "the account is disabled"),
    "AuthenticationFailed": (
        PermissionDeniedError,
        "the credentials are not valid, or the clock of this machine is wrong",
    ),
    "InvalidAuthenticationInfo": (PermissionDeniedError, "the credentials are not valid"),
    "PublicAccessNotPermitted": (PermissionDeniedError, "the account lets nobody in without credentials"),
    "401": (PermissionDeniedError, "access is denied"),
    "403": (PermissionDeniedError, "access is denied"),
    "BlobArchived": (SourceError, "the blob is archived: move it to an online tier first"),
    "BlobBeingRehydrated": (SourceError, "the blob is still coming back from the archive"),
    "BlobUsesCustomerSpecifiedEncryption": (
        SourceError,
        "the blob is encrypted with a key that only its writer has",
    ),
    "InvalidResourceName": (InvalidInputError, "that is not the name of a container or blob"),
    "OutOfRangeInput": (InvalidInputError, "that is not the name of a container or blob"),
    "400": (InvalidInputError, "the request is not valid"),
}
TRANSIENT_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})

# What servers answer, in sets by what follows from it.
MISSING: Final = frozenset(
    {"BlobNotFound", "ContainerNotFound", "ResourceNotFound", "ContainerBeingDeleted", "404"}
)
GONE: Final = MISSING | {"InvalidQueryParameterValue", "InvalidInput", "400"}
"""A version that cannot be had: deleted, or no id that this account ever gave (400)."""
CHANGED: Final = frozenset({"ConditionNotMet", "InvalidRange", "412", "416"})
UNSUPPORTED: Final = frozenset(
    {"InvalidQueryParameterValue", "UnsupportedQueryParameter", "NotImplemented", "400", "501"}
)
"""A listing of versions where there can be none, as in a hierarchical namespace."""


class AzureClient:
    """Clients of Azure accounts under what storage options say; renewed with the environment.

    Raises `InvalidInputError` for an option that adlfs does not know.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        known = DRIVER_OPTIONS | IDENTITY_OPTIONS
        unknown = sorted(set(options) - known - STORE_OPTIONS)
        if unknown:
            raise InvalidInputError(
                f"storage option {unknown[0]!r} is not one of az://: {', '.join(sorted(DRIVER_OPTIONS))}"
            )
        self._options = {
            name: value for name, value in options.items() if name in known and value is not None
        }
        timeout = self._options.get("timeout")
        self._timeout = {} if timeout is None else {"timeout": timeout}
        self._lock = threading.Lock()
        self._accounts = Renewed[tuple[dict[str | None, BlobServiceClient], set[Place]]](
            lambda: ({}, set()), *VARIABLES
        )

    def without_versions(self) -> set[Place]:
        """Containers of which a source learnt that versions cannot be listed; forgotten with the clients."""
        return self._accounts.current()[1]

    def pages(
        self, place: Place, prefix: str, include: list[str], what: str
    ) -> Iterator[tuple[bytes, str | None]]:
        """The bodies of List Blobs, each with the marker of the next (None after the last)."""
        taken: list[bytes] = []
        pages: Any = _ask(
            what,
            lambda: (
                self._container(place)
                .list_blobs(
                    prefix or None, include, results_per_page=PAGE_BLOBS, take_listing=taken, **self._timeout
                )
                .by_page()
            ),
        )
        while _ask(what, lambda: next(pages, None)) is not None:
            yield taken.pop(), pages.continuation_token

    def soft_delete_days(self, place: Place, what: str) -> int | None:
        """For how long the account keeps deleted blobs, by Get Blob Service Properties; None where it does not."""
        policy = _ask(
            what,
            lambda: self._service(place).get_service_properties(**self._timeout)["delete_retention_policy"],
        )
        return policy.days if policy.enabled else None

    def properties(self, place: Place, key: str, what: str, **which: Any) -> BlobProperties:
        """Get Blob Properties: one HEAD."""
        _check_name(key, what)
        return _ask(
            what,
            lambda: self._container(place).get_blob_client(key).get_blob_properties(**which, **self._timeout),
        )

    def download(
        self, place: Place, key: str, what: str, start: int, stop: int | None, **which: Any
    ) -> tuple[bytes, StorageStreamDownloader[bytes]]:
        """Get Blob: at most `PIECE_BYTES` from `start` by one GET, as stored, and what the answer says."""
        _check_name(key, what)
        # Without a range, the client can tell that a blob is empty; asked for one, Azure refuses (416).
        part: dict[str, Any] = {} if stop is None and not start else {"offset": start}
        if stop is not None:
            part["length"] = min(stop - start, PIECE_BYTES)

        def send() -> tuple[bytes, StorageStreamDownloader[bytes]]:
            blob = self._container(place).get_blob_client(key)
            answer = blob.download_blob(**part, decompress=False, **which, **self._timeout)
            return next(answer.chunks(), b""), answer

        return _ask(what, send)

    def presigned(self, place: Place, key: str, what: str, version: str | None, expires_s: int) -> str:
        """The URL of a blob with a SAS that lets whoever has it read that blob, or that version of it.

        Signed with the account's key, without a request; for an identity, by a user delegation key, which is asked for.
        Raises `InvalidInputError` where there is neither: a SAS signs no other, and nothing signs nothing.
        """
        _check_name(key, what)
        service = self._service(place)
        expiry = datetime.now(UTC) + timedelta(seconds=expires_s)
        signing: dict[str, Any] = {"account_key": getattr(service.credential, "account_key", None)}
        if signing["account_key"] is None:
            if not hasattr(service.credential, "get_token"):
                raise InvalidInputError(
                    f"{what}: a URL is signed with the account's key or by an identity, and the storage options have"
                    " neither: set account_key, or leave credentials to azure.identity"
                )
            begin = datetime.now(UTC) - timedelta(minutes=5)  # clocks differ
            signing = {
                "user_delegation_key": _ask(what, lambda: service.get_user_delegation_key(begin, expiry))
            }
        sas = generate_blob_sas(
            str(service.account_name),
            place.container,
            key,
            permission=BlobSasPermissions(read=True),
            expiry=expiry,
            version_id=version,
            **signing,
        )
        url = service.get_blob_client(place.container, key).url.partition("?")[0]
        return f"{url}?{'' if version is None else f'versionid={quote(version)}&'}{sas}"

    def start_copy(
        self,
        place: Place,
        key: str,
        what: str,
        source: Place,
        source_key: str,
        version: str | None,
        **asked: Any,
    ) -> dict[str, Any]:
        """Copy Blob, from the same account; what the client tells of the copy."""
        _check_name(key, what)
        _check_name(source_key, what)
        copied = self._container(source).get_blob_client(source_key, version_id=version)
        blob = self._container(place).get_blob_client(key)
        return dict(_ask(what, lambda: blob.start_copy_from_url(copied.url, **asked, **self._timeout)))

    def delete(self, place: Place, key: str, what: str, **condition: Any) -> None:
        """Delete Blob; an account with versions keeps what was there as one."""
        _check_name(key, what)
        blob = self._container(place).get_blob_client(key)
        _ask(what, lambda: blob.delete_blob(**condition, **self._timeout))

    def _container(self, place: Place) -> ContainerClient:
        return self._service(place).get_container_client(place.container)

    def _service(self, place: Place) -> BlobServiceClient:
        accounts = self._accounts.current()[0]
        with self._lock:
            service = accounts.get(place.account)
            if service is None:
                service = accounts[place.account] = connect(self._options, place.account)
        return service


def unchanged(etag: str) -> dict[str, Any]:
    """The condition that the blob still has this ETag."""
    return {"etag": f'"{etag}"', "match_condition": MatchConditions.IfNotModified}


def connect(options: Mapping[str, Any], account: str | None) -> BlobServiceClient:
    """A client of the account, by the rules of adlfs; makes no request.

    `account` is the one that a URI names. What of the environment belongs to another account is left alone; options
    that name another one are refused.
    """
    given = {**_from_environment(account), **options}
    settings: dict[str, Any] = {
        "max_single_get_size": PIECE_BYTES,
        "max_chunk_get_size": PIECE_BYTES,
        "retry_total": RETRIES,
        "initial_backoff": BACKOFF_S,
        "increment_base": 2 * BACKOFF_S,
        "random_jitter_range": BACKOFF_S,
        "transport": _Transport(given),
    }
    try:
        if text := given.get("connection_string"):
            name = _account_of(text)
            service = BlobServiceClient.from_connection_string(text, **settings)
        else:
            name = given.get("account_name") or account
            if name is None:
                raise InvalidInputError(
                    "az:// needs an account: set account_name or connection_string in storage_options (or"
                    " AZURE_STORAGE_ACCOUNT_NAME), or write abfs://container@account.dfs.core.windows.net/key"
                )
            url = f"https://{given.get('account_host') or name + BLOB_HOST}"
            service = BlobServiceClient(url, credential=_credential(given, name), **settings)
        if mode := given.get("location_mode"):
            service.location_mode = mode
    except (AzureError, ValueError, TypeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        # Not chained: it may repeat what it was given.
        raise InvalidInputError(
            f"the storage options of az:// are not usable ({type(error).__name__})"
        ) from None
    if account not in (None, name) and name is not None:
        raise InvalidInputError(
            f"the URI names the account {account!r}, and its storage options are those of {name!r}: set options for a"
            " prefix that only URIs of one account begin with"
        )
    return service


def _from_environment(account: str | None) -> dict[str, Any]:
    """What the environment says about this account; a key, SAS or connection string opens only its own."""
    found = {name: os.environ.get(f"AZURE_STORAGE_{name.upper()}", "") for name in FROM_ENVIRONMENT}
    found = {name: value for name, value in found.items() if value}
    if account is not None:
        if found.get("account_name", account) != account:
            for name in ("account_name", "account_key", "sas_token"):
                found.pop(name, None)
        if "connection_string" in found and _account_of(found["connection_string"]) not in (None, account):
            del found["connection_string"]
    anon = os.environ.get("AZURE_STORAGE_ANON", "false").lower() not in ("false", "0", "f", "")
    return {**found, "anon": anon}


def _account_of(connection_string: Any) -> str | None:
    try:
        parts = parse_connection_string(connection_string)
    except (ValueError, AttributeError):
        raise InvalidInputError("the connection string of az:// is not one of Azure Storage") from None
    if parts.get("usedevelopmentstorage") == "true":
        return "devstoreaccount1"
    host = urlsplit(parts.get("blobendpoint", "")).hostname or ""
    return parts.get("accountname") or host[: max(host.find(".blob."), 0)] or None


def _credential(given: Mapping[str, Any], account: str) -> Any:
    if credential := given.get("credential"):
        if inspect.iscoroutinefunction(getattr(credential, "get_token", None)):
            raise InvalidInputError(
                "credential of az:// must be one of azure.identity, not of azure.identity.aio"
            )
        return credential
    if key := given.get("account_key"):
        return AzureNamedKeyCredential(account, key)
    if sas := given.get("sas_token"):
        return AzureSasCredential(sas.lstrip("?"))
    if given.get("client_id"):
        return ClientSecretCredential(
            *(given.get(name, "") for name in ("tenant_id", "client_id", "client_secret"))
        )
    if given.get("anon"):
        return None
    return DefaultAzureCredential(**{name: given[name] for name in IDENTITY_OPTIONS & given.keys()})


class _Transport(RequestsTransport):  # type: ignore[misc]  # untyped where it is lazily imported
    """The client's own transport, with as many connections as there are threads, and listings taken out.

    The client needs ten times the CPU of `azure.listing` for a listing.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        session = requests.Session()
        # A policy of the client's tries again, and follows redirects.
        no_retries = Retry(total=False, redirect=False, raise_on_status=False)
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=MAX_CONNECTIONS, max_retries=no_retries))
        super().__init__(
            session=session,
            connection_data_block_size=BLOCK_BYTES,
            **{name: given.get(name, default) for name, default in TIMEOUTS_S.items()},
        )

    def send(self, request: Any, *, take_listing: list[bytes] | None = None, **options: Any) -> Any:
        """Move the body of a listing to `take_listing`, and leave the client what it goes on by (prefix, marker).

        Where leaving out blobs has no effect, as it may be in other releases of the client, only time is lost.
        """
        response: Any = super().send(request, **options)
        if take_listing is not None and response.status_code == 200:
            body: bytes = response.body()
            take_listing.append(body)
            begin, end = body.find(b"<Blobs>"), body.rfind(b"</Blobs>")
            if 0 <= begin < end:
                rest = body[:begin] + b"<Blobs>" + body[end:]
                response.text = lambda encoding=None: rest.decode("utf-8-sig")
        return response


def _check_name(key: str, what: str) -> None:
    if not {".", ".."}.isdisjoint(key.split("/")):
        raise InvalidInputError(
            f"{what}: no request can name this blob, since '.' and '..' are resolved in the path of a URL"
        )


def _ask(what: str, send: Callable[[], T]) -> T:
    """Send a request. Raises the error of `refart.errors` that fits; `what` begins its message."""
    try:
        return send()
    except RefartError:
        raise
    except Exception as error:  # the client stumbles over odd answers
        refusal = translated(error, what)
    raise refusal  # here, where the error of Azure's is no part of the context any more


def code_of(error: RefartError) -> str:
    """What Azure called the error; the HTTP status where it gave no code, `""` where it said nothing."""
    return error.__cause__.code if isinstance(error.__cause__, Refused) else ""


def translated(error: Exception, what: str) -> RefartError:
    """The error of `refart.errors` for what the client raised. Only codes of Azure's are shown, none of its text: that
    may hold a SAS, or the string that was signed."""
    name = type(error).__name__
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return _answered(error, what)
    if isinstance(error, ClientAuthenticationError):
        return PermissionDeniedError(
            f"{what}: no Azure credentials were found, or they cannot be used ({name}); configure them, or set"
            " anon = true for a public container"
        )
    if isinstance(error, ServiceRequestError) and isinstance(
        error.inner_exception, requests.exceptions.SSLError
    ):
        return SourceError(f"{what}: the server's certificate was not accepted ({name})")
    if isinstance(error, (ServiceRequestError, ServiceResponseError, HttpResponseError)):
        return SourceError(f"{what}: the server cannot be reached or hung up ({name})", transient=True)
    return SourceError(f"{what}: the server's answer is not that of Azure Blob Storage ({name})")


def _answered(error: HttpResponseError, what: str) -> RefartError:
    status = error.status_code or 0
    said = getattr(error, "error_code", None)
    code = code_in(getattr(said, "value", said) or "") or str(status)
    kind, meaning = ERRORS.get(code) or ERRORS.get(str(status)) or (SourceError, "the server refused")
    message = f"{what}: {meaning} (the server answered {code})"
    refusal = (
        SourceError(message, transient=status in TRANSIENT_STATUS) if kind is SourceError else kind(message)
    )
    refusal.__cause__ = Refused(code, status)
    return refusal
