"""`refart verify`: a downloaded folder, or what a version points at, against what was logged."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from refart.cli.common import Command, Settings, given
from refart.cli.status import end
from refart.errors import ChecksumError

if TYPE_CHECKING:
    from refart.artifact import Artifact


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.option(
    "--root", type=given, metavar="DIR", help="Folder to look at. Default: ./artifacts/NAME-VERSION."
)
@click.option("--remote", is_flag=True, help="Ask whether the references are still good; reads no byte.")
@click.option("--bytes", "bytes_", is_flag=True, help="Read every byte where it lies, and keep none.")
@click.option("--path", metavar="PREFIX", help="Of --remote, --bytes: only what lies at and below this path.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Of --remote, --bytes: N entries by chance."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of --sample: another one, others.")
@click.option(
    "--since",
    type=given,
    metavar="TIME",
    help="Of --bytes: not again what this machine began to read then or later, and found right (ISO 8601 with a zone).",
)
@click.option("--restart", is_flag=True, help="Of --bytes: begin anew where a call before did not end.")
@click.pass_obj
def verify(
    settings: Settings,
    name: str,
    root: str | None,
    remote: bool,
    bytes_: bool,
    path: str | None,
    sample: int | None,
    seed: int,
    since: str | None,
    restart: bool,
) -> None:
    """Compare a downloaded folder, or what a version points at, with what was logged.

    Without --remote or --bytes, every file of the folder is read and hashed, references included. Missing or modified
    files end it with exit code 6; files of which no hash is known are counted as unverifiable, never as right. Files
    that are no entries are no error.

    --remote asks, by one listing of each logged prefix, whether the recorded bytes can still be had: where they lie, or
    as an old version. Ends with 12 where some are lost, with 7 where some may not be looked at.

    --bytes streams every entry from its source or the store, and hashes it; a call that was stopped is continued by the
    next. Ends with 6 where bytes are wrong or gone, with 7 where some may not be read.

    \b
    Examples:
      refart verify images:v0 --root data
      refart verify images:golden --remote
      refart verify images:v0 --bytes --since 2026-11-01T00:00:00Z
      refart verify images:v0 --bytes --sample 1000
    """
    _check(root=root, remote=remote, bytes_=bytes_, path=path, sample=sample, since=since, restart=restart)
    with settings.open() as workspace:
        artifact = settings.version(workspace, name)
        if remote:
            _remote(settings, artifact, path, sample, seed)
        elif bytes_:
            _bytes(settings, artifact, path, sample=sample, seed=seed, since=since, restart=restart)
        else:
            _folder(settings, artifact, root)


def _check(*, root: str | None, remote: bool, bytes_: bool, **given: Any) -> None:
    """Refuse options that would say nothing."""
    if (remote and bytes_) or (root is not None and (remote or bytes_)):
        raise click.UsageError("--root, --remote and --bytes exclude each other")
    for option, needed, is_there in (
        ("path", "--remote or --bytes", remote or bytes_),
        ("sample", "--remote or --bytes", remote or bytes_),
        ("since", "--bytes", bytes_),
        ("restart", "--bytes", bytes_),
    ):
        if given[option] and not is_there:
            raise click.UsageError(f"--{option} goes with {needed}")
    if given["path"] and given["sample"]:
        raise click.UsageError("--sample draws from all entries, and takes no --path")


def _folder(settings: Settings, artifact: Artifact, root: str | None) -> None:
    report = artifact.verify_report(root)
    state = "is" if report.is_good else "is not"
    settings.output.record(
        {"name": artifact.qualified_name, "good": report.is_good, **asdict(report)},
        headline=f"{report.root} {state} {artifact.qualified_name}",
        hide=("name", "good", "root"),
    )
    if not report.is_good:
        raise ChecksumError(
            f"{report.root} is not {artifact.qualified_name}: {len(report.modified):,} files are modified and"
            f" {len(report.missing):,} are missing; refart get fetches them again"
        )


def _remote(settings: Settings, artifact: Artifact, path: str | None, sample: int | None, seed: int) -> None:
    report = artifact.verify_remote(path, sample=sample, seed=seed)
    state = "are good" if report.is_good else "are not all good"
    settings.output.record(
        {"name": artifact.qualified_name, "good": report.is_good, **asdict(report)},
        headline=f"the references of {artifact.qualified_name} {state}",
        hide=("name", "good"),
        text={"pins": {pin: count for pin, count in report.pins.items() if count}},
    )
    end(artifact.qualified_name, loss=bool(report.lost), denied=bool(report.denied))


def _bytes(settings: Settings, artifact: Artifact, path: str | None, **how: Any) -> None:
    report = artifact.verify_bytes(path, **how)
    state = "are" if report.is_good else "are not"
    settings.output.record(
        {"name": artifact.qualified_name, "good": report.is_good, **asdict(report)},
        headline=f"the bytes of {artifact.qualified_name} {state} those that were logged",
        hide=("name", "good"),
        text={"checked_by": ", ".join(f"{rung} {count:,}" for rung, count in report.checked_by.items())},
    )
    report.check(artifact.qualified_name)
