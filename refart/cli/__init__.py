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
    if sys.argv[1:] == [
        "--version"
    ]:  # what scripts ask; click, which answers all else, takes three times as long
        print(f"refart {__version__}")
        sys.exit()
    import signal

    from refart.cli.app import app, terminate

    signal.signal(signal.SIGTERM, terminate)
    app.main()
