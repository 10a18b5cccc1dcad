"""The one place where names, paths, aliases, tags, metadata and URIs from outside are checked.

Everything here is a pure function: it returns the accepted (possibly normalised) value or raises
`InvalidInputError` with one sentence that says what was given, what is allowed and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import unquote_plus

from refart.errors import InvalidInputError

MAX_NAME_CHARS: Final = 128
MAX_PATH_BYTES: Final = 4096  # Linux PATH_MAX; object keys end at 1,024 bytes
MAX_URI_BYTES: Final = 8192
MAX_METADATA_BYTES: Final = 1 << 20  # 1 MiB of JSON a version
MAX_DESCRIPTION_BYTES: Final = 1 << 16
MAX_TTL_S: Final = timedelta.max // timedelta(seconds=1)
LATEST: Final = "latest"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
_TAG = re.compile(r"[-\w]+( +[-\w]+)*\Z")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,17})\Z")
_VERSION_SHAPED = re.compile(r"v[0-9]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)")
_DRIVE = re.compile(r"[A-Za-z]:")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # not the text `\u0000`, which JSON writes as `\\u0000`

BAD_PATH_PATTERN: Final = r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f]|^[A-Za-z]:"
"""Matches any path that must not be an entry: an empty, `.` or `..` component, a control character, a drive
letter. In the common subset of `re` and RE2, so that a page is checked in one vectorised call."""

_BAD_PATH = re.compile(BAD_PATH_PATTERN.replace("$", r"\Z"))


def check_name(value: object, what: str) -> str:
    """Accept a project, artifact, type or collection name: 1 to 128 of `A-Z a-z 0-9 _ . -`, not `.` or `..`."""
    if not isinstance(value, str) or not _NAME.match(value) or value in (".", ".."):
        raise InvalidInputError(
            f"{what} {_shown(value)} is not allowed: use 1 to {MAX_NAME_CHARS} of the characters A-Z a-z 0-9 _ . -"
        )
    return value


def check_alias(value: object) -> str:
    """Accept an alias: 1 to 128 printable characters without `/` and `:`, and not shaped like `v3`."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= MAX_NAME_CHARS
        or "/" in value
        or ":" in value
        or not value.isprintable()
        or value != value.strip()
    ):
        raise InvalidInputError(
            f"alias {_shown(value)} is not allowed: use 1 to {MAX_NAME_CHARS} printable characters without '/' and ':'"
        )
    if _VERSION_SHAPED.match(value):
        raise InvalidInputError(
            f"alias {value!r} is not allowed: v followed by digits is a version number, which refart gives"
        )
    return value


def check_aliases(values: Iterable[object] | None) -> tuple[str, ...]:
    """Check each alias; keep the order, drop repetitions."""
    return tuple(dict.fromkeys(check_alias(v) for v in _listed(values, "aliases")))


def check_tag(value: object) -> str:
    """Accept a tag: words of letters, digits, `_` and `-`, separated by spaces; at most 128 characters."""
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARS or not _TAG.match(value):
        raise InvalidInputError(
            f"tag {_shown(value)} is not allowed: use words of letters, digits, _ and -, separated by spaces,"
            f" at most {MAX_NAME_CHARS} characters"
        )
    return value


def check_tags(values: Iterable[object] | None) -> tuple[str, ...]:
    """Check each tag; keep the order, drop repetitions."""
    return tuple(dict.fromkeys(check_tag(v) for v in _listed(values, "tags")))


def check_path(value: object, what: str = "entry path") -> str:
    """Accept the path of an entry: relative, `/`-separated, no empty, `.` or `..` component, no control character,
    no drive letter, valid Unicode, at most 4,096 bytes of UTF-8."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be a string, not {type(value).__name__}")
    if _BAD_PATH.search(value):
        raise InvalidInputError(
            f"{what} {_shown(value)} is not allowed: it must be relative, without empty, '.' or '..' components,"
            " control characters or a drive letter"
        )
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} {_shown(value)} is not valid Unicode (lone surrogates)") from None
    if length > MAX_PATH_BYTES:
        raise InvalidInputError(
            f"{what} {_shown(value)} is {length:,} bytes long; at most {MAX_PATH_BYTES:,} are allowed"
        )
    return value


def path_from_key(key: str) -> str:
    """The entry path of an object key: the key as it stands, where it can be a path.

    A component that is empty, `.` or `..`, holds control characters or starts like a drive letter cannot be part
    of a path on every system; it is percent-encoded in the path only (the URI keeps the exact key): an empty
    component becomes `%2F`, for the slash that follows nothing.
    """
    if not _BAD_PATH.search(key):
        return key
    parts = key.split("/")
    return "/".join(_safe_component(part, first=i == 0) for i, part in enumerate(parts))


def _safe_component(part: str, *, first: bool) -> str:
    if part == "":
        return "%2F"
    if part in (".", ".."):
        return part.replace(".", "%2E")
    part = _CONTROL.sub(lambda m: f"%{ord(m.group()):02X}", part)
    return part.replace(":", "%3A", 1) if first and _DRIVE.match(part) else part


def check_metadata(value: object) -> dict[str, Any]:
    """Accept metadata: a mapping that JSON can carry (no NaN, no two keys of one spelling), at most 1 MiB as UTF-8.

    Returns a deep copy as plain JSON types, so later changes of the caller's objects change nothing here.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"metadata must be a mapping, not {type(value).__name__}")
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"metadata cannot be stored as JSON: {error}") from None
    if _JSON_NUL.search(text):
        raise InvalidInputError("metadata holds a NUL character, which no database stores; remove it")
    if size > MAX_METADATA_BYTES:
        raise InvalidInputError(
            f"metadata is {size:,} bytes of JSON; at most {MAX_METADATA_BYTES:,} are allowed:"
            " put it into a file of the artifact"
        )
    copy: dict[str, Any] = json.loads(text, object_pairs_hook=_without_repetition)
    return copy


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON has only text as keys: of `{1: …, "1": …}` one value would be lost."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise InvalidInputError(
            f"metadata has keys that JSON cannot tell apart, among {_shown(list(result))}"
        )
    return result


def check_description(value: object) -> str | None:
    """Accept a description: text of at most 64 KiB without NUL, or None."""
    if value is None:
        return None
    if not isinstance(value, str) or "\x00" in value or _SURROGATE.search(value):
        raise InvalidInputError("description must be text without NUL characters and lone surrogates")
    if len(value.encode()) > MAX_DESCRIPTION_BYTES:
        raise InvalidInputError(f"description is longer than {MAX_DESCRIPTION_BYTES:,} bytes")
    return value


def uri_scheme(uri: str) -> str | None:
    """The lower-case scheme of `scheme://…`, or None for a plain path."""
    match = _SCHEME.match(uri)
    return match.group().lower() if match else None


def check_uri(uri: object) -> str:
    """Accept a reference's URI: text, at most 8,192 bytes, no NUL, and nothing secret inside.

    A URI is stored in the clear in every manifest, so one with credentials (`scheme://user:secret@host/`), or with a
    signature or token in the query of a web address, is refused and never shown; so is a chain (`zip://a::https://…`)
    of which any link has one. A web address has no fragment either, since servers never see it, and no component `.`
    or `..`.
    """
    if not isinstance(uri, str) or not uri:
        raise InvalidInputError("a reference needs a URI such as s3://bucket/key or a path")
    for link in links(uri):  # first, since the other errors show the URI
        _check_link(link)
    try:
        size = len(uri.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(f"URI {_shown(uri)} is not valid Unicode") from None
    if "\x00" in uri or size > MAX_URI_BYTES:
        raise InvalidInputError(
            f"URI {_shown(uri)} holds a NUL character or more than {MAX_URI_BYTES:,} bytes"
        )
    return uri


def links(uri: str) -> list[str]:
    """The URIs of an fsspec chain `a://…::b://…`, outermost first; a URI that is no chain is one link.

    A chain goes on where `::` stands before a scheme, so that a name may hold `::` otherwise.
    """
    return _LINKS.split(uri)


_LINKS = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")

_WEB: Final = ("http", "https")
_WITH_USERS: Final = ("abfs", "abfss", "az", "gist", "sftp", "ssh")
"""Schemes with a user, or what stands in the place of one, before `@`: a name, no secret."""

_WITH_PLACES: Final = ("git", "github")
"""Schemes of fsspec that write a place before `@`: `github://organisation:repository@branch/path`."""


def _check_link(uri: str) -> None:
    scheme = uri_scheme(uri)
    if scheme in (None, "file", *_WITH_PLACES):
        return
    before, at, _ = re.split("[/?#]", uri[len(scheme or "") + 3 :], maxsplit=1)[0].rpartition("@")
    if at and (scheme not in _WITH_USERS or ":" in before):
        raise InvalidInputError(
            f"the {scheme}:// URI carries credentials before '@'; they would be stored in the manifest:"
            " leave them to the driver's configuration"
        )
    if scheme in _WEB and any(name in _SIGNS for name in _parameter_names(uri)):
        raise InvalidInputError(
            f"the {scheme}:// URI carries a signature or token in its query; it would be stored in the manifest and"
            " expire: give the plain URI (strip_signature=True cuts it down to that), and credentials to the driver's"
            " configuration"
        )
    if scheme in _WEB and _DOTS.search(re.split("[?#]", uri, maxsplit=1)[0]):
        raise InvalidInputError(
            f"{_shown(uri)} has a component '.' or '..', which clients and servers resolve as they like, so that it may"
            " lead out of the folder that storage options are for: write the address without"
        )
    if scheme in _WEB and "#" in uri:
        plain = uri.partition("#")[0]
        raise InvalidInputError(
            f"{_shown(plain)} is followed by '#' and a fragment, which servers never see: leave it off, or write %23"
            " for a '#' that belongs to the name"
        )


_DOTS = re.compile(r"[/\\](\.|%2e){1,2}(?=[/\\]|\Z)", re.IGNORECASE)
"""A component `.` or `..` of a web address, in any spelling that some client or server takes for one."""


def without_query(uri: str) -> str:
    """A web address up to its query; any other URI as it is, since `?` stands for itself there."""
    return uri.partition("?")[0] if uri_scheme(uri) in _WEB else uri


def strip_signature(uri: str) -> str:
    """The URI without what signs it: the rest of its query stays as it is, in its order.

    Known are the presigned URLs of S3, GCS and Alibaba OSS (both generations), Azure's shared access signatures,
    CloudFront's signed URLs, and tokens. Parameters such as `Expires`, which say nothing alone, go only with the
    signature that they belong to. Any other URI, and any that is not of `http://` or `https://`, comes back unchanged;
    of a chain, each link is looked at.
    """
    return "::".join(map(_strip_link, _LINKS.split(uri)))


def _strip_link(uri: str) -> str:
    if uri_scheme(uri) not in _WEB or not (found := set(_parameter_names(uri)) & _SIGNS.keys()):
        return uri
    signing = frozenset[str]().union(*(_SIGNS[name] for name in found))
    rest, hash_sign, fragment = uri.partition("#")
    rest, _, query = rest.partition("?")
    first, *others = _SEPARATORS.split(query)
    pairs = zip(("?", *others[::2]), (first, *others[1::2]), strict=True)
    kept = "".join(separator + text for separator, text in pairs if _parameter_name(text) not in signing)
    return f"{rest}{kept and '?' + kept[1:]}{hash_sign}{fragment}"


_SEPARATORS = re.compile("([&;?])")
"""What separates the parameters of a query; whoever passes on a URL in a parameter may leave its `?` as it is."""


def _parameter_names(uri: str) -> list[str]:
    query = uri.partition("#")[0].partition("?")[2]
    return [_parameter_name(text) for text in _SEPARATORS.split(query)[::2]]


def _parameter_name(text: str) -> str:
    return unquote_plus(text.partition("=")[0]).strip().lower()


def _signs() -> Mapping[str, frozenset[str]]:
    signs: dict[str, frozenset[str]] = {}
    for betraying, signing in _SIGNATURES:
        for name in betraying.split():
            signs[name] = signs.get(name, frozenset()).union((name,), signing.split())
    return signs


_SIGNATURES: Final = (
    # Amazon S3 API reference, "Authenticating requests: using query parameters (Signature Version 4)"
    (
        "x-amz-signature x-amz-credential x-amz-security-token",
        "x-amz-algorithm x-amz-credential x-amz-date x-amz-expires x-amz-signedheaders x-amz-signature"
        " x-amz-security-token x-amz-content-sha256 x-amz-region-set",
    ),
    # Google Cloud Storage, "Signatures: V4 signing process"
    (
        "x-goog-signature x-goog-credential x-goog-security-token",
        "x-goog-algorithm x-goog-credential x-goog-date x-goog-expires x-goog-signedheaders x-goog-signature"
        " x-goog-security-token x-goog-content-sha256",
    ),
    # Alibaba Cloud OSS, "Include a V4 signature in a URL"
    (
        "x-oss-signature x-oss-credential x-oss-security-token",
        "x-oss-signature-version x-oss-credential x-oss-date x-oss-expires x-oss-additional-headers x-oss-signature"
        " x-oss-security-token",
    ),
    # Signature version 2 of S3, GCS and OSS; GCS, "V2 signing process"
    ("awsaccesskeyid googleaccessid ossaccesskeyid", "signature expires security-token"),
    # Amazon CloudFront, "Use signed URLs"
    ("key-pair-id", "expires signature policy hash-algorithm"),
    # Azure Storage, "Create a service SAS", "Create an account SAS", "Create a user delegation SAS"
    (
        "sig",
        "sv ss srt sr sp se st spr sip si sdd ses skoid sktid skt ske sks skv saoid suoid scid skdutid sduoid srh srq"
        " rscc rscd rsce rscl rsct tn spk srk epk erk",
    ),
    # What is a secret alone
    ("signature token access_token auth_token private_token api_key apikey jwt", ""),
)
"""What betrays a signed URL, and what then belongs to the signature; names in lower case, as some are written so."""

_SIGNS: Final = _signs()
"""Each parameter that betrays a signature → all that go with it."""


def check_not_secret(url: str, what: str) -> str:
    """Refuse a store or workspace URL that carries a password, without showing it."""
    scheme = uri_scheme(url)
    if scheme and scheme != "file" and "@" in url[url.index("://") + 3 :].split("/", 1)[0]:
        raise InvalidInputError(
            f"{what} carries credentials before '@'; leave them to the driver's configuration"
        )
    return url


@dataclass(frozen=True, slots=True)
class VersionRef:
    """What `project/name:selector` names. `selector` is a version number (int) or an alias (str)."""

    project: str
    name: str
    selector: int | str

    def __str__(self) -> str:
        shown = f"v{self.selector}" if isinstance(self.selector, int) else self.selector
        return f"{self.project}/{self.name}:{shown}"


def parse_version_ref(text: object, default_project: str) -> VersionRef:
    """Read `name`, `name:alias`, `name:v3`, `project/name…`; no alias means `latest`."""
    if not isinstance(text, str):
        raise InvalidInputError(
            f"an artifact is named by text such as 'name:latest', not {type(text).__name__}"
        )
    path, colon, selector = text.partition(":")
    project, name = parse_collection_ref(path, default_project)
    if not colon:
        return VersionRef(project, name, LATEST)
    return VersionRef(project, name, parse_selector(selector))


def parse_version_uri(uri: str, default_project: str) -> tuple[VersionRef, str | None]:
    """Read `refart://[project/]name[:version][/path]`; no version means `latest`, no path the whole of it.

    The first colon is the one before the version, since no name has one. Without a version there can be no path.
    """
    text = uri[len("refart://") :]
    name, colon, rest = text.partition(":")
    selector, slash, path = rest.partition("/")
    ref = parse_version_ref(f"{name}{colon}{selector}".rstrip("/"), default_project)
    return ref, check_path(path.rstrip("/"), "path") if slash and path else None


def parse_selector(text: str) -> int | str:
    """`v3` becomes the number 3; anything else must be a well-formed alias."""
    match = _VERSION.match(text)
    return int(match.group(1)) if match else check_alias(text)


def parse_collection_ref(text: object, default_project: str) -> tuple[str, str]:
    """Read `name` or `project/name`; returns `(project, name)`."""
    if not isinstance(text, str):
        raise InvalidInputError(
            f"a collection is named by text such as 'project/name', not {type(text).__name__}"
        )
    project, slash, name = text.rpartition("/")
    if not slash:
        project = default_project
    if "/" in project:
        raise InvalidInputError(
            f"{_shown(text)} has too many parts: write name or project/name; there is no entity above a project"
        )
    return check_name(project, "project"), check_name(name, "artifact name")


def _listed(values: Iterable[object] | None, what: str) -> Iterable[object]:
    if values is None:
        return ()
    if isinstance(values, str):
        raise InvalidInputError(f"{what} must be a list of strings, not one string: [{values!r}]")
    return values


def _shown(value: object) -> str:
    """A bounded repr: messages must not carry megabytes of hostile input."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"
