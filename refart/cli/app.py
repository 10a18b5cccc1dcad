"""The root command: sub-commands that are imported on demand, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from types import FrameType
from typing import Any, Final, NoReturn

import click

from refart import __version__
from refart.cli.common import CommonOptions, Settings
from refart.errors import RefartError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "put": ("put", "Log objects, prefixes, folders or files as a version."),
    "get": ("get", "Download a version, verified byte by byte."),
    "ls": ("look", "List collections, versions or entries."),
    "show": ("look", "Show everything about a version."),
    "cat": ("look", "Write the bytes of one entry to standard output."),
    "sql": ("sql", "Ask about the entries of a version, in SQL."),
    "presign": ("presign", "Print a URL by which anyone reads one entry for a while."),
    "diff": ("diff", "Show what changed from one version to another, to the live source, or to a folder."),
    "status": ("status", "Show what became of what a version points at."),
    "select": ("select", "Log a part of a version: chosen, sampled or split."),
    "restore": ("restore", "Bring a bucket or folder back to what a version recorded."),
    "materialize": ("materialize", "Store the bytes of references, as a new version."),
    "relocate": ("relocate", "Point references where the data moved to, as a new version."),
    "history": ("history", "Show what happened to a collection, newest first."),
    "lineage": ("history", "Show where a version came from and what came of it."),
    "export": ("interchange", "Write versions into one tar file that another workspace imports."),
    "import": ("interchange", "Take over versions from another workspace, from W&B or from DVC."),
    "who": ("who", "Show which versions hold an object or prefix, and who used them."),
    "alias": ("labels", "Give aliases to a version, or take them away."),
    "tag": ("labels", "Give tags to a version, or take them away."),
    "rm": ("labels", "Delete a version."),
    "verify": ("verify", "Compare a downloaded folder, or what a version points at, with what was logged."),
    "doctor": ("doctor", "Examine a place, or the workspace itself."),
    "demo": ("demo", "See the whole story on a lake of its own, in seconds."),
}
"""Name: module of this package, and the first sentence of its help, so that `refart --help` imports none of them."""

EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_STOPPED: Final = 130  # 128 + SIGINT, as shells count
EXIT_TERMINATED: Final = 143  # 128 + SIGTERM


class Terminated(KeyboardInterrupt):
    """A scheduler ends us (SIGTERM): like Ctrl-C, so that the run is ended and no unfinished file is left."""


def terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """The handler of SIGTERM: of the first only, since a second one must not stop what the first put in order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


class App(CommonOptions, click.Group):
    """A group that imports a command when it is called, and ends the process with a documented exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        function = f"{name}_" if iskeyword(name) else name
        command: click.Command = getattr(import_module(f"refart.cli.{COMMANDS[name][0]}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        finally:
            from refart.cli.output import flush

            flush()

    def main(  # type: ignore[override]  # click returns where standalone_mode is off; this always exits
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        args = list(sys.argv[1:] if args is None else args)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a path must not be an error on a terminal that is not UTF-8
                stream.reconfigure(errors="backslashreplace")
        settings = Settings(json="--json" in args[: args.index("--") if "--" in args else None])
        sys.exit(self._run(args or ["--help"], settings, **extra))

    def _run(self, args: list[str], settings: Settings, **extra: Any) -> int:
        """The exit code of one command; what went wrong is said."""
        try:
            code = super().main(args, "refart", standalone_mode=False, obj=settings, **extra)
        except RefartError as error:
            return _fail(settings, error, error.exit_code)
        except click.UsageError as error:
            hint = f" (try: {error.ctx.command_path} --help)" if error.ctx is not None else ""
            return _fail(settings, error, EXIT_USAGE, error.format_message() + hint, kind="UsageError")
        except click.Abort as error:
            terminated = isinstance(error.__cause__, Terminated)
            return _fail(settings, error, EXIT_TERMINATED if terminated else EXIT_STOPPED, "stopped")
        except Exception as error:  # whatever it is, a script gets its code and a person one line
            what = f"unexpected {type(error).__name__}: {error}; run with REFART_DEBUG=1 for the traceback"
            return _fail(settings, error, EXIT_UNEXPECTED, what)
        return code if isinstance(code, int) else 0


def _fail(
    settings: Settings,
    error: BaseException,
    code: int,
    message: str | None = None,
    *,
    kind: str | None = None,
) -> int:
    if os.environ.get("REFART_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    settings.output.error(kind or type(error).__name__, message if message is not None else str(error), code)
    return code


@click.group("refart", cls=App, epilog="Exit codes and the keys of --json: docs/cli.md")
@click.version_option(__version__, message="refart %(version)s")
def app() -> None:
    """Version the data you already have: artifacts that point at objects in S3, GCS, Azure, on the web or on disk.

    NAME is `name`, `name:alias`, `name:v3` or `project/name:v3`; without an alias it means `latest`.

    \b
    Examples:
      refart put s3://lake/images -n images     log a version by reference: no byte is copied
      refart get images:v0                      download exactly those bytes, verified
      refart diff images:v0 images:v1           see what changed
      refart demo                               see it all happen, without an account
    """
