"""`refart materialize`: references as managed files of a new version."""

from __future__ import annotations

from dataclasses import asdict

import click

from refart.cli.common import Command, Settings
from refart.cli.logged import HIDDEN, log


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.option("--path", metavar="PREFIX", help="Only this entry, or what lies below this folder.")
@click.option("--at-risk", is_flag=True, help="Only what an overwrite or a lifecycle rule may lose.")
@click.option("--allow-missing", is_flag=True, help="What is lost stays a reference.")
@click.pass_obj
def materialize(settings: Settings, name: str, path: str | None, at_risk: bool, allow_missing: bool) -> None:
    """Store the bytes of references, as a new version.

    The pinned bytes are read, verified and stored by their SHA-256; paths stay as they are. What the store has already
    is not read again. At risk is what has no pinned version, or a weak identity, or was overwritten or deleted since.
    What is lost already is an error, or stays a reference with --allow-missing: be it gone, or overwritten where no
    version was pinned.

    \b
    Examples:
      refart materialize images:golden
      refart materialize images --at-risk
    """
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        draft = artifact.new_draft()
        report = draft.materialize(path, at_risk=at_risk, allow_missing_references=allow_missing)
        (logged,) = log(
            settings, workspace, [draft], project=artifact.project, job_type="materialize", base=artifact
        )
    if report.lost:
        settings.output.note(
            f"the bytes of {len(report.lost):,} references are gone or were overwritten; they stay references, first"
            f" {report.lost[0]!r}"
        )
    if report.unverified:
        settings.output.note(
            f"nothing confirms the bytes of {len(report.unverified):,} files: no hash, pin or ETag"
        )
    settings.output.record(
        {"run": logged.run_id, **asdict(report), **logged.record},
        headline=logged.headline,
        hide=HIDDEN,
    )
