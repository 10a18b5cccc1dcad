"""Call the command line in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from refart.cli.app import app


@dataclass(frozen=True)
class Called:
    """What a call printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.stdout)

    @property
    def documents(self) -> list[Any]:
        """The JSON lines on standard output."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def error(self) -> Any:
        """The JSON error on standard error, which must be one line."""
        (line,) = self.stderr.splitlines()
        return json.loads(line)["error"]


class Calls:
    """`cli("ls", "--json")`; fails the test where the exit code is not the expected one."""

    def __call__(self, *args: str, code: int = 0, typed: str | None = None) -> Called:
        result = CliRunner().invoke(app, list(args), input=typed)
        called = Called(result.exit_code, result.stdout, result.stderr)
        assert called.exit_code == code, (args, called)
        return called
