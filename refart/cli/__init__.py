"""The command line: `refart`. One module per group of commands, imported when a command of it is called.

Commands never print: they hand records, rows and trees to an `Output` (text for people or JSON).
"""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line with the arguments of this process, and exit."""
    import signal

    from refart.cli.app import app, terminate

    signal.signal(signal.SIGTERM, terminate)
    app.main()
