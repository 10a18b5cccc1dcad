"""`refart select`: log a part of a version."""

from __future__ import annotations

from typing import Any, Final

import click

from refart.cli.common import Command, Settings, given
from refart.cli.logged import log
from refart.cli.output import Column, Record
from refart.errors import InvalidInputError


def _news(row: Record) -> str:
    return "created" if row["created"] else "unchanged"


_VERSIONS: Final = [Column("name"), Column("created", text=_news), Column("entries"), Column("size_bytes")]


@click.command(cls=Command)
@click.argument("source", metavar="NAME[:VERSION]")
@click.option(
    "-n", "--name", type=given, metavar="TEXT", help="Name of the new artifact. Default: NAME-subset."
)
@click.option("--path", metavar="PREFIX", help="Only this entry, or what lies below this folder.")
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Only what matches, as in .gitignore. Repeatable."
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Not what matches, as in .gitignore. Repeatable."
)
@click.option("--sample", metavar="N|FRACTION", help="So many of those: 1000, 0.1 or 10%.")
@click.option(
    "--split",
    multiple=True,
    metavar="PART=FRACTION",
    help="Log this part as TEXT-PART (default: NAME-PART); the fractions add up to 1. Repeatable.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one samples and splits anew.")
@click.option("-a", "--alias", "aliases", multiple=True, help="Alias, besides latest. Repeatable.")
@click.option("--tag", "tags", multiple=True, help="Tag. Repeatable.")
@click.pass_obj
def select(
    settings: Settings,
    source: str,
    name: str | None,
    path: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    sample: str | None,
    split: tuple[str, ...],
    seed: int,
    aliases: tuple[str, ...],
    tags: tuple[str, ...],
) -> None:
    """Log a part of a version: chosen, sampled or split.

    No byte is copied, and the version it comes from is an input of the run. Which entries are sampled, and which part
    each falls to, follows from the seed and their paths alone: the same everywhere, and for the same paths of a later
    version. With --json, one version a line.

    \b
    Examples:
      refart select images:v3 --include '*.jpg' --sample 1000 -n small
      refart select images --split train=0.8 --split val=0.1 --split test=0.1
    """
    from refart import names

    how: dict[str, Any] = {
        "path_prefix": path,
        "include": include or None,
        "exclude": exclude or None,
        "sample": None if sample is None else _sample(sample),
        "seed": seed,
    }
    parts = dict(map(_part, split))
    names.check_aliases(aliases), names.check_tags(tags)
    with settings.open() as workspace:
        version = settings.version(workspace, source)
        project, chosen = (
            names.parse_collection_ref(name, version.project) if name else (version.project, None)
        )
        drafts = version.split(parts, chosen, **how).values() if split else [version.select(chosen, **how)]
        logged = log(
            settings,
            workspace,
            list(drafts),
            project=project,
            job_type="select",
            base=version,
            aliases=aliases,
            tags=tags,
        )
        settings.output.rows([each.record for each in logged], _VERSIONS)


def _sample(text: str) -> int | float:
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise InvalidInputError(
            f"--sample {text!r} is neither a number of entries nor a fraction such as 0.1 or 10%"
        ) from None


def _part(text: str) -> tuple[str, float]:
    name, _, fraction = text.rpartition("=")
    try:
        return name, float(fraction)
    except ValueError:
        raise InvalidInputError(f"--split {text!r} is not PART=FRACTION, such as train=0.8") from None
