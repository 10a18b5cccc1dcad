"""`refart alias`, `tag` and `rm`: change what a version is called, or delete it."""

from __future__ import annotations

from typing import Literal

import click

from refart.cli.common import Command, Settings, agree, check_may_ask
from refart.cli.shapes import version_record
from refart.errors import InvalidInputError, NotFoundError


@click.command(cls=Command)
@click.argument("name", metavar="NAME:VERSION")
@click.argument("aliases", metavar="ALIAS...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take the aliases away.")
@click.pass_obj
def alias(settings: Settings, name: str, aliases: tuple[str, ...], remove: bool) -> None:
    """Give aliases to a version, or take them away.

    An alias names one version of a collection: one that another version has moves here.

    \b
    Examples:
      refart alias images:v3 golden
      refart alias images:v3 golden --remove
    """
    _label(settings, name, "aliases", aliases, remove)


@click.command(cls=Command)
@click.argument("name", metavar="NAME:VERSION")
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take the tags away.")
@click.pass_obj
def tag(settings: Settings, name: str, tags: tuple[str, ...], remove: bool) -> None:
    """Give tags to a version, or take them away.

    \b
    Examples:
      refart tag images:v3 reviewed "camera 2"
      refart tag images:v3 reviewed --remove
    """
    _label(settings, name, "tags", tags, remove)


def _label(
    settings: Settings, name: str, kind: Literal["aliases", "tags"], labels: tuple[str, ...], remove: bool
) -> None:
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        had: list[str] = getattr(artifact, kind)
        unknown = [text for text in labels if text not in had]
        if remove and unknown:
            what = "alias" if kind == "aliases" else "tag"
            raise NotFoundError(
                f"{artifact.qualified_name} has no {what} {unknown[0]!r}; it has {', '.join(had) or 'none'}"
            )
        setattr(artifact, kind, [text for text in had if text not in labels] if remove else [*had, *unknown])
        artifact.save()
    record = version_record(artifact)
    settings.output.record(
        {key: record[key] for key in ("name", "aliases", "tags")},
        headline=artifact.qualified_name,
        hide=("name",),
    )


@click.command(cls=Command)
@click.argument("name", metavar="NAME:VERSION")
@click.option("--delete-aliases", is_flag=True, help="Delete it although it has aliases (latest is one).")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(settings: Settings, name: str, delete_aliases: bool, yes: bool) -> None:
    """Delete a version.

    Its number is never given again, its place in the lineage stays, and the objects it refers to are not touched.

    \b
    Examples:
      refart rm images:v0
      refart rm images:latest --delete-aliases --yes
    """
    if ":" not in name:
        raise InvalidInputError(f"{name!r} names no version: write {name}:v0, or {name}:latest")
    if not yes:
        check_may_ask(settings, "rm")
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        what = f"{artifact.file_count:,} entries, aliases: {', '.join(artifact.aliases) or 'none'}"
        agree(settings, f"Delete {artifact.qualified_name}?", [what], yes=yes)
        artifact.delete(delete_aliases)
    settings.output.record(
        {"name": artifact.qualified_name, "deleted": True},
        headline=f"{artifact.qualified_name} is deleted",
        hide=("name", "deleted"),
    )
