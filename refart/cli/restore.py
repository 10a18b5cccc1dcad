"""`refart restore`: bring a bucket or folder back to what a version recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from refart.cli.common import Command, Settings, agree, check_may_ask
from refart.cli.output import Column
from refart.progress import format_bytes

if TYPE_CHECKING:
    from refart.ops.restore import RestorePlan

_COLOURS: Final = {"impossible": "red", "delete": "yellow", "copy": "green", "write": "green"}
_ROWS: Final = [
    Column("action", colour=lambda row: _COLOURS.get(row["action"], "")),
    Column("size", text=lambda row: "-" if row["size"] is None else format_bytes(row["size"])),
    Column("uri"),
    Column("why", text=lambda row: row["why"] or ""),
]
_NAMED: Final = 5
"""Deletions that the question names."""

_SAID: Final = {
    "copy": "to copy",
    "write": "to write",
    "delete": "to delete",
    "new": "not recorded, which stay",
    "unverifiable": "of which nothing tells whether they changed",
    "impossible": "that cannot be restored",
}


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.option("--path", metavar="PREFIX", help="Only this entry, or what lies below this folder.")
@click.option("--to", metavar="URI", help="Restore to this prefix. Default: where everything was.")
@click.option("--delete", is_flag=True, help="Delete what the version did not record.")
@click.option("--allow-missing", is_flag=True, help="Restore the rest where something is lost.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def restore(
    settings: Settings,
    name: str,
    path: str | None,
    to: str | None,
    delete: bool,
    allow_missing: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Bring a bucket or folder back to what a version recorded.

    Shows a plan and asks. The server copies the pinned versions itself: no byte comes here. What is unchanged is not
    touched, what is new stays unless --delete, and what changes meanwhile is left as it is (exit code 4). Where
    something is lost, nothing is written, unless --allow-missing (exit code 5, of --dry-run too). What fails is named,
    and all else is restored; the exit code is that of the first error. With --dry-run --json, one object a line.

    \b
    Examples:
      refart restore images:v3 --dry-run
      refart restore images:v3 --path train/labels --yes
      refart restore images:golden --to s3://spare/images --yes
    """
    if not (yes or dry_run):
        check_may_ask(settings, "restore")
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        plan = artifact.restore_plan(path, to=to, delete=delete)
        said = _said(plan)
        if dry_run:
            settings.output.rows(_rows(plan), _ROWS, header=False)
            settings.output.note(f"{artifact.qualified_name}: {said}")
        plan.check(allow_missing=allow_missing)
        if dry_run:
            return
        if not plan.is_empty:
            agree(settings, f"Restore {artifact.qualified_name}?", [said, *_deletions(plan)], yes=yes)
        report = plan.execute(allow_missing=allow_missing)
    if report.unverified:
        settings.output.note(
            f"of {len(report.unverified):,} copies only the size could be compared: they have another kind of ETag"
        )
    record = {
        "name": artifact.qualified_name,
        "to": plan.to,
        "unchanged_files": plan.unchanged_files,
        "managed_files": plan.managed_files,
        "new_files": plan.counts["new"],
        "unverifiable_files": plan.counts["unverifiable"],
        **asdict(replace(report, failed={})),
        "failed": {path: str(error) for path, error in report.failed.items()},
    }
    in_part = " in part" if report.failed or report.conflicts else ""
    done = artifact.qualified_name + (f": {said}" if plan.is_empty else f" is restored{in_part}")
    nothing = [key for key, value in record.items() if value == 0]
    settings.output.record(
        record, headline=done, hide=["name", *nothing], text={"failed": list(report.failed)}
    )
    report.check()


def _said(plan: RestorePlan) -> str:
    """`2 to copy (3.1 GiB), 1 not recorded, which stay`"""
    told = [
        f"{count:,} {_SAID[action]} ({format_bytes(plan.size_bytes[action])})"
        for action, count in plan.counts.items()
        if count
    ]
    if plan.is_empty:
        told.insert(0, "nothing to do")
    return ", ".join(told)


def _deletions(plan: RestorePlan) -> Iterator[str]:
    """The first few, and how many more."""
    count = plan.counts["delete"]
    if count:
        rows = (row for row in _rows(plan) if row["action"] == "delete")
        yield from (f"delete {row['uri']}" for row in islice(rows, _NAMED))
    if count > _NAMED:
        yield f"and {count - _NAMED:,} more"


def _rows(plan: RestorePlan) -> Iterator[dict[str, Any]]:
    for page in plan.pages():
        yield from page.to_pylist()
