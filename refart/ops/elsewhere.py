"""Listings whose requests are made, and whose responses are parsed, by the workers of an executor."""

from __future__ import annotations

import uuid
from concurrent.futures import Executor
from functools import lru_cache, partial

from refart.config import Config
from refart.context import Local
from refart.errors import SourceError
from refart.local import local_side
from refart.parallel import thread_pool
from refart.sources.base import Source
from refart.sources.listed import Listed
from refart.sources.object_source import ObjectSource
from refart.sources.splitting import Elsewhere, Ranged, Wanted, in_a_row


def listing(local: Local, source: Source, uri: str, executor: Executor) -> Elsewhere | None:
    """How the workers of an executor list what is below `uri`; None where its server has no ranges of keys to share.

    They open the source by this machine's configuration themselves. What travels are keys, and the responses as
    columns; they are put together, and their seams are checked, here.
    """
    if not isinstance(source, ObjectSource) or source.ranged(uri, "") is None:
        return None
    return Elsewhere(executor, partial(_ask, local.config, uri, uuid.uuid4().hex))


def _ask(config: Config, uri: str, listing: str, prefix: str, asked: list[Wanted]) -> list[Listed]:
    """Runs in a worker, perhaps on another machine."""
    source = local_side(config).sources.for_uri(uri)
    assert isinstance(source, ObjectSource), "it was one when the listing began"
    ranged = _ranged(source, uri, listing, prefix)
    if ranged is None:
        raise SourceError(f"{uri}: the server does not list keys in order; try again", transient=True)
    with thread_pool(len(asked)) as pool:
        return list(pool.map(partial(in_a_row, ranged.ask), *zip(*asked, strict=True)))


@lru_cache(maxsize=8)
def _ranged(source: ObjectSource, uri: str, listing: str, prefix: str) -> Ranged | None:
    """One for each listing, since it learns what is best for it (see `s3.lister`)."""
    return source.ranged(uri, prefix)
