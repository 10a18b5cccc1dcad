"""`refart ls`, `show` and `cat`: look at collections, versions, entries and bytes."""

from __future__ import annotations

from functools import partial
from itertools import chain, islice
from typing import Final

import click

from refart.cli.common import Command, Settings, split_path
from refart.cli.output import Column
from refart.cli.shapes import (
    collection_record,
    entry_record,
    run_label,
    run_record,
    version_record,
    weak_text,
)
from refart.errors import InvalidInputError, NotFoundError

_CHUNK_BYTES: Final = 8 << 20

_COLLECTIONS: Final = [Column(key) for key in ("name", "type", "versions", "latest", "created_at")]
_VERSIONS: Final = [
    Column(key) for key in ("version", "created_at", "entries", "size_bytes", "aliases", "tags")
]
_WEAK: Final = Column("weak", "", text=lambda row: "weak" if row["weak"] else "")
_ENTRIES: Final = [Column("size"), Column("path")]
_LONG_ENTRIES: Final = [Column(key) for key in ("size", "content_id", "path", "uri", "pin")]


@click.command(cls=Command)
@click.argument("target", metavar="[NAME[:VERSION[/PATH]]]", required=False)
@click.option("-l", "--long", is_flag=True, help="Of entries: content id, URI and pin too.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N versions.")
@click.pass_obj
def ls(settings: Settings, target: str | None, long: bool, limit: int | None) -> None:
    """List collections, versions or entries.

    Without an argument: the collections. NAME: its versions, newest first. NAME:VERSION: its entries;
    NAME:VERSION/PATH: those at and below a path. With --json, one document a line.

    \b
    Examples:
      refart ls
      refart ls images --limit 10
      refart ls images:v0/train --long
      refart ls images:latest --json | jq -r .uri
    """
    name, path = split_path(target or "")
    if long and ":" not in name:
        raise InvalidInputError("--long is for entries: name a version, such as images:latest")
    if limit is not None and (not name or ":" in name):
        raise InvalidInputError("--limit is for versions: name a collection, such as images")
    with settings.open() as workspace:
        if not name:
            if settings.project is not None and settings.project not in workspace.projects():
                raise NotFoundError(
                    f"there is no project {settings.project!r} in {workspace.url}; without --project, all are listed"
                )
            settings.output.rows(
                map(collection_record, workspace.collections(settings.project)), _COLLECTIONS
            )
        elif ":" not in name:
            newest = settings.version(
                workspace, name
            )  # says what is wrong with the name, and what there is instead
            versions = workspace.artifacts(newest.name, project=newest.project, limit=limit)
            settings.output.rows(map(version_record, versions), _VERSIONS)
        else:
            artifact = settings.version(workspace, name)
            entries = map(entry_record, artifact.entries(path))
            first = list(islice(entries, 1))
            if path is not None and not first:
                raise NotFoundError(f"{artifact.qualified_name} has no entry {path!r} and nothing below it")
            rows = chain(first, entries)
            size, *others = _LONG_ENTRIES if long else _ENTRIES
            marks = [] if artifact.weak_count == 0 else [_WEAK]
            settings.output.rows(rows, [size, *marks, *others], header=long)


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.pass_obj
def show(settings: Settings, name: str) -> None:
    """Show everything about a version.

    \b
    Examples:
      refart show images:v0
      refart show images --json | jq .metadata
    """
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        logged_by, used_by = artifact.logged_by(), artifact.used_by()
        record = {
            **version_record(artifact),
            "weak_entries": artifact.weak_count,
            "logged_by": None if logged_by is None else run_record(logged_by),
            "used_by": [run_record(run) for run in used_by],
        }
    settings.output.record(
        record,
        headline=artifact.qualified_name,
        hide=("name", "version"),
        text={
            "weak_entries": weak_text(artifact),
            "logged_by": None if logged_by is None else run_label(logged_by),
            "used_by": [run_label(run) for run in used_by],
        },
    )


@click.command(cls=Command)
@click.argument("target", metavar="NAME:VERSION/PATH")
@click.pass_obj
def cat(settings: Settings, target: str) -> None:
    """Write the bytes of one entry to standard output.

    They come from the object that was logged, and are hashed on the way: where they are not the recorded ones, the
    exit code is not 0, although a part was written. With --json, only a failure is JSON.

    \b
    Examples:
      refart cat images:v0/labels.json
      refart cat images:latest/table.parquet > table.parquet
    """
    name, path = split_path(target)
    if path is None:
        raise InvalidInputError(
            f"{target!r} names no entry: write NAME:VERSION/PATH, such as images:v0/labels.json"
        )
    with settings.open() as workspace, settings.version(workspace, name).open(path) as file:
        settings.output.raw(iter(partial(file.read, _CHUNK_BYTES), b""))
