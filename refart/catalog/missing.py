"""What to say when a row does not exist: which part of the name is unknown, what exists instead, what to do.

Only looked up once something is missing; the error is returned, and raised by the caller.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from sqlalchemy import Connection, select

from refart.catalog import tables as t
from refart.catalog.base import VersionKey
from refart.errors import NotFoundError

_SHOWN = 5


def run(run_id: str) -> NotFoundError:
    return NotFoundError(f"the catalog has no run {run_id!r}: list the runs to find its id")


def label(key: VersionKey, what: str, wanted: str, existing: Collection[str]) -> NotFoundError:
    """Say that a version has no such alias or tag."""
    return NotFoundError(f"{key} has no {what} {wanted!r}: {_instead(wanted, existing, str(key))}")


def version(connection: Connection, project: str, name: str, selector: int | str) -> NotFoundError:
    """Say whether project, artifact, version or alias is unknown, or that the version was deleted."""
    project_id = connection.execute(
        select(t.projects.c.id).where(t.projects.c.name == project)
    ).scalar_one_or_none()
    if project_id is None:
        existing = connection.execute(select(t.projects.c.name)).scalars().all()
        return NotFoundError(f"there is no project {project!r}: {_instead(project, existing, 'the catalog')}")
    named = select(t.collections.c.id).where(
        t.collections.c.project_id == project_id, t.collections.c.name == name
    )
    collection_id = connection.execute(named).scalar_one_or_none()
    if collection_id is None:
        existing = (
            connection.execute(select(t.collections.c.name).where(t.collections.c.project_id == project_id))
            .scalars()
            .all()
        )
        instead = _instead(name, existing, f"project {project!r}")
        return NotFoundError(f"project {project!r} has no artifact {name!r}: {instead}")
    if isinstance(selector, str):
        existing = (
            connection.execute(select(t.aliases.c.alias).where(t.aliases.c.collection_id == collection_id))
            .scalars()
            .all()
        )
        if not existing:
            return NotFoundError(f"{project}/{name} has no alias {selector!r}: all its versions were deleted")
        instead = _instead(selector, existing, f"{project}/{name}")
        return NotFoundError(f"{project}/{name} has no alias {selector!r}: {instead}")
    rows = connection.execute(
        select(t.versions.c.number, t.versions.c.deleted_at).where(
            t.versions.c.collection_id == collection_id
        )
    )
    numbers = {row.number: row.deleted_at for row in rows}
    live = sorted((number for number, deleted_at in numbers.items() if deleted_at is None), reverse=True)
    if not live:
        instead = "all its versions were deleted"
    else:
        shown = ", ".join(f"v{number}" for number in live[:_SHOWN])
        instead = f"it has {shown}{f' and {len(live) - _SHOWN:,} older ones' if len(live) > _SHOWN else ''}"
    deleted_at = numbers.get(selector)
    if deleted_at is not None:
        return NotFoundError(f"{project}/{name}:v{selector} was deleted on {deleted_at:%Y-%m-%d}: {instead}")
    return NotFoundError(f"{project}/{name} has no version v{selector}: {instead}")


def _instead(wanted: str, existing: Collection[str], owner: str) -> str:
    if not existing:
        return f"{owner} has none yet"
    close = difflib.get_close_matches(wanted, existing, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    listed = sorted(existing)
    shown = ", ".join(map(repr, listed[:_SHOWN]))
    more = f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    return f"{owner} has {shown}{more}"
