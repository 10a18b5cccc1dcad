"""Requests to Google Cloud Storage by its JSON API: storage options, sessions, and errors in refart's words.

Plain HTTP under google-auth, since gcsfs drops the generation of some reads. Credentials, endpoint and project are
gcsfs' to find, so that its options and the environment mean here what they mean there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast
from urllib.parse import quote

import requests
from gcsfs.core import GCSFileSystem
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from urllib3 import Retry

from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError, RefartError, SourceError
from refart.sources.clients import MAX_CONNECTIONS, Renewed, harmless

DRIVER_OPTIONS: Final = frozenset(
    {"project", "access", "token", "requester_pays", "endpoint_url", "requests_timeout", "session_kwargs"}
)
"""The options of gcsfs that say how to reach a bucket; here they mean what they mean there."""

STORE_OPTIONS: Final = frozenset(
    {"block_size", "consistency", "cache_timeout", "secure_serialize", "check_connection", "default_location"}
    | {"timeout", "asynchronous", "loop", "batch_size", "version_aware", "use_listings_cache"}
    | {"listings_expiry_time", "max_paths", "skip_instance_cache"}
)
"""The options of gcsfs that only tune its own files and caches. A store under the same prefix may need them;
reading references has no use for them."""

SESSION_OPTIONS: Final = frozenset({"proxy", "trust_env", "headers"})
"""What of `session_kwargs`, which are aiohttp's, is understood here as well."""

VARIABLES: Final = (
    "GOOGLE_",
    "CLOUDSDK_",
    "GCSFS_",
    "STORAGE_EMULATOR_HOST",
    "NO_GCE_CHECK",
    "FETCH_RAW_TOKEN",
)
"""How the environment variables begin that gcsfs and google-auth look at."""

TIMEOUT_S: Final = 60.0
"""For a connection, and for each read from it; `requests_timeout` sets another."""

# "Retry strategy" of the Cloud Storage documentation; gcsfs tries as often.
TRANSIENT_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
RETRIES = 6
CONNECT_RETRIES = 4
"""Fewer: an endpoint that cannot be reached is often misspelt."""
BACKOFF_S = 0.5
"""The first retry is at once, the second after twice this time, and so on, doubled."""

MISSING: Final = frozenset({404})
GONE: Final = MISSING | {400}
"""A generation that cannot be had: deleted, or no number that GCS could ever give."""
CHANGED: Final = frozenset({412, 416})

ErrorKind = type[NotFoundError] | type[PermissionDeniedError] | type[InvalidInputError] | type[SourceError]

# "HTTP status and error codes for JSON"; a reason tells more than its status.
ERRORS: Final[Mapping[str | int, tuple[ErrorKind, str]]] = {
    "userProjectMissing": (PermissionDeniedError, "whoever reads this bucket pays: set requester_pays"),
    "accountDisabled": (PermissionDeniedError, "access is denied: the account or its billing is disabled"),
    "rateLimitExceeded": (SourceError, "the server refused"),
    "userRateLimitExceeded": (SourceError, "the server refused"),
    400: (InvalidInputError, "the request is not valid"),
    401: (PermissionDeniedError, "access is denied"),
    403: (PermissionDeniedError, "access is denied"),
    404: (NotFoundError, "the bucket or object does not exist"),
}
TRANSIENT_REASONS: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})


class _Status(Exception):
    """What the server answered; the cause of the error that is raised for it."""


@dataclass(frozen=True, slots=True, repr=False)
class _Connection:
    session: requests.Session
    base: str
    """`https://storage.googleapis.com/storage/v1/`, or that of an emulator."""
    parameters: dict[str, str]
    proxies: dict[str, str]
    """For each request, since the environment's win over those of a session."""


class GCSClient:
    """Sessions under the credentials that storage options name; renewed with the environment they come from.

    Raises `InvalidInputError` for an option that gcsfs does not know.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - DRIVER_OPTIONS - STORE_OPTIONS)
        if unknown:
            raise InvalidInputError(
                f"storage option {unknown[0]!r} is not one of gs://: {', '.join(sorted(DRIVER_OPTIONS))}"
            )
        given = {
            name: value for name, value in options.items() if name in DRIVER_OPTIONS and value is not None
        }
        session_options = given.get("session_kwargs", {})
        if not isinstance(session_options, Mapping) or not SESSION_OPTIONS.issuperset(session_options):
            raise InvalidInputError(
                f"session_kwargs of gs:// may hold {', '.join(sorted(SESSION_OPTIONS))}; all else is for aiohttp only"
            )
        self._timeout_s = given.get("requests_timeout", TIMEOUT_S)
        if isinstance(self._timeout_s, bool) or not isinstance(self._timeout_s, (int, float)):
            raise InvalidInputError(f"requests_timeout must be seconds, not {type(self._timeout_s).__name__}")
        self._connection = Renewed(partial(_connect, given), *VARIABLES)

    def get(
        self,
        what: str,
        bucket: str,
        key: str | None,
        parameters: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """GET an object, or the list of objects; its answer with the body still to be read.

        `what` begins the message of an error. Raises the error of `refart.errors` that fits; `status_of` tells what
        the server answered.
        """
        if key in (".", ".."):
            # No object of GCS can have such a name, and in the path of a URL it would mean another one.
            raise NotFoundError(f"{what}: no object can have the name {key!r}") from _Status(404)
        path = f"b/{quote(bucket, safe='')}/o" + ("" if key is None else f"/{quote(key, safe='')}")
        return self._get(what, path, parameters, headers)

    def bucket_json(self, what: str, bucket: str, fields: str) -> dict[str, Any]:
        """What the API says about a bucket itself, to who may ask (`storage.buckets.get`)."""
        with self._get(what, f"b/{quote(bucket, safe='')}", {"fields": fields}, None) as response:
            try:
                answer = response.json()
            except ValueError:
                answer = None
        if not isinstance(answer, dict):
            raise SourceError(f"{what}: the server's answer is not one of the JSON API of GCS")
        return answer

    def _get(
        self, what: str, path: str, parameters: Mapping[str, str], headers: Mapping[str, str] | None
    ) -> requests.Response:
        return self._send("GET", what, path, parameters, headers=headers)

    def _send(
        self, method: str, what: str, path: str, parameters: Mapping[str, str], **more: Any
    ) -> requests.Response:
        here = self._connection.current()
        try:
            response = here.session.request(
                method,
                here.base + path,
                params={**here.parameters, **parameters},
                **more,
                proxies=here.proxies,
                timeout=self._timeout_s,
                stream=True,
            )
            if response.status_code >= 300:
                with response:
                    raise _answered(response, what) from _Status(response.status_code)
        except RefartError:
            raise
        except Exception as error:  # the clients stumble over odd answers
            raise translated(error, what) from None  # clients repeat headers, and what servers repeat
        return response

    def send(
        self, method: str, what: str, path: Iterable[str], parameters: Mapping[str, str], body: Any
    ) -> dict[str, Any]:
        """Send a request that changes something, once; what the API says, of a POST.

        `path` are the parts of the request's path, not encoded; `body` is sent as JSON. Errors as of `get`.
        """
        encoded = "/".join(quote(part, safe="") for part in path)
        with self._send(method, what, encoded, parameters, json=body) as response:
            try:
                answer = {} if method == "DELETE" else response.json()
            except ValueError:
                answer = None
        if not isinstance(answer, dict):
            raise SourceError(f"{what}: the server's answer is not one of the JSON API of GCS")
        return answer

    def presigned(self, what: str, bucket: str, key: str, generation: str | None, expires_s: int) -> str:
        """A URL for a GET of an object, for whoever has it. Raises `InvalidInputError` for credentials that cannot
        sign; errors of asking others to sign as of `get`."""
        from refart.sources.gcs.presign import signed_url  # here: Google's own client is slow to load

        here = self._connection.current()
        credentials = getattr(here.session, "credentials", None)
        endpoint = here.base.partition("/storage/v1")[0]
        try:
            return signed_url(
                credentials, endpoint, what, bucket, key, generation, expires_s, here.parameters
            )
        except RefartError:
            raise
        except Exception as error:
            raise translated(error, what) from None

    def get_json(
        self, what: str, bucket: str, key: str | None, parameters: Mapping[str, str]
    ) -> dict[str, Any]:
        """GET what the API says about an object, or the list of objects."""
        for left in reversed(range(RETRIES + 1)):
            with self.get(what, bucket, key, parameters) as response:
                try:
                    answer = response.json()
                except requests.JSONDecodeError:
                    break
                except requests.RequestException as error:
                    if left:
                        continue  # retries of the session end with the headers of an answer
                    raise translated(error, what) from None
                except (ValueError, RecursionError):
                    break
            if not isinstance(answer, dict):
                break
            return answer
        raise SourceError(f"{what}: the server's answer is not one of the JSON API of GCS")


def status_of(error: RefartError) -> int:
    """The HTTP status that the server answered with; 0 where it said nothing."""
    cause = error.__cause__
    return int(cause.args[0]) if isinstance(cause, _Status) else 0


def _connect(options: Mapping[str, Any]) -> _Connection:
    try:
        # Never connected itself: it finds credentials, endpoint and project. `asynchronous` spares it a thread.
        driver = GCSFileSystem(**options, asynchronous=True, skip_instance_cache=True)
        session = _session(driver.credentials.credentials)
    except (GoogleAuthError, requests.RequestException) as error:
        # Without the cause: that of a token that was asked about repeats the token in its URL.
        raise translated(error, "gs://") from None
    except Exception as error:  # gcsfs lets through whatever reading a token raises
        said = harmless(str(error)) if isinstance(error, ValueError) else ""
        raise InvalidInputError(
            f"the storage options of gs:// are not usable: {said or type(error).__name__}"
        ) from None
    session_options = options.get("session_kwargs", {})
    session.trust_env = session_options.get("trust_env", True)
    session.headers.update(session_options.get("headers") or {})
    proxy = session_options.get("proxy")
    payer = options.get("requester_pays")
    parameters = {"userProject": payer if isinstance(payer, str) else driver.project} if payer else {}
    if payer and not parameters["userProject"]:
        raise InvalidInputError(
            "requester_pays of gs:// needs the project that pays: name it, or set project"
        )
    return _Connection(session, driver.base, parameters, {"http": proxy, "https": proxy} if proxy else {})


def _session(credentials: Any) -> requests.Session:
    """A session under google-auth's credentials; None is anonymous."""
    retries = Retry(
        total=RETRIES,
        connect=CONNECT_RETRIES,
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_S,
        status_forcelist=TRANSIENT_STATUS,
        allowed_methods={"GET"},
        raise_on_status=False,
    )
    # AuthorizedSession has no types, and would try to refresh anonymous credentials.
    session: Any = requests.Session() if credentials is None else AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    session.hooks["response"].append(_read_refusal)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=MAX_CONNECTIONS, max_retries=retries))
    if credentials is not None:
        session.configure_mtls_channel()  # where the environment asks for it; gcsfs' endpoint then is another one, too
    return cast(requests.Session, session)


def _read_refusal(response: requests.Response, **_: object) -> None:
    """Read the body of a 401, so that its connection can be used again: AuthorizedSession drops it as it is."""
    if response.status_code == 401:
        response.content  # noqa: B018


def translated(error: Exception, what: str) -> RefartError:
    """The error of `refart.errors` for what requests or google-auth raised; never shows a token or a URL."""
    name = type(error).__name__
    if isinstance(error, requests.exceptions.SSLError):
        return SourceError(f"{what}: the server's certificate was not accepted ({name})")
    if isinstance(error, (requests.ConnectionError, requests.Timeout, ChunkedEncodingError, TransportError)):
        return SourceError(f"{what}: the server cannot be reached or hung up ({name})", transient=True)
    if isinstance(error, DefaultCredentialsError):
        return PermissionDeniedError(
            f'{what}: no Google credentials were found; configure them, or set token = "anon" for a public bucket'
        )
    if isinstance(error, GoogleAuthError):
        return PermissionDeniedError(f"{what}: the Google credentials cannot be used ({name})")
    if isinstance(error, requests.RequestException):
        return InvalidInputError(f"{what}: {name}")
    return SourceError(f"{what}: the server's answer is not that of GCS ({name})")


def _answered(response: requests.Response, what: str) -> RefartError:
    status = response.status_code
    reason, said = map(harmless, _explained(response))
    kind, meaning = ERRORS.get(reason) or ERRORS.get(status) or (SourceError, "the server refused")
    message = f"{what}: {meaning} (GCS answered {status}{' ' if reason else ''}{reason}{': ' if said else ''}{said})"
    if kind is SourceError:
        return SourceError(message, transient=status in TRANSIENT_STATUS or reason in TRANSIENT_REASONS)
    return kind(message)


def _explained(response: requests.Response) -> tuple[str, str]:
    """The reason and the message of an error: JSON for metadata, bare text where bytes were asked for."""
    try:
        if response.headers.get("Content-Type", "").startswith("text/"):
            is_page = response.text.lstrip().startswith("<")  # of some proxy
            return "", "" if is_page else response.text
        error = response.json()["error"]
        return str(error["errors"][0].get("reason", "")), str(error.get("message", ""))
    except (requests.RequestException, LookupError, TypeError, AttributeError):
        return "", ""
