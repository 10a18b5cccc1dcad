"""The one place where names, paths, aliases, tags, metadata and URIs from outside are checked.

Everything here is a pure function: it returns the accepted (possibly normalised) value or raises
`InvalidInputError` with one sentence that says what was given, what is allowed and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from refart.errors import InvalidInputError

MAX_NAME_CHARS: Final = 128
MAX_PATH_BYTES: Final = 4096  # Linux PATH_MAX; object keys end at 1,024 bytes
MAX_URI_BYTES: Final = 8192
MAX_METADATA_BYTES: Final = 1 << 20  # 1 MiB of JSON a version
MAX_DESCRIPTION_BYTES: Final = 1 << 16
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

    A URI is stored in the clear in every manifest, so one with credentials (`scheme://user:secret@host/`) or a
    signed query (`X-Amz-Signature=`, `X-Goog-Signature=`, an Azure `sig=`) is refused, and never shown.
    """
    if not isinstance(uri, str) or not uri:
        raise InvalidInputError("a reference needs a URI such as s3://bucket/key or a path")
    try:
        size = len(uri.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(f"URI {_shown(uri)} is not valid Unicode") from None
    if "\x00" in uri or size > MAX_URI_BYTES:
        raise InvalidInputError(
            f"URI {_shown(uri)} holds a NUL character or more than {MAX_URI_BYTES:,} bytes"
        )
    scheme = uri_scheme(uri)
    if scheme in (None, "file"):
        return uri
    authority = uri[uri.index("://") + 3 :].split("/", 1)[0].split("?", 1)[0]
    if "@" in authority and (
        scheme not in ("abfs", "abfss", "az", "sftp", "ssh") or ":" in authority.split("@")[0]
    ):
        raise InvalidInputError(
            f"the {scheme}:// URI carries credentials before '@'; they would be stored in the manifest:"
            " leave them to the driver's configuration"
        )
    if scheme in ("http", "https") and _SIGNED.search(uri):
        raise InvalidInputError(
            f"the {scheme}:// URI carries a signature or token in its query; it would be stored in the manifest and"
            " expire: give the plain URI, and credentials to the driver"
        )
    return uri


_SIGNED = re.compile(
    r"[?&](x-amz-signature|x-amz-security-token|x-amz-credential|awsaccesskeyid|x-goog-signature|x-goog-credential"
    r"|googleaccessid|sig|signature|token|access_token)=",
    re.IGNORECASE,
)


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
