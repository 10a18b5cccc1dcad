"""`refart get`: bytes of a version on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from refart.cli.common import Command, Settings, agree, check_may_ask, given

if TYPE_CHECKING:
    from refart.ops.download import Link


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.option(
    "--root", type=given, metavar="DIR", help="Folder to download to. Default: ./artifacts/NAME-VERSION."
)
@click.option("--path", metavar="PREFIX", help="Only this entry, or what lies below this folder.")
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Only what matches, as in .gitignore. Repeatable."
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Not what matches, as in .gitignore. Repeatable."
)
@click.option("--allow-missing", is_flag=True, help="Leave out references whose object is gone.")
@click.option(
    "--link",
    type=click.Choice(["auto", "reflink", "hardlink", "copy"]),
    default="auto",
    show_default=True,
    help="How files come from the cache; copy gives files of your own to edit.",
)
@click.option(
    "--prune", is_flag=True, help="Then remove files in the folder that are no entries; asks first."
)
@click.option("-y", "--yes", is_flag=True, help="Agree to --prune beforehand.")
@click.pass_obj
def get(
    settings: Settings,
    name: str,
    root: str | None,
    path: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    allow_missing: bool,
    link: Link,
    prune: bool,
    yes: bool,
) -> None:
    """Download a version, verified byte by byte.

    A file appears only when its bytes are the recorded ones, whatever the bucket holds today. What is there and right
    is neither moved nor read. Other files in the folder stay, unless --prune.

    \b
    Examples:
      refart get images
      refart get images:v0 --root data --path train
      refart get images:golden --exclude '*.tmp' --root data --prune --yes
    """
    if prune and not yes:
        check_may_ask(settings, "--prune")

    def remove(foreign: list[str]) -> bool:
        return agree(settings, f"Remove these {len(foreign):,} files?", foreign, yes=yes)

    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        with workspace.init(artifact.project, job_type="get") as run:
            report = run.use_artifact(artifact).download_report(
                root,
                path_prefix=path,
                include=include or None,
                exclude=exclude or None,
                allow_missing_references=allow_missing,
                link=link,
                prune=remove if prune else None,
            )
    if report.missing:
        settings.output.note(f"{len(report.missing):,} references are gone and were left out")
    if report.unverified:
        settings.output.note(
            f"nothing confirms the bytes of {len(report.unverified):,} files: no hash, pin or ETag"
        )
    if report.weakly_confirmed:
        settings.output.note(
            f"only size and time, or a weak ETag, confirm the bytes of {report.weakly_confirmed:,} files"
        )
    settings.output.record(
        {"name": artifact.qualified_name, "run": run.id, **asdict(report)},
        headline=f"{artifact.qualified_name} is in {report.root}",
        hide=("name", "root"),
        text={"checked_by": ", ".join(f"{rung} {count:,}" for rung, count in report.checked_by.items())},
    )
