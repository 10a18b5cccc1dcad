"""A venv for each peer of `requirements-peers.txt`, made when it is first needed and kept."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).with_name("requirements-peers.txt")


def default_folder() -> Path:
    """Where venvs are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refart-benchmarks"


def requirements() -> dict[str, list[str]]:
    """What to install for each peer."""
    text = re.sub(r"(?m)^#.*\n", "", REQUIREMENTS.read_text())
    sections = re.split(r"(?m)^\[(\w+)\]\n", text)
    return {peer: lines.split() for peer, lines in zip(sections[1::2], sections[2::2], strict=True)}


def python_of(peer: str, folder: Path) -> Path:
    """The Python of a peer's venv, made anew where its requirements have changed."""
    venv, wanted = folder / peer, "\n".join(requirements()[peer])
    python, installed = venv / "bin" / "python", venv / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-qq", *wanted.split()], check=True, stdout=sys.stderr
        )
        installed.write_text(wanted)
    return python
