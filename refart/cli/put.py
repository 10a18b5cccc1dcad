"""`refart put`: log a version."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from refart.cli.common import Command, Settings, given
from refart.cli.logged import HIDDEN, log
from refart.cli.output import Record
from refart.cli.shapes import weak_text
from refart.errors import InvalidInputError

if TYPE_CHECKING:
    from refart.artifact import Artifact
    from refart.ops.identify import Checksum


@click.command(cls=Command)
@click.argument("sources", type=given, metavar="[SOURCE...]", nargs=-1)
@click.option(
    "--refresh",
    type=given,
    metavar="NAME[:VERSION]",
    help="Instead of SOURCE: list again what a version was logged from, and log what changed.",
)
@click.option(
    "-n",
    "--name",
    type=given,
    metavar="TEXT",
    help="Name of the artifact. Default: the last part of the first source.",
)
@click.option(
    "-t",
    "--type",
    type=given,
    metavar="TEXT",
    help="Type of the artifact. Default: that of its earlier versions, else dataset.",
)
@click.option(
    "-a", "--alias", "aliases", multiple=True, help="Alias for the version, besides latest. Repeatable."
)
@click.option("--tag", "tags", multiple=True, help="Tag for the version. Repeatable.")
@click.option("-d", "--description", help="What this version is.")
@click.option(
    "-m", "--metadata", metavar="KEY=VALUE", multiple=True, help="VALUE is JSON, or else text. Repeatable."
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Only what matches, as in .gitignore. Repeatable."
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Not what matches, as in .gitignore. Repeatable."
)
@click.option("--at", metavar="PATH", help="Folder of the artifact (for one file: its path) to put it at.")
@click.option(
    "-r", "--reference", is_flag=True, help="Point at local files where they lie instead of copying them."
)
@click.option(
    "--checksum",
    type=click.Choice(["auto", "sha256", "stored", "stat", "none"]),
    default="auto",
    show_default=True,
    help="Of references: what a listing gives; SHA-256 of every byte, read once; what the server keeps beside, one"
    " request each; size and modified time of files; nothing.",
)
@click.option("--no-follow-symlinks", is_flag=True, help="Of folders: leave out symbolic links.")
@click.option("--strip-signature", is_flag=True, help="Take a signed URL without its signature.")
@click.option(
    "--as-of",
    type=given,
    metavar="TIME",
    help="Of versioned buckets: what lay there then (ISO 8601 with a zone).",
)
@click.option(
    "--inventory",
    type=given,
    metavar="URI",
    help="Take what lies below each SOURCE from the manifest.json of an S3 Inventory instead of listing it; without a"
    " SOURCE, all that it lists.",
)
@click.option("--max-objects", type=click.IntRange(min=1), help="Of references: more objects are an error.")
@click.option("--allow-empty", is_flag=True, help="Accept that a folder or prefix holds nothing.")
@click.pass_obj
def put(
    settings: Settings,
    /,
    sources: tuple[str, ...],
    refresh: str | None,
    name: str | None,
    type: str | None,
    aliases: tuple[str, ...],
    tags: tuple[str, ...],
    description: str | None,
    metadata: tuple[str, ...],
    at: str | None,
    **options: Any,
) -> None:
    """Log objects, prefixes, folders or files as a version.

    SOURCE is a URI (s3://bucket/prefix, gs://bucket/key, https://host/file, file:///folder …), which is logged by
    reference: no byte is copied; refart://NAME:VERSION/PATH takes entries of another version. Or it is a local path,
    whose files are copied into the workspace, each content once; with --reference it is logged where it lies. Several
    sources make one version. The same content again makes none.

    --refresh NAME logs the next version of NAME at the cost of one listing and of what changed: what is as it was keeps
    its checksums. -a, --tag, -d, -m and --allow-empty go with it.

    \b
    Examples:
      refart put s3://lake/images -n images
      refart put s3://lake/images --include '*.jpg' -a golden -m source=camera-2
      refart put results/ model.bin -n experiment -t model
      refart put -r /data/scans --checksum sha256
      refart put refart://images:v3/train -n train-set
      refart put --refresh images
      refart put s3://lake/images --inventory s3://reports/lake/daily/2026-01-01T00-00Z/manifest.json
    """
    from refart import names
    from refart.run import default_name

    about: dict[str, Any] = {"description": description, "metadata": _metadata(metadata)}
    told: Record = {}
    base: Artifact | None = None
    is_whole_inventory = options["inventory"] is not None and not sources
    if (refresh is None) == (not sources and not is_whole_inventory):
        raise click.UsageError("give SOURCEs to log, or --refresh NAME")
    if is_whole_inventory and name is None:
        raise click.UsageError("--inventory without a SOURCE needs --name")
    with settings.open(create=refresh is None) as workspace:
        if refresh is not None:
            _check_alone({"name": name, "type": type, "at": at, **options})
            base = settings.version(workspace, refresh)
            project, artifact = base.project, base.new_draft()
            told = asdict(artifact.refresh(allow_empty=options["allow_empty"]))
        else:
            chosen = name or default_name(sources[0])
            project, chosen = names.parse_collection_ref(chosen, settings.default_project)
            artifact = workspace.draft(chosen, type, project=project)
            for source in sources or [None]:
                _add(artifact, source, at, **options)
        (logged,) = log(
            settings,
            workspace,
            [artifact],
            project=project,
            job_type="put",
            base=base,
            aliases=aliases,
            tags=tags,
            **about,
        )
        version = logged.version
        record = {"run": logged.run_id, **told, **logged.record, "weak_entries": version.weak_count}
    settings.output.record(
        record, headline=logged.headline, hide=HIDDEN, text={"weak_entries": weak_text(version)}
    )


def _check_alone(options: Record) -> None:
    """Refuse what a version that is refreshed was logged with already."""
    given = [key for key, value in options.items() if value and value != "auto" and key != "allow_empty"]
    if given:
        raise click.UsageError(
            f"--{given[0].replace('_', '-')} does not go with --refresh, which keeps what the version was logged with"
        )


def _add(
    artifact: Artifact,
    source: str | None,
    at: str | None,
    *,
    reference: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    checksum: str,
    max_objects: int | None,
    allow_empty: bool,
    no_follow_symlinks: bool,
    strip_signature: bool,
    as_of: str | None,
    inventory: str | None,
) -> None:
    from refart import names

    if inventory is not None:
        if reference or checksum != "auto" or no_follow_symlinks or strip_signature or as_of is not None:
            raise InvalidInputError(
                f"{inventory} is an inventory, whose rows are taken as they are; only --include, --exclude, --at,"
                " --max-objects and --allow-empty go with it"
            )
        artifact.add_inventory(
            inventory,
            source,
            at,
            max_objects=max_objects,
            include=include or None,
            exclude=exclude or None,
            allow_empty=allow_empty,
        )
        return
    assert source is not None
    if reference or names.uri_scheme(source) is not None:
        artifact.add_reference(
            source,
            at,
            checksum=cast("Checksum", {"auto": True, "none": False}.get(checksum, checksum)),
            max_objects=max_objects,
            include=include or None,
            exclude=exclude or None,
            allow_empty=allow_empty,
            follow_symlinks=not no_follow_symlinks,
            strip_signature=strip_signature,
            as_of=as_of,
        )
        return
    if checksum != "auto" or max_objects is not None or strip_signature or as_of is not None:
        raise InvalidInputError(
            f"{source} is copied into the workspace; --checksum, --max-objects, --strip-signature and --as-of are for"
            " references: add --reference"
        )
    if Path(source).expanduser().is_dir():
        artifact.add_dir(
            source,
            at,
            include or None,
            exclude or None,
            allow_empty=allow_empty,
            follow_symlinks=not no_follow_symlinks,
        )
    elif include or exclude or allow_empty or no_follow_symlinks:
        raise InvalidInputError(
            f"{source} is one file; --include, --exclude, --allow-empty and --no-follow-symlinks are for folders"
        )
    else:
        artifact.add_file(source, at)


def _metadata(pairs: tuple[str, ...]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidInputError(f"--metadata {pair!r} is not KEY=VALUE")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found or None
