"""What this machine has learnt about the bytes of entries that record no SHA-256."""

from __future__ import annotations

from refart import checksums
from refart.cache import Cache
from refart.entries import Entry, hash_key, object_key


def sha256_of(cache: Cache, entry: Entry) -> str | None:
    """The SHA-256 (hex) of an entry's bytes: recorded, or seen when the bytes came to this machine; else None."""
    algo, value = checksums.split(entry.content_id)
    if algo == "sha256":
        return value
    keys = (hash_key(entry), object_key(entry))
    return next((known for key in keys if key is not None and (known := cache.known(key))), None)


def remember(cache: Cache, entry: Entry, sha256: str, *, compared: bool) -> None:
    """Keep the SHA-256 of bytes that came; `compared` says whether they were compared with the recorded hash.

    Where they were not, the hash names nothing but this object: a server that calls its object encrypted could else
    choose which bytes stand for a hash that others log honestly.
    """
    key = hash_key(entry) if compared else object_key(entry)
    if key is not None:
        cache.learn(key, sha256)
