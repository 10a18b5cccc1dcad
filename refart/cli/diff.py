"""`refart diff`: what changed between two versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from refart.cli.common import Command, Settings
from refart.cli.output import Column, Record
from refart.progress import format_bytes

if TYPE_CHECKING:
    from refart.manifest.compare import Diff

EXIT_DIFFERS: Final = 11
_COLOURS: Final = {"added": "green", "removed": "red", "modified": "yellow", "relocated": "blue"}


def sizes(row: Record) -> str:
    """`2 B → 3 B`, or the one size there is."""
    sizes = [row["old_size"], row["new_size"]]
    known = [format_bytes(size) for size in sizes if size is not None]
    return " → ".join(dict.fromkeys(known)) or "-"


_PATHS: Final = [Column("path")]
_CHANGES: Final = [
    Column("change", colour=lambda row: _COLOURS[row["change"]]),
    Column("size", text=sizes),
    Column("path"),
]


@click.command(cls=Command)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--path", metavar="PREFIX", help="Only this entry, or what lies below this folder.")
@click.option("--stat", is_flag=True, help="Only counts and bytes.")
@click.option("--name-only", is_flag=True, help="Only the paths that changed.")
@click.option("--exit-code", is_flag=True, help=f"End with {EXIT_DIFFERS} where there are changes.")
@click.pass_obj
def diff(
    settings: Settings, old: str, new: str, path: str | None, stat: bool, name_only: bool, exit_code: bool
) -> None:
    """Show what changed between two versions.

    An entry is added, removed, modified (other bytes) or relocated (the same bytes at another URI). The cost follows
    the change, not the size of the versions. With --json, one change a line; with --stat --json, one document.

    \b
    Examples:
      refart diff images:v0 images:v1
      refart diff images:golden images:latest --path train --stat
      refart diff images:v0 images:v1 --exit-code --quiet --name-only
    """
    if stat and name_only:
        raise click.UsageError("--stat and --name-only exclude each other")
    with settings.open() as workspace:
        before, after = settings.version(workspace, old), settings.version(workspace, new)
        changes = before.diff(after, path)
        rows = _rows(changes)
        if stat:
            for _ in rows:
                pass
        else:
            settings.output.rows(rows, _PATHS if name_only else _CHANGES, header=False)
    summary = asdict(changes.summary)
    kinds = [kind for kind in _COLOURS if summary[kind]]
    said = ", ".join(f"{summary[kind]:,} {kind}" for kind in kinds) or "no change"
    headline = f"{before.qualified_name} → {after.qualified_name}: {said}"
    if stat:
        text = {kind: _counted(summary, kind) for kind in kinds}
        record = {"old": before.qualified_name, "new": after.qualified_name, **summary}
        settings.output.record(
            record, headline=headline, hide=[k for k in record if k not in kinds], text=text
        )
    else:
        settings.output.note(headline)
    if exit_code and kinds:
        raise click.exceptions.Exit(EXIT_DIFFERS)


def _counted(summary: Record, kind: str) -> str:
    """`3 (12 KiB → 14 KiB)`"""
    keys = ("old_modified_bytes", "new_modified_bytes") if kind == "modified" else (f"{kind}_bytes",)
    moved = " → ".join(format_bytes(summary[key]) for key in keys if key in summary)
    return f"{summary[kind]:,}" + (f" ({moved})" if moved else "")


def _rows(changes: Diff) -> Iterator[dict[str, Any]]:
    for page in changes:
        yield from page.to_pylist()
