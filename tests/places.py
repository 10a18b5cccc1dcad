"""Every kind of place that data lies in, as users meet them: a URI, and storage options in the environment.

`on_every_kind()` runs a test on each kind; the fixture `lake` is a new, empty place of that kind, and all sources of
this process and its children reach it. What a kind cannot do is declared here with its reason, and a test says what it
needs: what a pitfall cannot touch is a skip that says why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from refart import Workspace
from refart.ops.stream import Rung
from tests import lakes
from tests.lakes import Lake, Make


class Can(Enum):
    """What not every kind of place can do."""

    LIST = "list prefixes"
    KEEP = "keep what is overwritten or deleted, as versions"
    PIN = "be asked for a version that does not exist"
    PIN_OLD = "name in the URI a version that was overwritten"
    PURGE = "remove one version for good"
    WHOLE = "send the bytes of one write in one answer"
    MARK = "have objects that stand for folders"
    HASH = "tell a hash of the bytes when it is listed"
    RECOGNISE = "tell that bytes written again are the same"
    PROXY = "be reached through a proxy that counts and spoils what passes"
    EDIT = "change what is said about an object, without its bytes"
    PARTS = "upload one object in parts, so that nobody tells its MD5"


@dataclass(frozen=True)
class Kind:
    """One kind of place."""

    name: str
    make: Make = field(repr=False)
    algo: str
    """Of the content id that a listing tells."""
    rung: Rung
    """What confirms the bytes of a reference that was logged as it was listed."""
    unidentified_rung: Rung
    """What confirms them without any content id (`checksum=False`)."""
    awkward: tuple[str, ...]
    """Keys that stand for more than they seem to, as far as this kind of place can hold them."""
    schemes: tuple[str, ...]
    """All that a URI of such a place may begin with."""
    by_hand: str = "?versionId="
    """What stands between a URI and the version that it names."""
    lacks: Mapping[Can, str] = field(default_factory=dict)

    def can(self, what: Can) -> bool:
        return what not in self.lacks


# -- all of them -------------------------------------------------------------------------------------------------

_AWKWARD = (
    *("a#b", "a?b", "a?versionId=b", "a?versionid=b", "a#123", "100%", "a%20b", "%2Fa", "a+b", "a:b", "C:/a"),
    *("a\tb", " a ", "a&b;c", "é/\U0001f600", "e\u0301", "a::b"),
)
"""Every place holds these."""

_ANY_KEY = (*_AWKWARD, "a//b", "a/./b", "a/../b", "..", "/a", "a\\b")
"""And these, where keys are not paths of some file system."""

_UNVERSIONED = dict.fromkeys((Can.KEEP, Can.PIN_OLD), "what is overwritten is gone")
_NO_OBJECT_STORE = {
    **_UNVERSIONED,
    Can.MARK: "folders are folders there",
    Can.PARTS: "a file is a file, however it was written",
}
_NO_PROXY = {Can.PROXY: "no server stands between"}
_KNOWN_BY_TIME = {
    Can.HASH: "only size and time are told",
    Can.RECOGNISE: "all that is told is made of times",
}
_ON_THE_WEB = {
    **_NO_OBJECT_STORE,
    Can.LIST: "web servers list nothing",
    Can.WHOLE: "nginx sends on what is rewritten in place, under the ETag that it began with",
    Can.PIN: "a query is for the server to understand, and nginx looks at none",
}
_FAKE_GCS = {
    Can.PURGE: "fake-gcs-server deletes the current generation, whichever is named",
    Can.PARTS: "composite objects, which have no MD5 in GCS, have one in fake-gcs-server",
}
_S3, _GCS = ("s3", "s3a"), ("gs", "gcs")

KINDS = (
    Kind("moto-versioned", lakes.moto(True), "md5", "md5", "version", _ANY_KEY, _S3),
    Kind("moto", lakes.moto(False), "md5", "md5", "etag", _ANY_KEY, _S3, lacks=_UNVERSIONED),
    Kind("seaweed-versioned", lakes.seaweed(True), "md5", "md5", "version", _AWKWARD, _S3),
    Kind("seaweed", lakes.seaweed(False), "md5", "md5", "etag", _AWKWARD, _S3, lacks=_UNVERSIONED),
    Kind("gcs-versioned", lakes.gcs(True), "md5", "md5", "generation", _ANY_KEY, _GCS, "#", _FAKE_GCS),
    Kind(
        "gcs",
        lakes.gcs(False),
        "md5",
        "md5",
        "generation",
        _ANY_KEY,
        _GCS,
        "#",
        {**_FAKE_GCS, **_UNVERSIONED},
    ),
    Kind(
        "azurite",
        lakes.azurite,
        "md5",
        "md5",
        "etag",
        # Azure takes a backslash for a slash, and no request can name a blob with `.` or `..` for a component.
        (*_AWKWARD, "a//b", "/a"),
        ("az", "abfs", "abfss"),
        "?versionid=",
        dict.fromkeys((Can.KEEP, Can.PIN_OLD), "Azurite keeps no versions"),
    ),
    Kind(
        "nginx",
        lakes.nginx(""),
        "etag",
        "etag",
        "etag",
        _AWKWARD,
        ("http",),
        lacks={
            **_ON_THE_WEB,
            Can.HASH: "nginx makes ETags of size and time",
            Can.RECOGNISE: "nginx makes ETags of size and time",
        },
    ),
    Kind(
        "nginx-without-etag",
        lakes.nginx("noetag"),
        "stat",
        "weak",
        "unverified",
        _AWKWARD,
        ("http",),
        lacks={**_ON_THE_WEB, **_KNOWN_BY_TIME},
    ),
    Kind(
        "local",
        lakes.local,
        "sha256",
        "sha256",
        "unverified",
        (*_AWKWARD, "a\\b"),
        ("file",),
        lacks={**_NO_OBJECT_STORE, **_NO_PROXY},
    ),
    Kind(
        "sftp",
        lakes.sftp,
        "stat",
        "weak",
        "unverified",
        (*_AWKWARD, "a\\b"),
        ("sftp", "ssh"),
        lacks={
            **_NO_OBJECT_STORE,
            **_KNOWN_BY_TIME,
            Can.PROXY: "SSH itself refuses whatever was changed on its way",
        },
    ),
    Kind(
        "webdav",
        lakes.webdav,
        "etag",
        "weak",
        "unverified",
        # webdav4 cannot ask for names with `#`, `?`, `%` or a tab, and rclone composes accents.
        tuple(key for key in _AWKWARD if not set(key) & set("#?%\t\u0301")),
        ("webdav",),
        lacks={
            **_NO_OBJECT_STORE,
            Can.PIN: "its driver can ask for no name with a `?`",
            Can.HASH: "rclone's ETags are hashes, which no client can know",
            Can.EDIT: "rclone keeps no properties",
        },
    ),
    Kind(
        "memory",
        lakes.memory,
        "stat",
        "weak",
        "unverified",
        (*_AWKWARD, "a\\b"),
        ("memory",),
        lacks={
            **_NO_OBJECT_STORE,
            **_NO_PROXY,
            **_KNOWN_BY_TIME,
            Can.EDIT: "nothing but the bytes is kept",
        },
    ),
)


@dataclass(frozen=True)
class _Wanted:
    kind: Kind
    behind_proxy: bool


def on_every_kind(*needs: Can, behind_proxy: bool = False) -> pytest.MarkDecorator:
    """Run a test, which takes the fixture `lake`, on every kind of place.

    A kind that lacks one of `needs` is skipped with the reason that it declares. `behind_proxy` needs `Can.PROXY`.
    """
    needed = (*needs, Can.PROXY) if behind_proxy else needs

    def one(kind: Kind) -> Any:
        why = next((f"{kind.name}: {kind.lacks[need]}" for need in needed if need in kind.lacks), None)
        marks = [] if why is None else [pytest.mark.skip(reason=why)]
        return pytest.param(_Wanted(kind, behind_proxy), id=kind.name, marks=marks)

    return pytest.mark.parametrize("lake", list(map(one, KINDS)), indirect=True)


@pytest.fixture
def lake(
    request: pytest.FixtureRequest, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lake]:
    """A new, empty place of the kind that `on_every_kind` asks for. Take it before whatever opens a workspace."""
    wanted: _Wanted = request.param
    nobody(monkeypatch)
    with ExitStack() as stack:
        made = wanted.kind.make(request, stack, wanted.behind_proxy)
        made.kind = wanted.kind
        monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps(made.options))
        yield made


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no credentials of whoever runs the tests within reach."""
    prefixes = ("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST")
    for name in [name for name in os.environ if name.startswith(prefixes)]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
