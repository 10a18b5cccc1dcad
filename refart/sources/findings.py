"""What an examination of a place finds: plain sentences, each with why it matters and what to do.

A source that can be examined has `diagnose` (see `DiagnosableSource`). It asks a bounded number of questions, never
lists a whole bucket, and takes a refused question for a finding. Nothing of a finding shows a credential.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from refart.errors import RefartError
from refart.sources.listed import Listed, Row

MAX_REQUESTS: Final = 10
"""Of one examination; redirects and what a client tries again come on top."""

SAMPLE: Final = 1_000
"""Objects of a listing that an examination looks at."""

SKEW_WARN_S: Final = 60
SKEW_FAIL_S: Final = 900
"""S3 and others refuse a signature whose time is more than 15 minutes off (`RequestTimeTooSkewed`)."""

Level: TypeAlias = Literal["ok", "warn", "fail"]
"""`ok`: as it should be. `warn`: works, but something of refart's promises does not hold here, or could not be asked.
`fail`: something that refart needs does not work, or pinned bytes may be gone already."""

About: TypeAlias = (
    Literal["access", "list", "read", "versions", "lifecycle", "archive", "region", "clock", "checksum"]
    | Literal["driver", "catalog", "store", "cache", "files"]
)


@dataclass(frozen=True, slots=True)
class Expiry:
    """A lifecycle rule that removes bytes which a version may need."""

    prefix: str
    """What the URIs of its objects begin with; not by component."""
    noncurrent_days: int | None = None
    """Days after which a version that is no longer current is removed; None where only its age or number counts."""
    newer_kept: int | None = None
    """So many newer versions that are not current protect one."""


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    about: About
    what: str
    why: str = ""
    """Why it matters here; empty where all is well."""
    advice: str = ""
    """What to do."""
    expiry: Expiry | None = None
    """The rule that this is about, for whoever knows which versions pin what it removes."""
    versions: tuple[str, ...] = ()
    """Versions of the workspace that the rule can take bytes from."""
    expires_at: datetime | None = None
    """When it may do so, at the earliest."""


@runtime_checkable
class DiagnosableSource(Protocol):
    """A source that can be examined."""

    def diagnose(self, uri: str) -> Iterator[Finding]:
        """What works at a URI and what does not, by at most `MAX_REQUESTS` requests. Raises `InvalidInputError` for a
        URI that the source cannot read, and nothing else: what is refused or missing is a finding."""


def ok(about: About, what: str) -> Finding:
    return Finding("ok", about, what)


def warn(about: About, what: str, why: str, advice: str, expiry: Expiry | None = None) -> Finding:
    return Finding("warn", about, what, why, advice, expiry)


def refused(about: About, error: RefartError, why: str, advice: str, level: Level = "fail") -> Finding:
    """The finding that a question was answered by an error, whose sentence shows nothing secret."""
    return Finding(level, about, str(error), why, advice)


def clock(headers: Mapping[str, str], now: datetime | None = None) -> Finding | None:
    """How far the clock here is from that of a server, by the `Date` of an answer; None where it says none."""
    said = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        there = parsedate_to_datetime(said)
        skew_s = round(((now or datetime.now(UTC)) - there).total_seconds())
    except (TypeError, ValueError):
        return None
    if abs(skew_s) <= SKEW_WARN_S:
        return ok("clock", "the clock here and that of the server agree")
    what = f"the clock here is {abs(skew_s):,} s {'ahead of' if skew_s > 0 else 'behind'} that of the server"
    why = "signed requests are refused beyond 15 minutes, and `created_at` of versions comes from this clock"
    return Finding(
        "fail" if abs(skew_s) > SKEW_FAIL_S else "warn", "clock", what, why, "set the clock by NTP"
    )


def days(count: int) -> str:
    return f"{count:,} day{'' if count == 1 else 's'}"


def of_sample(count: int, of: int, what: str) -> str:
    """`3 of the first 1,000 objects`"""
    return f"{count:,} of the first {of:,} {what}"


def listed(found: Listed, where: str) -> Finding:
    """What one response of a listing told."""
    objects, keys = found.objects.num_rows, len(found.keys)
    if not keys:
        return warn("list", f"nothing lies at {where}", "there is nothing to log", "check the prefix")
    more = "" if found.is_last else " and more"
    old = f", {keys - objects:,} of them old versions, delete markers or folders" if keys > objects else ""
    return ok("list", f"listing works: {keys:,}{more} found{old}")


def identities(rows: Sequence[Row], why: str) -> Iterator[Finding]:
    """Which rung the content ids of a listing stand on; `why` says of an object that it has no MD5."""
    opaque = sum(not row.content_id.startswith("md5:") for row in rows)
    if opaque:
        yield warn(
            "checksum",
            f"{of_sample(opaque, len(rows), 'objects')} are {why}",
            "what is told of them says the same object rather than the same bytes, wherever they lie",
            "log with checksum='sha256' where bytes are to be compared (on S3, 'stored' may do)",
        )
    elif rows:
        yield ok("checksum", "a listing tells the MD5 of every object that was looked at")
