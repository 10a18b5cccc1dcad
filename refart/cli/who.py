"""`refart who`: which versions hold an object or prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from refart.cli.common import Command, Settings, given
from refart.cli.output import Column, Record
from refart.cli.shapes import entry_record, run_record

if TYPE_CHECKING:
    from refart.ops.who import Holding


def _runs(row: Record) -> str:
    """`1a2b3c4d (train), 5e6f7a8b (report)`"""
    return ", ".join(f"{run['id']} ({run['job_type'] or run['name']})" for run in row["used_by"]) or "-"


def _pins(row: Record) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(row["pins"].items()))


_HOLDINGS: Final = [
    Column("name"),
    Column("entries"),
    Column("size_bytes"),
    Column("pins", "pinned by", text=_pins),
    Column("aliases", text=lambda row: ", ".join(row["aliases"]) or "-"),
    Column("used_by", "used by", text=_runs),
]


@click.command(cls=Command)
@click.argument("uri", type=given, metavar="URI")
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="With --json: at most N entries of each version.",
)
@click.pass_obj
def who(settings: Settings, uri: str, examples: int) -> None:
    """Show which versions hold an object or prefix, and who used them.

    What breaks if it is deleted: the live versions of all projects with entries at URI or below it, how their entries
    are pinned, and the runs that used them. Nothing is asked of the source; the index in the catalog names the few
    shards to read. With --json, one version a line. A plain path that no version holds, and at which nothing lies, is
    an error (3): it may be a typing error.

    \b
    Examples:
      refart who s3://lake/images/cat.jpg
      refart who s3://lake/images --json | jq -r .name
    """
    with settings.open() as workspace:
        report = workspace.who(uri, examples=examples)
    settings.output.rows(map(holding_record, report.holdings), _HOLDINGS)
    if not report.holdings:
        settings.output.note(f"no version holds {report.uri}")


def holding_record(holding: Holding) -> dict[str, Any]:
    version = holding.version
    return {
        "name": str(version.key),
        "type": version.type,
        "aliases": list(version.aliases),
        "entries": holding.entry_count,
        "size_bytes": holding.size_bytes,
        "pins": dict(holding.pins),
        "examples": [entry_record(entry) for entry in holding.examples],
        "logged_by": [run_record(run) for run in holding.logged_by],
        "used_by": [run_record(run) for run in holding.used_by],
    }
