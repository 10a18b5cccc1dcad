"""Other tools, each called by its best documented way: one module a tool, run by a Python that has it.

    PYTHONPATH=. …/boto3/bin/python -m benchmarks.peers boto3 list_versions --bucket lake --prefix events/

Every public function of such a module is one *way* of calling the tool. It takes a `Task`, works in the current
folder (empty, or with what its `prepare_…` left there), returns how many objects it dealt with, and its docstring
says how the tool is called and what that hands over. `refart` and `floor` are measured as two more tools.

Only a little of the standard library is imported here: what it costs is measured with the tool.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """What to deal with. Credentials and the region are in the environment, as `AWS_…`."""

    endpoint: str
    bucket: str
    prefix: str
    """Ends in a slash."""
    source: Path
    """A local folder, for the ways that take one."""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


def printed_lines(*command: str | Path) -> int:
    """Run a command that prints to a file, and count the lines."""
    path = Path("printed")
    with path.open("wb") as printed:
        subprocess.run(command, stdout=printed, check=True)
    with path.open("rb") as printed:
        return sum(block.count(b"\n") for block in iter(lambda: printed.read(1 << 20), b""))


def files_below(folder: str) -> int:
    return sum(path.is_file() for path in Path(folder).rglob("*"))
