"""Open the parts of a workspace from its URL: once a process, unless it is asked to open them anew."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

from refart import names
from refart.config import load
from refart.context import Context
from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from refart.local import current_user, local_side
from refart.store import open_store

_STORE_SETTING = "store_url"

_shared: dict[str, Context] = {}
_lock = threading.Lock()


def shared_context(url: str | os.PathLike[str] | None, *, create: bool = True) -> Context:
    """One open context per URL and process; settings of this machine are taken anew each time."""
    local = local_side()
    key = _checked(os.fspath(url)) if url is not None else local.config.workspace_url()
    if names.uri_scheme(key) is None:
        key = str(Path(key).expanduser().absolute())
    with _lock:
        context = _shared.get(key)
        if context is None:
            context = _shared[key] = open_context(key, None, create=create)
    return context if context.local is local else replace(context, local=local)


def _checked(url: str) -> str:
    if not url or "\0" in url:
        raise InvalidInputError(
            f"{url!r} names no workspace: give a folder ('.' for the current one) or postgresql://…"
        )
    return url


def forget(context: Context) -> None:
    """Share this context no more: it is about to be closed."""
    with _lock:
        for key in [k for k, c in _shared.items() if c.catalog is context.catalog]:
            del _shared[key]


def _forget_all() -> None:
    _shared.clear()  # a forked child must not share its parent's database connections


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def open_context(url: str | None, store_url: str | None, *, create: bool) -> Context:
    """Open the parts of the workspace at `url`; see `Workspace.open`."""
    from refart.catalog.sql import open_catalog  # here, since drafts need no SQLAlchemy

    config = load()
    chosen = _checked(url) if url is not None else config.workspace_url()
    scheme = names.uri_scheme(chosen)
    if scheme is None or scheme == "file":
        folder = Path(chosen.removeprefix("file://")).expanduser().absolute()
        if store_url is not None:
            raise InvalidInputError(
                f"the workspace {folder} keeps its bytes inside; store= is for postgresql://"
            )
        _make_folder(folder, create=create)
        catalog = open_catalog(folder / "catalog.sqlite", create=create)
        shown, bytes_url = str(folder), str(folder / "store")
        known: str | None = bytes_url
    elif scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        catalog = open_catalog(chosen, create=create)
        shown = catalog.shown_url
        try:
            known = catalog.setting(_STORE_SETTING)
            bytes_url = _chosen_store(known, store_url or config.store, shown)
        except BaseException:
            catalog.close()
            raise
    else:
        raise InvalidInputError(
            f"a workspace is a folder or postgresql://…, not {scheme}://; data at {scheme}:// is for add_reference()"
        )
    try:
        store = open_store(
            bytes_url, config.options_for(bytes_url), create=create, single_writer=config.single_writer
        )
        if known is None:  # recorded for good, so not before it could be opened
            _check_same_store(catalog.put_setting(_STORE_SETTING, bytes_url), bytes_url, shown)
    except BaseException:
        catalog.close()
        raise
    return Context(url=shown, local=local_side(config), catalog=catalog, store=store, actor=current_user())


def _make_folder(folder: Path, *, create: bool) -> None:
    if not create and not (folder / "catalog.sqlite").exists():
        raise NotFoundError(f"there is no refart workspace in {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InvalidInputError(
            f"the workspace {folder} is a file, or lies below one; name a folder"
        ) from None
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot make the workspace {folder}: {error.strerror}") from None


def _chosen_store(known: str | None, wanted: str | None, shown: str) -> str:
    """The store of a PostgreSQL workspace: recorded by whoever opened it first, the same for all ever after."""
    if wanted is not None:
        wanted = names.check_not_secret(wanted, "the store's URL")
        if names.uri_scheme(wanted) is None:
            wanted = str(Path(wanted).expanduser().absolute())
    if known is not None:
        if wanted is not None:
            _check_same_store(known, wanted, shown)
        return known
    if wanted is None:
        raise InvalidInputError(
            f"the workspace {shown} is new and has no store yet: name one, such as store='s3://bucket/refart'"
            " or REFART_STORE=…"
        )
    return wanted


def _check_same_store(known: str, wanted: str, shown: str) -> None:
    if wanted.rstrip("/") != known.rstrip("/"):
        raise InvalidInputError(
            f"the workspace {shown} keeps its bytes in {known}, not in {wanted}; drop store="
        )
