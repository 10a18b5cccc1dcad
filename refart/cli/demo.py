"""`refart demo`: an S3 and a workspace for a few seconds, and the story told in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import click

from refart.cli.common import Command, Settings


@click.command(cls=Command)
@click.option("--keep", is_flag=True, help="Keep the workspace and the download, and say where.")
@click.pass_obj
def demo(settings: Settings, keep: bool) -> None:
    """See the whole story on a lake of its own, in seconds.

    Starts an S3 in this process and a workspace in a temporary folder, and removes both at the end. It needs no account
    and no network, and touches neither your workspace nor your configuration. Needs pip install 'refart[demo]'.

    \b
    Examples:
      refart demo
      refart demo --keep
    """
    from refart.cli.demo_story import Story
    from refart.progress import Silent
    from refart.s3server import ENVIRONMENT, S3Server
    from refart.workspace import Workspace

    server = S3Server()
    with ExitStack() as stack:
        folder = Path(mkdtemp("-refart") if keep else stack.enter_context(TemporaryDirectory("-refart")))
        server.start()
        stack.callback(server.stop)
        stack.callback(server.reset)  # moto keeps its buckets for the whole process
        (folder / "config.toml").touch()
        mine = {"REFART_CONFIG": str(folder / "config.toml"), "REFART_CACHE": str(folder / "cache")}
        stack.enter_context(_environment({**ENVIRONMENT, "AWS_ENDPOINT_URL": server.url, **mine}))
        workspace = stack.enter_context(Workspace.open(folder / "workspace", reporter=Silent()))
        settings.output.story(Story(server, workspace, folder / "data").steps())
    if keep:
        settings.output.note(f"kept: {folder} (refart --workspace {folder / 'workspace'} ls photos)")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Only these settings of AWS, refart and proxies for a while, then exactly those from before."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "REFART_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
