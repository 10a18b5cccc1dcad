"""What to say when a row does not exist: which part of the name is unknown, and what exists instead.

Only looked up once something is missing; the error is returned, and raised by the caller.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from refart.catalog import tables as t
from refart.catalog.base import VersionKey
from refart.errors import NotFoundError

_SHOWN: Final = 5


def run(run_id: str) -> NotFoundError:
    return NotFoundError(f"the catalog has no run {run_id!r}: list the runs to find its id")


def label(key: VersionKey, what: str, wanted: str, existing: Collection[str]) -> NotFoundError:
    """Say that a version has no such alias or tag."""
    return NotFoundError(f"{key} has no {what} {wanted!r}: {_instead(wanted, existing, str(key))}")


def version(connection: Connection, project: str, name: str, selector: int | str) -> NotFoundError:
    """Say whether project, artifact, version or alias is unknown, or that the version was deleted."""
    query = select(t.projects.c.id).where(t.projects.c.name == project)
    project_id = connection.execute(query).scalar_one_or_none()
    if project_id is None:
        instead = _instead(project, _values(connection, select(t.projects.c.name)), "the catalog")
        return NotFoundError(f"there is no project {project!r}: {instead}")
    in_project = t.collections.c.project_id == project_id
    query = select(t.collections.c.id).where(in_project, t.collections.c.name == name)
    collection_id = connection.execute(query).scalar_one_or_none()
    if collection_id is None:
        existing = _values(connection, select(t.collections.c.name).where(in_project))
        instead = _instead(name, existing, f"project {project!r}")
        return NotFoundError(f"project {project!r} has no artifact {name!r}: {instead}")
    if isinstance(selector, str):
        aliases = select(t.aliases.c.alias).where(t.aliases.c.collection_id == collection_id)
        existing = _values(connection, aliases)
        instead = _instead(selector, existing, "it") if existing else "all its versions were deleted"
        return NotFoundError(f"{project}/{name} has no alias {selector!r}: {instead}")
    return _number(connection, collection_id, VersionKey(project, name, selector))


def _number(connection: Connection, collection_id: int, key: VersionKey) -> NotFoundError:
    here = t.versions.c.collection_id == collection_id
    live = select(t.versions.c.number).where(here, t.versions.c.deleted_at.is_(None))
    newest = _values(connection, live.order_by(t.versions.c.number.desc()).limit(_SHOWN))
    instead = "all its versions were deleted"
    if newest:
        count = connection.execute(select(func.count()).select_from(live.subquery())).scalar_one()
        shown = ", ".join(f"v{number}" for number in newest)
        instead = f"there are {shown}{_more(count)}" if count > 1 else f"there is {shown}"
    if key.number.bit_length() < 64:  # what a database can compare a number with
        query = select(t.versions.c.deleted_at).where(here, t.versions.c.number == key.number)
        deleted_at = connection.execute(query).scalar_one_or_none()
        if deleted_at is not None:
            return NotFoundError(f"{key} was deleted on {deleted_at:%Y-%m-%d}: {instead}")
    return NotFoundError(f"there is no {key}: {instead}")


def _values(connection: Connection, query: Select[Any]) -> list[Any]:
    return list(connection.execute(query).scalars())


def _instead(wanted: str, existing: Collection[str], owner: str) -> str:
    if not existing:
        return f"{owner} has none"
    close = difflib.get_close_matches(wanted, existing, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"{owner} has {', '.join(map(repr, sorted(existing)[:_SHOWN]))}{_more(len(existing))}"


def _more(count: int) -> str:
    return f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
