"""The command line: `refart`. One module per group of commands, imported when a command of it is called.

Commands never print: they hand records, rows and trees to an `Output` (text for people or JSON).
"""

from __future__ import annotations

import sys

from refart import __version__

TYPE_CHECKING = False  # true to type checkers; see the package's own
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line with the arguments of this process, and exit."""
    # What scripts ask. All else is answered by click, which takes twice as long to load as Python to start.
    if sys.argv[1:] == ["--version"]:
        print(f"refart {__version__}")
        sys.exit()
    import gc
    import signal

    from refart.cli.app import app, terminate

    signal.signal(signal.SIGTERM, terminate)
    try:
        app.main()
    finally:
        gc.freeze()  # what lives now ends with the process: to look for garbage in it takes a sixth of a short command
