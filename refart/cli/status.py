"""`refart status`: what became of what a version points at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from refart.cli.common import Command, Settings
from refart.cli.diff import EXIT_DIFFERS, sizes
from refart.cli.output import Column, Record
from refart.errors import PermissionDeniedError
from refart.progress import format_bytes

if TYPE_CHECKING:
    from refart.ops.live import PinState
    from refart.ops.status import StatusReport, StatusSummary

EXIT_LOSS: Final = 12
_COLOURS: Final = {"lost": "red", "superseded": "yellow", "stored": "yellow", None: "green"}
_ROWS: Final = [
    Column("change", colour=lambda row: _COLOURS.get(row["pin_state"], "")),
    Column("pin_state", "pin"),
    Column("size", text=sizes),
    Column("path"),
]


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.option("--path", metavar="PREFIX", help="Only this entry, or what lies below this folder.")
@click.option("--all", "unchanged", is_flag=True, help="Show unchanged entries, too.")
@click.option("--stat", is_flag=True, help="Only counts and bytes.")
@click.pass_obj
def status(settings: Settings, name: str, path: str | None, unchanged: bool, stat: bool) -> None:
    """Show what became of what a version points at.

    Each reference is unchanged, modified, rewritten (another write: only reading it would tell), unverifiable, removed
    or denied; what is new below the logged prefixes is told, too. The bytes that were logged are pinned (they lie there
    now), equal (as another write), superseded (kept as an old version), stored (in the store or the cache), lost,
    unverifiable or denied. It costs a listing of each logged prefix, and a request for each pinned version of what
    changed. With --json, one change a
    line; with --stat --json, one document.

    Ends with 12 where logged bytes are lost, else with 11 where the source drifted, else with 7 where something may not
    be looked at.

    \b
    Examples:
      refart status images
      refart status images:v0 --path train --all
      refart status images:golden --stat --json | jq .pins.lost
    """
    if unchanged and stat:
        raise click.UsageError("--all and --stat exclude each other")
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        report = artifact.status(path, unchanged=unchanged)
        if not stat:
            settings.output.rows(_rows(report), _ROWS, header=False)
        summary = report.read()
    headline = f"{artifact.qualified_name}: {_said(summary)}"
    for prefix in summary.refused:
        settings.output.note(f"{prefix} may not be listed")
    if stat:
        told: dict[str, Any] = asdict(summary)
        flags = {"drift": summary.has_drift, "loss": summary.has_loss, "denied": summary.is_denied}
        text = {
            "entries": counted(told["entries"], told["size_bytes"]),
            "pins": counted(told["pins"], told["pin_bytes"]),
        }
        settings.output.record(
            {"name": artifact.qualified_name, **flags, **told},
            headline=headline,
            hide=("name", *flags, "size_bytes", "pin_bytes"),
            text=text,
        )
    else:
        settings.output.note(headline)
    end(artifact.qualified_name, loss=summary.has_loss, drift=summary.has_drift, denied=summary.is_denied)


def end(name: str, *, loss: bool, denied: bool, drift: bool = False) -> None:
    """End with the exit code of the worst that was found, if anything was."""
    if loss or drift:
        raise click.exceptions.Exit(EXIT_LOSS if loss else EXIT_DIFFERS)
    if denied:
        raise PermissionDeniedError(
            f"{name} could not be looked at everywhere: access is denied to a part of what it points at"
        )


def _rows(report: StatusReport) -> Iterator[dict[str, Any]]:
    for page in report:
        yield from page.to_pylist()


def _said(summary: StatusSummary) -> str:
    changes = {state: n for state, n in summary.entries.items() if n and state != "unchanged"}
    told = [f"{n:,} {state}" for state, n in changes.items()] or ["no drift"]
    kept: dict[PinState, str] = {
        "superseded": "kept as old versions",
        "stored": "kept in the store or the cache",
        "lost": "lost",
    }
    told += [f"{n:,} {words}" for state, words in kept.items() if (n := summary.pins[state])]
    return ", ".join(told)


def counted(counts: Record, size_bytes: Record) -> dict[str, str]:
    """`{"modified": "3 (12 KiB)"}`, without what there is none of."""
    return {state: f"{n:,} ({format_bytes(size_bytes[state])})" for state, n in counts.items() if n}
