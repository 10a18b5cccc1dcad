"""References on web servers: single objects, looked at by one HEAD and read by one conditional GET.

A web server promises little: some state a strong ETag, which pins; some only when an object was modified; some nothing.
What is stated is compared with every answer, and an identity that can miss a change is recorded as weak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from typing import Any, Final

from refart import checksums, names
from refart.entries import Entry, page_of
from refart.errors import InvalidInputError, NotFoundError
from refart.sources import pinned
from refart.sources.base import Fetched, Identify, Keep, Opened, Scan
from refart.sources.findings import Finding
from refart.sources.http import reading as http_reading
from refart.sources.http.client import MISSING_STATUS, TRANSIENT_STATUS, HTTPClient, refused
from refart.sources.http.headers import Stated, stated
from refart.sources.http.reading import WHOLE_STATUS

NO_NAME: Final = "index"
"""The path of an object whose URL ends with a slash."""


class HTTPSource:
    """The source of `http://` and `https://`.

    `options` are those of fsspec's HTTPFileSystem: `headers`, `auth` ([user, password]), `timeout` (seconds), `ssl`
    (false: certificates are not checked) and `trust_env`, at the top or in `client_kwargs`; those that tune its caches
    are accepted and have no use here. The environment gives proxies, CA bundles and `~/.netrc`, as for every tool
    built on `requests`. Raises `InvalidInputError` for other options.

    Redirects are followed, but not from https:// to http://, and configured headers and credentials stay with the host
    of the URL. The URI is recorded as given; wherever it led to is neither recorded nor shown.

    Bytes are taken as they are transferred: compression is asked for by nobody, and where a server compresses all the
    same, the compressed bytes and their length are the object.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._client = HTTPClient(options)

    def scan(
        self,
        uri: str,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """The one object at `uri`, by one HEAD: no URL is a prefix.

        A GET whose body is not read follows where HEAD is refused, or tells no length (or 0, as some do).

        Its path is the last component of the URL as it stands (percent-encoded, without the query), `index` where the
        URL ends with a slash. The content id is the SHA-256 or MD5 that the server states (Repr-Digest, Digest,
        Content-MD5), else a strong ETag, else weak: Last-Modified, a weak ETag, `none`. A strong ETag also pins.

        Raises `NotFoundError` where nothing is there.
        """
        if identify == "stat":
            raise InvalidInputError(
                f"{uri}: checksum='stat' is for file systems; a web server states what identifies an object as it is"
            )
        said = self._look(uri)
        if said is None:
            raise NotFoundError(f"there is no object at {uri} (HEAD and GET were answered 404 or 410)")
        if on_page is not None:
            on_page(1)
        page = page_of([_entry(uri, said, checksums.NONE if identify == "none" else said.content_id())])
        return Scan(True, iter([page if keep is None else keep(page)]))

    def stat(self, uri: str) -> Entry | None:
        """The current object at `uri`, as `scan` gives it; None where there is none."""
        said = self._look(uri)
        return None if said is None else _entry(uri, said, said.content_id())

    def fetch(self, entry: Entry) -> AbstractContextManager[Fetched]:
        """Stream the bytes of a reference by one GET, which must answer with what was recorded.

        The ETag is asked for by `If-Match`, the modified time by `If-Unmodified-Since`, and whatever comes is compared,
        since many servers ignore conditions. A body that breaks off is continued by ranged GETs under the same
        conditions, where the server states anything to hold on to.
        """
        return pinned.fetch(
            http_reading.getter(self._client, entry), entry, http_reading.wanted, self._stat_by_get
        )

    def open(self, entry: Entry) -> Opened:
        """A seekable stream of ranged GETs, each compared with the first as in `fetch`."""
        return pinned.open_stream(
            http_reading.getter(self._client, entry), entry, http_reading.wanted, self._stat_by_get
        )

    def diagnose(self, uri: str) -> Iterator[Finding]:
        """See `DiagnosableSource`."""
        from refart.sources.http import doctor as http_doctor  # here, since nothing else needs it

        return http_doctor.diagnose(self._client, names.check_uri(uri))

    def presign(self, entry: Entry, expires_s: int) -> str:
        """See `PresigningSource`: the URL itself, which does not expire, and opens nothing that needs credentials."""
        return pinned.uri_of(entry)

    def _stat_by_get(self, uri: str) -> Entry | None:
        """As a GET would answer, where a HEAD may say otherwise."""
        said = self._look(uri, by_head=False)
        return None if said is None else _entry(uri, said, said.content_id())

    def _look(self, uri: str, *, by_head: bool = True) -> Stated | None:
        """What the server says about the object at `uri`; None where there is none."""
        names.check_uri(uri)
        if by_head:
            with closing(self._client.send("HEAD", uri, uri)) as response:
                said = stated(response.headers)
                if response.status_code in WHOLE_STATUS and said.size:
                    return said
                if response.status_code in TRANSIENT_STATUS:
                    raise refused(response, uri)
        with closing(self._client.send("GET", uri, uri)) as response:
            if response.status_code in MISSING_STATUS:
                return None
            if response.status_code not in WHOLE_STATUS:
                raise refused(response, uri)
            return stated(response.headers)


def _entry(uri: str, said: Stated, content_id: str) -> Entry:
    etag = None if said.strong_etag is None else f"etag:{said.strong_etag}"
    return Entry(_path(uri), said.size, content_id, uri, None if etag == content_id else etag)


def _path(uri: str) -> str:
    _, _, rest = names.without_query(uri).partition("://")
    _, _, path = rest.partition("/")
    return names.path_from_key(path.rpartition("/")[2] or NO_NAME)
