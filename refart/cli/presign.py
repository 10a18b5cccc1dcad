"""`refart presign`: a URL by which others read one entry."""

from __future__ import annotations

import click

from refart.cli.common import Command, Settings, split_path
from refart.errors import InvalidInputError


@click.command(cls=Command)
@click.argument("target", metavar="NAME:VERSION/PATH")
@click.option(
    "--expires", type=int, default=3600, show_default=True, metavar="SECONDS", help="At most 7 days."
)
@click.pass_obj
def presign(settings: Settings, target: str, expires: int) -> None:
    """Print a URL by which anyone reads one entry for a while.

    It names the pinned version (S3, Azure) or generation (GCS), so that it gives the bytes that were logged. Where none
    is pinned, what lies there now must be what was logged, and is what the URL gives. The URL is a secret.

    \b
    Examples:
      refart presign images:v0/labels.json
      curl -O "$(refart presign images:v0/train.tar --expires 600)"
    """
    name, path = split_path(target)
    if path is None:
        raise InvalidInputError(
            f"{target!r} names no entry: write NAME:VERSION/PATH, such as images:v0/labels.json"
        )
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        url = artifact.get_entry(path).presign(expires)
    record = {"name": artifact.qualified_name, "path": path, "url": url, "expires_s": expires}
    settings.output.record(record, headline=url, hide=list(record))
