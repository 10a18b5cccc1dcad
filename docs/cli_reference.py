"""Write the reference part of cli.md from the help of the commands: `python docs/cli_reference.py`.

A test compares; run this after changing an option or a help.
"""

from pathlib import Path

import click

from refart.cli.app import COMMANDS, app

PAGE = Path(__file__).with_name("cli.md")
BEGIN = "<!-- Everything below is written by docs/cli_reference.py. -->\n"


def reference() -> str:
    """The help of every command, as Markdown."""
    root = click.Context(app, info_name="refart", terminal_width=88, max_content_width=88)
    parts = [_section("refart", app, root)]
    for name in COMMANDS:
        command = app.get_command(root, name)
        parts.append(_section(f"refart {name}", command, click.Context(command, info_name=name, parent=root)))
    return "".join(parts)


def _section(title: str, command: click.Command, context: click.Context) -> str:
    return f"\n### {title}\n\n```text\n{command.get_help(context)}\n```\n"


def page(text: str) -> str:
    """The page with a fresh reference."""
    return text[: text.index(BEGIN) + len(BEGIN)] + reference()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
