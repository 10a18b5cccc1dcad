"""`refart diff`: what changed from a version to another, to the live source, or to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from refart.cli.common import Command, Settings, given
from refart.cli.output import Column, Record
from refart.progress import format_bytes

if TYPE_CHECKING:
    from refart.manifest.compare import Diff

EXIT_DIFFERS: Final = 11
_COLOURS: Final = {
    "added": "green",
    "removed": "red",
    "modified": "yellow",
    "moved": "blue",
    "relocated": "blue",
    "unknown": "magenta",
}


def sizes(row: Record) -> str:
    """`2 B → 3 B`, or the one size there is."""
    sizes = [row["old_size"], row["new_size"]]
    known = [format_bytes(size) for size in sizes if size is not None]
    return " → ".join(dict.fromkeys(known)) or "-"


def paths(row: Record) -> str:
    """The path; of an entry that moved `old → new`."""
    return str(row["path"] if row["old_path"] is None else f"{row['old_path']} → {row['path']}")


_PATHS: Final = [Column("path")]
_CHANGES: Final = [
    Column("change", colour=lambda row: _COLOURS[row["change"]]),
    Column("size", text=sizes),
    Column("path", text=paths),
]


@click.command(cls=Command)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="[NEW]", required=False)
@click.option("--live", is_flag=True, help="Compare with what lies at the references of OLD now.")
@click.option(
    "--root", type=given, metavar="DIR", help="Compare with the files of a folder that OLD was downloaded to."
)
@click.option("--path", metavar="PREFIX", help="Only this entry, or what lies below this folder.")
@click.option("--stat", is_flag=True, help="Only counts and bytes.")
@click.option("--name-only", is_flag=True, help="Only the paths that changed.")
@click.option("--no-moves", is_flag=True, help="Tell moved entries as removed and added, as they come.")
@click.option("--exit-code", is_flag=True, help=f"End with {EXIT_DIFFERS} where there are changes.")
@click.pass_obj
def diff(
    settings: Settings,
    old: str,
    new: str | None,
    live: bool,
    root: str | None,
    path: str | None,
    stat: bool,
    name_only: bool,
    no_moves: bool,
    exit_code: bool,
) -> None:
    """Show what changed from one version to another, to the live source, or to a folder.

    An entry is added, removed, modified (other bytes), moved (the same bytes at another path) or relocated (the same
    bytes at another URI). Between versions the cost follows the change, not their size; --live costs one listing.
    What cannot be compared with the live source or a folder is unknown. With --json, one change a line; with --stat
    --json, one document.

    \b
    Examples:
      refart diff images:v0 images:v1
      refart diff images:golden images:latest --path train --stat
      refart diff images:v0 images:v1 --exit-code --quiet --name-only
      refart diff images --live
      refart diff images:v0 --root data
    """
    if stat and name_only:
        raise click.UsageError("--stat and --name-only exclude each other")
    if (new is not None) + live + (root is not None) != 1:
        raise click.UsageError("give one of NEW, --live and --root: what to compare OLD with")
    with settings.open() as workspace:
        before = settings.version(workspace, old)
        if new is not None:
            after = settings.version(workspace, new)
            other, changes = after.qualified_name, before.diff(after, path, moves=not no_moves)
        elif root is not None:
            other, changes = root, before.diff_folder(root, path, moves=not no_moves)
        else:
            other, changes = "live", before.diff_live(path, moves=not no_moves)
        if not stat:
            settings.output.rows(_rows(changes), _PATHS if name_only else _CHANGES, header=False)
        told = changes.read()
    summary = asdict(told)
    kinds = [kind for kind in _COLOURS if summary[kind]]
    said = ", ".join(f"{summary[kind]:,} {kind}" for kind in kinds) or "no change"
    headline = f"{before.qualified_name} → {other}: {said}"
    if stat:
        text = {kind: _counted(summary, kind) for kind in kinds}
        record = {"old": before.qualified_name, "new": other, **summary}
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
    return f"{summary[kind]:,} ({' → '.join(format_bytes(summary[key]) for key in keys)})"


def _rows(changes: Diff) -> Iterator[dict[str, Any]]:
    for page in changes:
        yield from page.to_pylist()
