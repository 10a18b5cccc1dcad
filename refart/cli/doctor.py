"""`refart doctor`: what works at a place, or of the workspace itself, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from refart.cli.common import Command, Settings, given
from refart.cli.output import Column, Record
from refart.errors import NotFoundError

if TYPE_CHECKING:
    from refart.sources.findings import Finding

EXIT_FAILS: Final = 13
_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


def _sentence(row: Record) -> str:
    """What was found; where something is to be done, also why and what."""
    return " — ".join(part for part in (row["what"], row["why"], row["advice"]) if part)


_COLUMNS: Final = [
    Column("level", colour=lambda row: _COLOURS[row["level"]]),
    Column("about"),
    Column("what", text=_sentence),
]


@click.command(cls=Command)
@click.argument("uri", type=given, required=False)
@click.pass_obj
def doctor(settings: Settings, uri: str | None) -> None:
    """Examine a place, or the workspace itself.

    Of URI: may it be listed and read, also by version; are old versions kept, and which lifecycle rules remove them
    from under versions here; archived objects; region; clock; what identifies bytes. At most ten requests, whatever
    lies there. Without URI: catalog, store, cache, clock, and installed drivers.

    Each finding is ok, warn or fail. Ends with 13 where one is fail. With --json, one finding a line.

    \b
    Examples:
      refart doctor s3://lake/images
      refart doctor
      refart doctor gs://lake --json | jq 'select(.level != "ok")'
    """
    levels = set[str]()

    def rows() -> Iterator[dict[str, Any]]:
        for finding in _findings(settings, uri):
            levels.add(finding.level)
            yield _record(finding)

    settings.output.rows(rows(), _COLUMNS, header=False)
    if "fail" in levels:
        raise click.exceptions.Exit(EXIT_FAILS)


def _findings(settings: Settings, uri: str | None) -> Iterator[Finding]:
    try:
        with settings.open() as workspace:
            yield from workspace.doctor(uri)
    except NotFoundError:
        if uri is None:
            raise
        from refart.local import local_side
        from refart.ops.doctor import examine

        yield from examine(local_side(), uri)  # a place can be examined before there is a workspace


def _record(finding: Finding) -> dict[str, Any]:
    keys = ("level", "about", "what", "why", "advice", "expires_at")
    return {**{key: getattr(finding, key) for key in keys}, "versions": list(finding.versions)}
