"""Whole small objects of S3 by obstore, which takes a fraction of the time that botocore takes for a request.

Only where the bytes are hashed and compared with what is recorded, and only the way that botocore has just gone: a GET
of botocore's that was answered over a socket tells the endpoint, the region and the manner of signing of a bucket. So
nothing is configured twice, and no request leaves where botocore's would not: under a mock, none ever was on a socket.
Whatever obstore cannot do alike (`reader_of`), and whatever it does not answer to perfection, is left to botocore,
whose answer is the one that counts. Needs `pip install 'refart[fast]'`; without it, botocore reads everything.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import stat
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, urlsplit

from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, HTTPHeaders
from botocore.credentials import Credentials

from refart.parallel import Stopped
from refart.sources.pinned import Which

if TYPE_CHECKING:
    from obstore.store import S3Credential

MOST_BYTES: Final = 1 << 20  # 1 MiB
"""Of an object, which is held in memory until it was compared. In larger ones, hashes are what takes the time."""

WAY: Final = "RefartWay"
"""Where a response of botocore's carries the `Way` it came."""

LONGEST_REST: Final = 4096
"""After failures in a row, ever more objects are left to botocore, at most so many, before obstore is tried again."""

CLIENT_KWARGS: Final = frozenset(
    {"region_name", "endpoint_url", "use_ssl"}
    | {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
)
CONFIG_KWARGS: Final = frozenset(
    {"region_name", "signature_version", "s3", "retries", "max_pool_connections"}
    | {"connect_timeout", "read_timeout"}
)
"""What may be said to botocore beyond s3fs' own options: the way of a response tells what came of it."""

REPLACED: Final = frozenset(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"}
    | {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"}
    | {"AWS_ROLE_SESSION_NAME", "AWS_ENDPOINT_URL_STS", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"}
    | {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
)
"""Variables that obstore looks at and that do not count here, since credentials, region and endpoint are given."""

# obstore normalises what is no path to it ("a/" and "/a" are "a") and refuses the rest. Only keys that are the same in
# anybody's eyes get there: no empty segment, no dots alone, nothing that an encoder might take for encoded.
_KEY: Final = re.compile(r"(?!\.{1,2}(/|\Z))[\w.,=+@:!&$;()' -]+(/(?!\.{1,2}(/|\Z))[\w.,=+@:!&$;()' -]+)*\Z")
_BASE: Final = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*\Z")
_BUCKET: Final = re.compile(r"(?!.*--)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
"""General purpose buckets: access points and directory buckets have ways of their own."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a GET of botocore's reached the server that answered it."""

    url: str
    region: str | None
    """For which it was signed; None where it was not."""


def note_way(
    response: tuple[Any, dict[str, Any]] | None, request_dict: Mapping[str, Any] | None = None, **_: object
) -> None:
    """Note the way of a successful response that came over a socket. (botocore's event `needs-retry`.)"""
    http, parsed = response or (None, {})
    if http is None or http.status_code != 200 or request_dict is None:
        return
    try:
        is_from_network = stat.S_ISSOCK(os.fstat(http.raw.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # whoever stands in for the network has no socket
        return
    if not is_from_network:
        return
    context = request_dict["context"]
    if context.get("client_config") is None:
        return
    if context["client_config"].signature_version is UNSIGNED:
        parsed[WAY] = Way(http.url, None)
    elif context.get("auth_type") == "v4" and (region := context.get("signing", {}).get("region")):
        parsed[WAY] = Way(http.url, region)


def reader_of(
    client: Any, session: Any, options: Mapping[str, Any], given: Mapping[str, Any]
) -> WholeReader | None:
    """The quick way for what a client reads; None where obstore is not installed, or cannot do as the client does.

    `options` are those of the source, `given` what the client was made with. Here, and by `WholeReader.learn`, it is
    decided what obstore can do alike.
    """
    config = client.meta.config
    if (
        find_spec("obstore") is None
        or options.get("s3_additional_kwargs")
        or not CLIENT_KWARGS.issuperset(options.get("client_kwargs") or ())
        or not CONFIG_KWARGS.issuperset(options.get("config_kwargs") or ())
        or config.proxies
        or config.proxies_config
        or config.client_cert
        or config.signature_version not in ("s3v4", UNSIGNED)
        or urllib.request.getproxies()  # which of them count for which host, clients see differently
    ):
        return None
    if config.signature_version is UNSIGNED:
        credentials = None
    elif "aws_access_key_id" in given:
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        credentials = Credentials(*map(given.get, names))
    elif (credentials := session.get_credentials()) is None:
        return None
    has_own_ca = bool(session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE"))
    client.meta.events.register("needs-retry.s3.GetObject", note_way)
    return WholeReader(client, credentials, bool(options.get("requester_pays")), has_own_ca)


@dataclass(slots=True)
class WholeReader:
    """The quick way to the objects that one botocore client reads."""

    client: Any
    credentials: Any
    """As botocore finds and renews them; None where requests are not signed."""

    pays: bool
    """Whether requests say so (requester-pays)."""

    has_own_ca: bool
    """Whether certificates are judged by a file of the user's; obstore would trust those of the system, too."""

    _buckets: dict[str, _Bucket | None] = field(default_factory=dict)

    def learn(self, bucket: str, key: str, way: Way) -> None:
        """Take note of how botocore got to an object."""
        if bucket not in self._buckets:
            known = None
            with suppress(Exception):  # an obstore that cannot be loaded is none
                known = self._bucket(bucket, key, way)
            self._buckets.setdefault(bucket, known)

    def get(
        self, bucket: str, key: str, which: Which, size: int, is_right: Callable[[bytes], bool]
    ) -> bytes | None:
        """All bytes of an object, if they are of exactly that size and right; None where botocore is to be asked.

        Raises nothing that a server, a network or a configuration could be the reason for.
        """
        known = self._buckets.get(bucket)
        if known is None or size > MOST_BYTES or not _KEY.match(key) or known.rests():
            return None
        data = known.get(self, key, which, size)
        if data is None or not is_right(data):
            known.failed()
            return None
        known.failures = 0
        return data

    def store(self, bucket: _Bucket) -> Any:
        """obstore's store of a bucket, with the credentials that botocore would use now."""
        frozen = None if self.credentials is None else self.credentials.get_frozen_credentials()
        if bucket.store is None or bucket.store[0] != frozen:
            bucket.store = (frozen, self._open(bucket, frozen))
        return bucket.store[1]

    def is_answered_elsewhere(self, url: str) -> bool:
        """Whether anybody answers in place of the network. (botocore's event `before-send`, which mocks answer.)"""
        request = AWSPreparedRequest("GET", url, HTTPHeaders(), b"", True)
        return (
            self.client.meta.events.emit_until_response("before-send.s3.GetObject", request=request)[1]
            is not None
        )

    def _bucket(self, name: str, key: str, way: Way) -> _Bucket | None:
        """What there is to know about a bucket; None where obstore has no business there."""
        parts = urlsplit(way.url)
        path = unquote(parts.path)
        base = path.removesuffix(f"/{key}")
        if (
            not _BUCKET.match(name)
            or base == path
            or not _BASE.match(base)
            or (way.region is None) != (self.credentials is None)
            or (parts.scheme == "https" and self.has_own_ca)
            or _home() != os.getpid()
            or _has_variables_of_obstore()
        ):
            return None
        return _Bucket(name, f"{parts.scheme}://{parts.netloc}{base}", way.region)

    def _open(self, bucket: _Bucket, frozen: Any) -> Any:
        from obstore.store import S3Store

        config = self.client.meta.config

        def credential() -> S3Credential:
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": None,  # with others, another store is opened
            }

        return S3Store(
            bucket.name,
            config={
                "aws_endpoint_url_s3": bucket.url,  # comes before the other, also where it is a variable
                "endpoint": bucket.url,
                "virtual_hosted_style_request": True,  # meaning: the endpoint is that of the bucket
                "region": bucket.region or "us-east-1",
                "skip_signature": frozen is None,
                "request_payer": self.pays,
            },
            client_options={
                "allow_http": bucket.url.startswith("http:"),
                "user_agent": config.user_agent,
                "connect_timeout": timedelta(seconds=config.connect_timeout),
                "read_timeout": timedelta(seconds=config.read_timeout),
                "timeout": timedelta(seconds=config.connect_timeout + config.read_timeout),
            },
            retry_config={"max_retries": 0},  # botocore does that
            credential_provider=None if frozen is None else credential,
        )


@dataclass(slots=True)
class _Bucket:
    """One bucket, and how well obstore does there."""

    name: str
    url: str
    region: str | None
    store: tuple[Any, Any] | None = None
    """The credentials it was opened with, and the store."""

    failures: int = 0
    """In a row."""

    resting: int = 0
    """How many objects are left to botocore. (Threads may get it wrong by a few.)"""

    def rests(self) -> bool:
        self.resting = max(self.resting - 1, -1)
        return self.resting >= 0

    def failed(self) -> None:
        """Let it rest: what fails twice fails often, as where all objects are encrypted, and costs a request each."""
        self.failures += 1
        self.resting = min(4**self.failures, LONGEST_REST)

    def get(self, reader: WholeReader, key: str, which: Which, size: int) -> bytes | None:
        """The bytes of exactly this write; None where anything is not as it should be."""
        options: dict[str, str] = {}
        if which.version is not None:
            options["version"] = which.version
        if which.etag is not None:
            options["if_match"] = f'"{which.etag}"'
        try:
            if _home() != os.getpid() or reader.is_answered_elsewhere(f"{self.url}/{key}"):
                return None
            response = reader.store(self).get(key, options=options)
            meta = response.meta
            if (
                meta["path"] != key
                or meta["size"] != size
                or response.range != (0, size)
                or which.etag not in (None, str(meta["e_tag"]).strip('"'))
                or which.version not in (None, meta["version"] or "null")
            ):
                return None
            data = bytes(response.bytes())
        except (KeyboardInterrupt, SystemExit, Stopped):
            raise
        except BaseException:  # a panic of Rust's is no Exception
            return None
        return data if len(data) == size else None


@cache
def _home() -> int:
    """The process in which obstore was loaded, 0 where that is not known: its threads do not live on after a fork."""
    is_unknown = "obstore" in sys.modules and multiprocessing.parent_process() is not None
    import obstore  # noqa: F401

    return 0 if is_unknown else os.getpid()


def _has_variables_of_obstore() -> bool:
    """Whether the environment says anything to obstore that botocore does not hear."""
    from obstore.exceptions import UnknownConfigurationKeyError
    from obstore.store import S3Store

    for name in os.environ:
        if name.startswith("AWS_") and name not in REPLACED:
            try:
                S3Store("bucket", config=cast(Any, {name.lower(): os.environ[name]}))
            except UnknownConfigurationKeyError:
                continue
            except Exception:
                return True
            return True
    return False
