"""What commands share: the global options, opening the workspace, reading arguments, asking the user."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from refart.errors import InvalidInputError

if TYPE_CHECKING:
    from refart.artifact import Artifact
    from refart.cli.output import Output
    from refart.progress import Reporter
    from refart.workspace import Workspace


@dataclass
class Settings:
    """The global options of one call."""

    workspace: str | None = None
    project: str | None = None
    json: bool = False
    quiet: bool = False

    @cached_property
    def output(self) -> Output:
        from refart.cli.output import Json, Text

        return Json() if self.json else Text(quiet=self.quiet)

    def reporter(self) -> Reporter:
        """Bars where a person watches, lines where a log is kept, nothing with `--quiet`."""
        from refart import progress

        if self.quiet:
            return progress.Silent()
        return progress.Rich() if sys.stderr.isatty() else progress.Plain()

    @contextmanager
    def open(self, *, create: bool = False) -> Iterator[Workspace]:
        """The workspace. Only a command that writes may create one: a wrong URL must not look like an empty one."""
        import logging

        from refart.workspace import Workspace

        # What the library remarks, commands tell themselves, but for how a source went about its work.
        logging.getLogger("refart").addHandler(logging.NullHandler())
        remarks = logging.Handler(logging.WARNING)
        told = [logging.getLogger(name) for name in ("refart.sources", "refart.pins", "refart.openlineage")]
        remarks.emit = lambda record: self.output.note(record.getMessage())  # type: ignore[method-assign]
        for logger in told:
            logger.addHandler(remarks)
        try:
            with Workspace.open(self.workspace, create=create, reporter=self.reporter()) as workspace:
                yield workspace
        finally:
            for logger in told:
                logger.removeHandler(remarks)

    @cached_property
    def default_project(self) -> str:
        """The project of a name without one."""
        from refart import config

        return self.project if self.project is not None else config.load().project

    def version(self, workspace: Workspace, name: str) -> Artifact:
        """The version that `name`, `name:alias`, `name:v3` or `project/name:…` names."""
        from refart import names

        return workspace.artifact(str(names.parse_version_ref(name, self.default_project)))


def given(value: str) -> str:
    """Text that is not empty: a variable that a script forgot to set must not mean the current folder."""
    if not value:
        raise click.BadParameter("it is empty")
    return value


def _common_options() -> list[click.Parameter]:
    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value not in (None, False):
            setattr(ctx.ensure_object(Settings), str(param.name), value)

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=remember, **attributes)

    return [
        option(
            "-w", "--workspace", type=given, metavar="URL", help="Folder or postgresql://… [env: REFART_URL]"
        ),
        option(
            "-p",
            "--project",
            type=given,
            metavar="NAME",
            help="Project of names without one. [env: REFART_PROJECT]",
        ),
        option("--json", is_flag=True, help="Print JSON; a failure is JSON on standard error."),
        option("-q", "--quiet", is_flag=True, help="No progress and no remarks, only results."),
    ]


class CommonOptions(click.Command):
    """Takes the global options, before and after the name of a command alike."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options())


class Command(CommonOptions):
    """A sub-command."""


def split_path(target: str) -> tuple[str, str | None]:
    """Read `NAME:VERSION/path`: the version's name, and the path if there is one."""
    name, colon, rest = target.partition(":")
    version, _, path = rest.partition("/")
    return name + colon + version, path or None


def check_may_ask(settings: Settings, what: str) -> None:
    """Refuse to remove something where nobody can be asked. Raises `InvalidInputError`."""
    if settings.json or not is_interactive():
        raise InvalidInputError(
            f"{what} asks first, and nobody can answer here: pass --yes to agree beforehand"
        )


def is_interactive() -> bool:
    return sys.stdin.isatty()


def confirm(question: str) -> None:
    """Ask on standard error. Raises `click.Abort` unless the answer is yes."""
    click.confirm(question, err=True, abort=True)


def agree(settings: Settings, question: str, affected: Sequence[str], *, yes: bool) -> bool:
    """Show what would be removed and ask, unless `yes`. Raises `click.Abort` where the answer is no."""
    if not yes:
        for line in affected:
            settings.output.note(f"  {line}")
        confirm(question)
    return True
