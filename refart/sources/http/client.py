"""Requests to web servers: storage options, one session a process, redirects, and errors in refart's words."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    InvalidProxyURL,
    ProxyError,
    RequestException,
    SSLError,
    TooManyRedirects,
)
from urllib3.exceptions import HTTPError

from refart.errors import InvalidInputError, PermissionDeniedError, RefartError, SourceError
from refart.parallel import check_stopped
from refart.sources.clients import MAX_CONNECTIONS, Renewed

READ_OPTIONS: Final = frozenset({"headers", "auth", "ssl", "timeout", "trust_env"})
"""Options of fsspec's HTTPFileSystem (for each request, or in `client_kwargs`) that say how to reach a server."""

TUNING_OPTIONS: Final = frozenset(
    {"simple_links", "same_scheme", "size_policy", "block_size", "cache_type", "cache_options", "encoded"}
    | {
        "asynchronous",
        "loop",
        "use_listings_cache",
        "listings_expiry_time",
        "max_paths",
        "skip_instance_cache",
    }
)
"""Options of HTTPFileSystem that tune its own listings, files and caches; reading references has no use for them."""

TIMEOUT_S: Final = 60.0
"""How long a server may keep silent."""

TRIES: Final = 3
PAUSE_S: Final = 0.5
"""Before a request is sent again; doubled each time. A server may ask for up to `LONGEST_PAUSE_S` (Retry-After)."""
LONGEST_PAUSE_S: Final = 30.0

TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
DENIED_STATUS: Final = frozenset({401, 403, 407})
MISSING_STATUS: Final = frozenset({404, 410})

OURS: Final = frozenset(
    {
        "accept-encoding",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "range",
    }
)
"""Headers that say which bytes are meant."""

HARMLESS: Final = frozenset({"accept", "accept-language", "user-agent"})
"""Headers that other hosts may see."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE = re.compile(
    r"[^\x00-\x20\x7f\u0100-\U0010ffff]([^\x00-\x08\x0a-\x1f\x7f\u0100-\U0010ffff]*)\Z"
)


class HTTPClient:
    """One session for all threads, made from storage options when it is first needed and again after a fork.

    What the options leave open is found as every tool built on `requests` finds it: proxies, CA bundles
    (`REQUESTS_CA_BUNDLE`) and `~/.netrc`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        settings = _settings(options)
        self._timeout_s: float = settings.get("timeout", TIMEOUT_S)
        self._session = Renewed(partial(_Session, settings))

    def send(
        self, method: str, uri: str, what: str, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one request and return the final answer, whatever its status, with its body unread: close it.

        Redirects are followed. What may pass (`TRANSIENT_STATUS`, lost connections) is tried again. `what` begins the
        message of an error; it never shows where a redirect led to, since that may be signed.
        """
        session = self._session.current()
        request = _prepared(session, requests.Request(method, uri, headers=dict(headers or {})), what)
        pause_s = PAUSE_S
        for left in reversed(range(TRIES)):
            asked_s = 0.0
            try:
                response = session.send(
                    request,
                    timeout=self._timeout_s,
                    allow_redirects=True,
                    **session.merge_environment_settings(request.url or "", {}, True, session.verify, None),
                )
            except (RequestException, HTTPError, OSError, ValueError) as error:
                # Not as its cause: what clients say may name the URL that a redirect led to.
                failure = _unanswered(error, what)
                if not left or not failure.transient:
                    raise failure from None
            else:
                if not left or response.status_code not in TRANSIENT_STATUS:
                    return response
                asked_s = _retry_after_s(response)
                response.close()
            check_stopped()
            time.sleep(min(max(pause_s, asked_s), LONGEST_PAUSE_S))
            pause_s *= 2
        raise AssertionError("the last try returns or raises")


def refused(response: requests.Response, what: str) -> RefartError:
    """The error for an answer that carries no bytes."""
    status = response.status_code
    answer = f"{response.request.method} was answered {status}"
    if status in DENIED_STATUS:
        return PermissionDeniedError(f"{what}: access is denied ({answer})")
    return SourceError(f"{what}: the server refused ({answer})", transient=status in TRANSIENT_STATUS)


class _Downgraded(RequestException):
    """A redirect from https:// to http://."""


class _Session(requests.Session):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        adapter = HTTPAdapter(pool_connections=MAX_CONNECTIONS, pool_maxsize=MAX_CONNECTIONS)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        given = settings.get("headers", {})
        self._guarded = [name for name in given if name.lower() not in HARMLESS]
        self.headers.update({**given, "Accept-Encoding": "identity"})
        self.verify = settings.get("ssl", True)
        self.trust_env = settings.get("trust_env", True)
        if "auth" in settings:
            self.auth = settings["auth"]
        elif "Authorization" in self.headers:
            self.auth = _as_given  # otherwise ~/.netrc would take its place

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called before a redirect is followed: what was configured for one host is for no other."""
        before, after = str(response.request.url), str(prepared_request.url)
        if before.lower().startswith("https:") and not after.lower().startswith("https:"):
            raise _Downgraded
        inherited: Any = super()  # typed in some releases only
        if inherited.should_strip_auth(before, after):
            for name in self._guarded:
                prepared_request.headers.pop(name, None)
            inherited.rebuild_auth(prepared_request, response)  # ~/.netrc may know the other host


def _as_given(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _prepared(session: requests.Session, request: requests.Request, what: str) -> requests.PreparedRequest:
    try:
        return session.prepare_request(request)
    except (RequestException, HTTPError, ValueError):
        raise InvalidInputError(f"{what}: that is no web address: write https://host/path") from None


def _unanswered(error: Exception, what: str) -> SourceError:
    """The error for a request that was not answered; never shows URLs, headers or credentials."""
    name = type(error).__name__
    if isinstance(error, SSLError):
        return SourceError(
            f"{what}: no secure connection, the server's certificate or protocol is not accepted ({name}); a private"
            " authority is named by REQUESTS_CA_BUNDLE"
        )
    if isinstance(error, (ProxyError, InvalidProxyURL)):
        return SourceError(f"{what}: the proxy cannot be reached or refused ({name})", transient=True)
    if isinstance(error, TooManyRedirects):
        return SourceError(f"{what}: redirects lead on and on, or in circles")
    if isinstance(error, _Downgraded):
        return SourceError(
            f"{what}: is redirected from https:// to http://, where bytes can be changed on their way; that was not"
            " followed"
        )
    if isinstance(error, ValueError):  # InvalidURL, InvalidSchema, … (the URI itself was prepared before)
        return SourceError(f"{what}: is redirected to what is no web address ({name})")
    return SourceError(f"{what}: the server cannot be reached or hung up ({name})", transient=True)


def _retry_after_s(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if re.fullmatch("[0-9]{1,6}", value) else 0.0


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that count, checked. Raises `InvalidInputError`; values are never shown."""
    client = options.get("client_kwargs", {})
    if not isinstance(client, Mapping):
        raise InvalidInputError("the storage option client_kwargs of http(s):// must be a table")
    top = {name: value for name, value in options.items() if name not in TUNING_OPTIONS | {"client_kwargs"}}
    settings = {**client, **top}
    if unknown := sorted(settings.keys() - READ_OPTIONS):
        raise InvalidInputError(
            f"storage option {unknown[0]!r} is not one of http(s)://: {', '.join(sorted(READ_OPTIONS))}, client_kwargs"
        )
    if "headers" in settings:
        settings["headers"] = {**_headers(client.get("headers", {})), **_headers(top.get("headers", {}))}
    if "auth" in settings:
        settings["auth"] = _auth(settings["auth"])
    for name in ("ssl", "trust_env"):
        if not isinstance(settings.get(name, True), bool):
            raise InvalidInputError(f"the storage option {name} of http(s):// must be true or false")
    timeout = settings.get("timeout", TIMEOUT_S)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidInputError(
            "the storage option timeout of http(s):// must be a number of seconds above 0"
        )
    return settings


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidInputError("the storage option headers of http(s):// must be a table of texts")
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name) or name.lower() in OURS:
            raise InvalidInputError(f"the storage option headers of http(s):// cannot hold {name!r}")
        if not isinstance(text, str) or not _HEADER_VALUE.match(text):
            raise InvalidInputError(
                f"the header {name!r} in the storage options of http(s):// is no usable text"
            )
    return dict(value)


def _auth(value: object) -> tuple[bytes, bytes]:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(v, str) for v in value):
        raise InvalidInputError("the storage option auth of http(s):// must be [user, password]")
    return value[0].encode(), value[1].encode()  # RFC 7617: most servers take UTF-8
