"""`refart relocate`: a new version whose references point where the data moved to."""

from __future__ import annotations

import click

from refart.cli.common import Command, Settings
from refart.cli.logged import HIDDEN, log


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--checksum",
    type=click.Choice(["sha256"]),
    help="Read the bytes of what a listing cannot compare.",
)
@click.pass_obj
def relocate(settings: Settings, name: str, old: str, new: str, checksum: str | None) -> None:
    """Point references where the data moved to, as a new version.

    OLD and NEW are prefixes. One listing of NEW must tell the same size and content for everything; what is missing,
    differs or cannot be compared is named, and nothing is logged. Pins are taken anew, paths stay as they are.

    \b
    Examples:
      refart relocate images s3://lake/images s3://archive/2026/images
      refart relocate images s3://lake/images gs://lake/images --checksum sha256
    """
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        draft = artifact.new_draft()
        moved = draft.relocate(old, new, checksum="sha256" if checksum else None)
        (logged,) = log(
            settings, workspace, [draft], project=artifact.project, job_type="relocate", base=artifact
        )
    settings.output.record(
        {"run": logged.run_id, "moved_entries": moved, **logged.record},
        headline=logged.headline,
        hide=HIDDEN,
    )
