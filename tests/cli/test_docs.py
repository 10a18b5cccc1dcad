"""docs/cli.md and docs/errors.md hold what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from refart import errors, fs
from refart.cli.app import COMMANDS, EXIT_STOPPED, EXIT_TERMINATED, EXIT_UNEXPECTED, EXIT_USAGE
from refart.cli.diff import EXIT_DIFFERS
from refart.cli.doctor import EXIT_FAILS
from refart.cli.output import EXIT_CLOSED
from refart.cli.status import EXIT_LOSS
from tests.cli.calls import Calls

DOCS = Path(__file__).parents[2] / "docs"
FAMILIES = [
    *(cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.RefartError)),
    *(fs.PathNotFoundError, fs.ReadOnlyError),
]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cli_reference", DOCS / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table after a heading, by their first cell."""
    lines = text[text.index(heading) :].split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("| ---"))
    rows = {}
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        first, *rest = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        rows[first.strip("`").rpartition(".")[2]] = rest
    return rows


def test_the_reference_is_fresh() -> None:
    text = (DOCS / "cli.md").read_text()
    assert generator().page(text) == text, "run: python docs/cli_reference.py"


def test_every_command_and_its_json_keys_are_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    for name in COMMANDS:
        assert f"\n### refart {name}\n" in text
    keys = " ".join(table(text, "## JSON"))
    assert {name for name in COMMANDS if name != "cat"} == {
        name for name in COMMANDS if name in re.findall(r"\w+", keys)
    }


def test_every_exit_code_is_in_the_table() -> None:
    codes = {family.exit_code for family in FAMILIES}
    codes |= {0, EXIT_UNEXPECTED, EXIT_USAGE, EXIT_DIFFERS, EXIT_LOSS, EXIT_FAILS}
    codes |= {EXIT_STOPPED, EXIT_CLOSED, EXIT_TERMINATED}
    assert {int(code) for code in table((DOCS / "cli.md").read_text(), "## Exit codes")} == codes


def test_codes_without_a_class_are_named_beside_the_classes() -> None:
    (said,) = re.findall(r"codes that no class stands for \((.*?)\)", (DOCS / "errors.md").read_text())
    codes = set(map(int, table((DOCS / "cli.md").read_text(), "## Exit codes"))) - {0}
    classless = codes - {family.exit_code for family in FAMILIES if family is not errors.RefartError}
    assert [int(code) for code in said.split(", ")] == sorted(classless)


def test_every_error_is_in_the_table_with_its_bases_and_exit_code() -> None:
    rows = table((DOCS / "errors.md").read_text(), "# Errors")
    assert list(rows) != []
    assert set(rows) == {family.__name__ for family in FAMILIES}
    for family in FAMILIES:
        bases = {base.__name__ for base in family.__bases__} - {"RefartError", "Exception"}
        assert (set(re.findall(r"\w+", rows[family.__name__][0])), rows[family.__name__][1]) == (
            bases,
            str(family.exit_code),
        )


@pytest.mark.parametrize(
    ("row", "args"),
    [
        ("put", ("put", "data")),
        ("select", ("select", "data")),
        ("get", ("get", "data")),
        ("ls", ("ls",)),
        ("ls NAME", ("ls", "data")),
        ("ls NAME:VERSION", ("ls", "data:v0")),
        ("show", ("show", "data")),
        ("diff", ("diff", "data:v0", "data:v1")),
        ("diff --stat", ("diff", "data:v0", "data:v1", "--stat")),
        ("status", ("status", "links")),
        ("status --stat", ("status", "links", "--stat")),
        ("restore", ("restore", "links:v0", "--yes")),
        ("restore --dry-run", ("restore", "links:v0", "--dry-run")),
        ("materialize", ("materialize", "links")),
        ("history", ("history", "data")),
        ("lineage", ("lineage", "data")),
        ("alias`, `tag", ("alias", "data", "best")),
        ("rm", ("rm", "data:v0", "--yes")),
        ("verify", ("verify", "data")),
        ("verify --remote", ("verify", "links", "--remote")),
        ("doctor", ("doctor",)),
        ("verify --bytes", ("verify", "links", "--bytes")),
    ],
)
def test_the_documented_keys_are_the_ones_printed(
    cli: Calls, folder: Path, row: str, args: tuple[str, ...]
) -> None:
    text = (DOCS / "cli.md").read_text()
    cli("put", "data")
    cli("put", "data", "--reference", "-n", "links")
    Path("data/new").write_text("new")
    cli("put", "data")
    cli("get", "data")
    told = cli(*args, "--json", code=EXIT_DIFFERS if args[0] == "status" else 0)
    is_listing = row.startswith("ls") or row in ("doctor", "diff", "status", "restore --dry-run", "history")
    printed = told.documents[0] if is_listing else told.document
    (cell,) = table(text, "## JSON")[row]
    documented = set(re.findall(r"`(\w+)`", re.sub(r"; .*|\(`.*?\)", "", cell)))
    if "those of a version" in cell:
        documented |= set(re.findall(r"`(\w+)`", text.split("\nA version: ")[1].split("A run:")[0]))
    if row == "lineage":
        documented |= {"versions", "runs", "edges"}
    assert set(printed) == documented
