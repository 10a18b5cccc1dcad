"""What this machine has learnt about the bytes of entries that record no SHA-256."""

from __future__ import annotations

from collections.abc import Sequence

from refart.cache import Cache
from refart.entries import Entry, hash_key, object_key


def sha256_of(cache: Cache, entry: Entry) -> str | None:
    """The SHA-256 (hex) of an entry's bytes: recorded, or seen when the bytes came to this machine; else None."""
    return sha256_of_all(cache, [entry])[0]


def sha256_of_all(cache: Cache, entries: Sequence[Entry]) -> list[str | None]:
    """`sha256_of` of many entries, in their order, by one or two look-ups for all of them."""
    found: list[str | None] = [None] * len(entries)
    for key_of in (hash_key, object_key):
        keys = {n: key for n, sha256 in enumerate(found) if sha256 is None and (key := key_of(entries[n]))}
        known = cache.known_of(keys.values()) if keys else {}
        for n, key in keys.items():
            found[n] = known.get(key)
    return found


def remember(cache: Cache, entry: Entry, sha256: str, *, compared: bool) -> None:
    """Keep the SHA-256 of bytes that came; `compared` says whether they were compared with the recorded hash.

    Where they were not, the hash names nothing but this object: a server that calls its object encrypted could else
    choose which bytes stand for a hash that others log honestly.
    """
    key = hash_key(entry) if compared else object_key(entry)
    if key is not None:
        cache.learn(key, sha256)
