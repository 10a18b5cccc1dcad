"""Examines one web address, by 2 requests: a HEAD, and a GET of one byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from refart.errors import RefartError
from refart.sources.findings import Finding, clock, ok, refused, warn
from refart.sources.http.client import DENIED_STATUS, MISSING_STATUS, HTTPClient
from refart.sources.http.client import refused as refusal
from refart.sources.http.headers import PARTIAL, Stated, stated
from refart.sources.http.reading import WHOLE_STATUS


def diagnose(client: HTTPClient, uri: str) -> Iterator[Finding]:
    """See `DiagnosableSource`."""
    said: Stated | None = None
    try:
        with closing(client.send("HEAD", uri, uri)) as response:
            status, headers = response.status_code, response.headers
            if status in WHOLE_STATUS:
                said = stated(headers)
            elif status in MISSING_STATUS | DENIED_STATUS:
                yield refused(
                    "access", refusal(response, uri), "nothing can be read", "check URL and credentials"
                )
                return
    except RefartError as error:
        yield refused("access", error, "nothing can be read", "check the URL, proxies and the network")
        return
    if (skew := clock(headers)) is not None:
        yield skew
    try:
        with closing(client.send("GET", uri, uri, {"Range": "bytes=0-0"})) as response:
            status = response.status_code
            if status not in (*WHOLE_STATUS, PARTIAL):
                yield refused(
                    "read", refusal(response, uri), "the object cannot be read", "check the credentials"
                )
                return
            said = said or stated(response.headers, status)
    except RefartError as error:
        yield refused("read", error, "the object cannot be read", "try again")
        return
    if status == PARTIAL:
        yield ok("read", "one byte was read, by a range")
    else:
        yield warn(
            "read",
            "the server gives the whole object where a part is asked for",
            "a download that breaks off begins anew, and open() reads more than it needs",
            "enable range requests on the server",
        )
    yield _identity(said)
    yield warn(
        "versions",
        "web servers keep no old versions",
        "a change is noticed, but the logged bytes cannot be had again",
        "keep managed copies (add_file) of what must not be lost",
    )


def _identity(said: Stated) -> Finding:
    content_id = said.content_id()
    algo = content_id.partition(":")[0]
    if algo in ("sha256", "md5"):
        return ok("checksum", f"the server states the {algo} of the object")
    if said.strong_etag is not None:
        return ok("checksum", "the server states a strong ETag, which pins")
    weak = "a weak ETag" if algo == "etag" else "size and modified time" if algo == "stat" else "nothing"
    return warn(
        "checksum",
        f"{weak} is all that the server states about the object",
        "other bytes of the same size can go unnoticed",
        "log with checksum='sha256', which reads every byte once",
    )
