"""Looks for temporary files that have no name: only the descriptors of this process show them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def spilled_files(folder: Path) -> list[str]:
    """The temporary files in `folder` that this process holds open."""
    links = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(fd))
        except FileNotFoundError:  # the descriptor that was listing the folder
            continue
    return [link for link in links if link.startswith(str(folder))]
