"""This machine's side of the work, opened once a configuration: sources, receipts, cache."""

from __future__ import annotations

import getpass
import threading

from refart import config as config_module
from refart.cache import Cache
from refart.config import Config
from refart.context import Local
from refart.progress import default_reporter
from refart.receipts import Receipts
from refart.sources.registry import Sources

_lock = threading.Lock()
_opened: Local | None = None


def local_side(config: Config | None = None) -> Local:
    """The shared `Local` of this process; a new one where the configuration (environment, file) changed."""
    global _opened  # one cached object: sources hold connection pools, which are dear to open
    wanted = config if config is not None else config_module.load()
    with _lock:
        if _opened is None or _opened.config != wanted:
            _opened = open_local(wanted)
        return _opened


def open_local(config: Config) -> Local:
    """Open the parts for a configuration. Nothing is created on disk before it is needed."""
    folder = config.cache_folder()
    receipts = Receipts(folder / "receipts.sqlite")
    return Local(
        config=config,
        sources=Sources(config, receipts),
        receipts=receipts,
        cache=Cache(folder, config.cache_bytes),
        reporter=default_reporter(),
    )


def current_user() -> str:
    """The user's login name, or `unknown` where the system cannot tell."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
