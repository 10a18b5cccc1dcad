"""The opened parts, handed to every verb. No logic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refart.cache import Cache
    from refart.catalog.base import Catalog
    from refart.config import Config
    from refart.progress import Reporter
    from refart.receipts import Receipts
    from refart.sources.registry import Sources
    from refart.store import Store


@dataclass(frozen=True, slots=True)
class Local:
    """What a draft needs before it belongs to any workspace: this machine's side."""

    config: Config
    sources: Sources
    receipts: Receipts
    cache: Cache
    reporter: Reporter


@dataclass(frozen=True, slots=True)
class Context:
    """An open workspace: a catalog and its store, and this machine's side."""

    url: str
    """The workspace's URL without any password."""
    local: Local
    catalog: Catalog
    store: Store
    actor: str
    """User name, for the audit log outside of a run."""
