"""URIs of blobs: which account, which container, which name.

    az://container/name                                        the account is configured
    abfs://container@account.dfs.core.windows.net/name         `abfss`, `az` and `.blob.` as well
    abfs://account.dfs.core.windows.net/container/name
    https://account.blob.core.windows.net/container/name       percent-encoded, as every URL

But for the last, the name is all that follows, as it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from refart.errors import InvalidInputError

BLOB_HOST: Final = ".blob.core.windows.net"
DFS_HOST: Final = ".dfs.core.windows.net"

BY_HAND: Final = "?versionid="
"""What stands between a URI and the version that it names; as with adlfs and in Azure's own URLs."""


@dataclass(frozen=True, slots=True)
class Place:
    """A container."""

    account: str | None
    """None where only the configuration names it."""

    container: str

    root: str
    """What the URIs of its blobs begin with."""

    is_encoded: bool
    """Whether URIs hold the name of a blob percent-encoded."""

    def uri_of(self, key: str) -> str:
        return self.root + (quote(key) if self.is_encoded else key)


def split(uri: str) -> tuple[Place, str]:
    """The container that a URI lies in, and the name of a blob or prefix there.

    Of a URL, `?versionid=` and what follows are part of that name (they cannot be part of a blob's, which is encoded).
    Raises `InvalidInputError` for a URI without a container, for a host that is none of Azure's (credentials are for
    nobody else: set `account_host`), and for any other query.
    """
    scheme, _, rest = uri.partition("://")
    authority, _, path = rest.partition("/")
    if scheme.lower() == "https":
        return _of_url(uri, authority, path)
    container, at, host = authority.rpartition("@")
    account = _account(host)
    root = f"{scheme.lower()}://{authority}/"
    if at and account is None:
        raise InvalidInputError(
            f"{uri}: an account is written container@account{DFS_HOST}; set account_host in storage_options for other"
            f" hosts, and write {scheme}://container/name"
        )
    if account is not None and not at:
        container, _, path = path.partition("/")
        root = f"{root}{container}/"
    elif not at:
        container = authority
    if not container:
        raise InvalidInputError(f"{uri} names no container: write {scheme}://container/name")
    return Place(account, container, root, False), path


def _of_url(uri: str, host: str, path: str) -> tuple[Place, str]:
    path, _, query = path.partition("?")
    container, _, name = path.partition("/")
    account = _account(host)
    if account is None or not container:
        raise InvalidInputError(f"{uri} is not of the form https://account{BLOB_HOST}/container/name")
    if query and not f"?{query}".startswith(BY_HAND):
        raise InvalidInputError(
            f"{uri}: a query is no part of a blob's name, and only {BY_HAND}ID is understood"
        )
    try:
        container, name = unquote(container, errors="strict"), unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{uri}: what is percent-encoded in it is not UTF-8") from None
    place = Place(account, container, f"https://{host}/{quote(container)}/", True)
    return place, f"{name}?{unquote(query)}" if query else name


_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}(-secondary)?\Z")
"""The name of an account, or of the secondary endpoint of one ("Storage account overview"). All else, such as a `#` or
`?`, could lead clients, and the credentials with them, to another host."""


def _account(host: str) -> str | None:
    """The account of a host; None for one that is none of Azure's."""
    for suffix in (BLOB_HOST, DFS_HOST):
        account = host.lower().removesuffix(suffix)
        if account != host.lower() and _ACCOUNT.match(account):
            return account
    return None
