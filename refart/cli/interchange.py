"""`refart export` and `refart import`: versions in a file, to and from other workspaces and other tools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from refart.cli.common import Command, Settings, given
from refart.cli.logged import HIDDEN, log
from refart.errors import InvalidInputError

if TYPE_CHECKING:
    from refart.workspace import Workspace

Format = Literal["tar", "wandb", "dvc"]
_SUFFIXES: Final[dict[str, Format]] = {".tar": "tar", ".json": "wandb", ".dvc": "dvc"}


@click.command(cls=Command)
@click.argument("what", type=given, metavar="PROJECT[/NAME] | NAME:VERSION")
@click.option(
    "--to", "file", type=given, required=True, metavar="FILE", help="The file to write, for example x.tar."
)
@click.option(
    "--blobs/--no-blobs", default=True, show_default=True, help="With or without the bytes of managed files."
)
@click.option("--force", is_flag=True, help="Replace a file of this name.")
@click.pass_obj
def export(settings: Settings, what: str, file: str, blobs: bool, force: bool) -> None:
    """Write versions into one tar file that another workspace imports.

    A whole project, all versions of a name in it, or one version: with labels, metadata, manifests, managed bytes, the
    runs that logged and used them, and lineage. Objects that references point at are not in it.

    \b
    Examples:
      refart export vision --to vision.tar
      refart export vision/images --to images.tar --no-blobs
      refart export images:golden --to golden.tar
    """
    if file == "-":
        raise click.UsageError("--to - means standard output, where the result is told: name a file")
    with settings.open() as workspace:
        report = workspace.export_tar(_what(settings, what), file, blobs=blobs, overwrite=force)
    settings.output.record(asdict(report), headline=f"{what} exported")


def _what(settings: Settings, what: str) -> str:
    from refart import names

    return str(names.parse_version_ref(what, settings.default_project)) if ":" in what else what


@click.command("import", cls=Command)
@click.argument("file", type=given, metavar="FILE")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tar", "wandb", "dvc"]),
    help="An export of refart, a manifest of W&B (wandb_manifest.json), or a .dvc file. Default: by the name.",
)
@click.option("--as-project", type=given, metavar="NAME", help="Of an export: take its project as this one.")
@click.option("-n", "--name", type=given, metavar="TEXT", help="Of a manifest: name of the artifact to log.")
@click.option("-t", "--type", type=given, metavar="TEXT", help="Of a manifest: type of the artifact.")
@click.pass_obj
def import_(
    settings: Settings,
    file: str,
    form: Format | None,
    as_project: str | None,
    name: str | None,
    type: str | None,
) -> None:
    """Take over versions from another workspace, from W&B or from DVC.

    An export of refart keeps its version numbers, labels, runs and lineage; the same file again changes nothing. A
    manifest of W&B and a .dvc file become one version of references, with the versions that they pin.

    \b
    Examples:
      refart import vision.tar
      refart import vision.tar --as-project vision-copy
      refart import wandb_manifest.json -n images
      refart import data.dvc -n data
    """
    form = form or _SUFFIXES.get(Path(file).suffix)
    if form is None:
        raise InvalidInputError(f"{file}: what is it? Pass --format tar, wandb or dvc")
    if form == "tar" and (name or type):
        raise click.UsageError("--name and --type are for manifests; an export has its own (--as-project)")
    if form != "tar" and as_project is not None:
        raise click.UsageError("--as-project is for exports of refart; a manifest has --name project/name")
    with settings.open(create=True) as workspace:
        if form == "tar":
            _import_tar(settings, workspace, file, as_project)
        else:
            _import_manifest(settings, workspace, file, form, name, type)


def _import_tar(settings: Settings, workspace: Workspace, file: str, as_project: str | None) -> None:
    report = workspace.import_tar(file, as_project=as_project)
    settings.output.record(
        asdict(report),
        headline=f"{len(report.created):,} versions imported, {len(report.present):,} were here"
        + (f", {len(report.deleted_here):,} were deleted here and stay so" if report.deleted_here else ""),
    )
    if report.deleted_here:
        settings.output.note(
            f"{report.deleted_here[0]}{' and others' if report.deleted_here[1:] else ''} of the file were deleted here:"
            " --as-project NAME brings them back under another project"
        )
    if report.dropped_edges:
        settings.output.note(
            f"{report.dropped_edges:,} edges of lineage lead to versions that are neither in the file nor here"
        )
    if report.missing_blobs:
        settings.output.note(
            f"{report.missing_blobs:,} managed files have no bytes here: export without --no-blobs brings them"
        )


def _import_manifest(
    settings: Settings, workspace: Workspace, file: str, form: Format, name: str | None, type: str | None
) -> None:
    from refart import names
    from refart.run import default_name

    project, chosen = names.parse_collection_ref(
        name or default_name(Path(file).stem), settings.default_project
    )
    artifact = workspace.draft(chosen, type, project=project)
    add = artifact.add_wandb_manifest if form == "wandb" else artifact.add_dvc
    add(file)
    (logged,) = log(settings, workspace, [artifact], project=project, job_type="import")
    settings.output.record(logged.record, headline=logged.headline, hide=HIDDEN)
