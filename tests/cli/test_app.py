"""The root command: light, lazy, and with exit codes that scripts can rely on."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import pytest

import refart
from refart import errors
from refart.cli.app import COMMANDS, app
from refart.workspace import Workspace
from tests.cli.calls import Calls

HEAVY = ("pyarrow", "sqlalchemy", "rich", "botocore", "fsspec", "s3fs", "moto")

FAMILIES = [
    cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.RefartError)
]


def python(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False, **options)


# -- light ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "import refart",
        "from refart.cli.app import app; app.main(['--help'])",
        "from refart.cli.app import app; app.main(['--version', '--json'])",
        "from refart.cli.app import app; app.main(['put', '--help'])",
    ],
)
def test_help_and_import_load_no_heavy_module(code: str) -> None:
    assert loaded(code, HEAVY) == []


@pytest.mark.parametrize(
    "args",
    [
        ["ls"],
        ["ls", "data"],
        ["history", "data"],
        ["lineage", "data"],
        ["alias", "data", "a"],
        ["tag", "data", "t"],
    ],
    ids=" ".join,
)
def test_what_asks_only_the_catalog_loads_no_driver_and_no_pyarrow(
    args: list[str], cli: Calls, folder: Path
) -> None:
    """On SQLite and with a store in a folder."""
    cli("put", str(folder), "-n", "data")
    heavy = {*HEAVY, "psycopg", "sqlalchemy.dialects.postgresql"} - {"sqlalchemy"}
    assert loaded(f"from refart.cli.app import app; app.main({args!r})", heavy) == []


def loaded(code: str, modules: Collection[str]) -> list[str]:
    """Which of the modules a program has loaded that ends well."""
    tell = "print(*(m for m in watched if m in sys.modules), file=sys.stderr)"
    watch = f"import atexit, sys; watched = sys.argv[1:]; atexit.register(lambda: {tell})"
    done = python("-c", f"{watch}; {code}", *modules)
    assert done.returncode == 0, done
    return done.stderr.split()


def test_the_version_is_told_before_click_is_loaded() -> None:
    code = "import sys, refart.cli as cli; sys.argv[1:] = ['--version']; cli.main()"
    assert loaded(code, [*HEAVY, "click"]) == []
    done = [python("-m", "refart", "--version"), python("-m", "refart", "--version", "--quiet")]
    assert {(each.returncode, each.stdout, each.stderr) for each in done} == {
        (0, f"refart {refart.__version__}\n", "")
    }


def cpu_s(*args: str) -> float:
    """User and system CPU of the cheapest of several runs of Python."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python(*args).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(9))


@pytest.mark.parametrize(
    "args", [("-c", "import refart"), ("-m", "refart", "--help"), ("-m", "refart", "--version")]
)
def test_import_and_help_cost_at_most_three_bare_pythons_and_30_ms_of_cpu(args: tuple[str, ...]) -> None:
    assert cpu_s(*args) <= 3 * cpu_s("-c", "pass") + 0.030


def test_help_imports_no_module_of_a_command() -> None:
    done = python(
        "-c",
        "import sys\n"
        "from refart.cli.app import COMMANDS, app\n"
        "try: app.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.removeprefix('refart.cli.') in {m for m, _ in COMMANDS.values()}])",
    )
    assert done.stdout.endswith("\n[]\n"), done


# -- help -----------------------------------------------------------------------------------------------------------


def command(name: str) -> click.Command:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_short_helps_holds_what_the_commands_say(name: str) -> None:
    assert command(name).help is not None
    assert (command(name).help or "").split("\n", 1)[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_and_every_option_a_help(name: str) -> None:
    assert f"refart {name}" in (command(name).help or "").split("Examples:")[1]
    assert [p.name for p in command(name).params if isinstance(p, click.Option) and not p.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json_and_the_other_global_options(name: str) -> None:
    options = {name for parameter in command(name).params for name in parameter.opts}
    assert {"--json", "--workspace", "--project", "--quiet"} <= options


def test_a_bare_call_shows_the_help(cli: Calls) -> None:
    assert cli().stdout == cli("--help").stdout
    assert "Commands:" in cli().stdout


def test_version(cli: Calls) -> None:
    assert cli("--version").stdout == f"refart {refart.__version__}\n"


# -- global options -------------------------------------------------------------------------------------------------


def test_global_options_stand_before_or_after_the_command(cli: Calls, folder: Path) -> None:
    cli("--project", "p", "put", "data")
    assert cli("--json", "ls").documents == cli("ls", "--json", "-p", "p").documents != []


def test_workspace_names_one_by_folder(cli: Calls, folder: Path) -> None:
    cli("put", "data", "--workspace", "elsewhere")
    assert cli("ls", "--json").documents == []
    assert [row["name"] for row in cli("-w", "elsewhere", "ls", "--json").documents] == ["default/data"]


def test_a_command_that_reads_makes_no_workspace(cli: Calls) -> None:
    assert "nowhere" in cli("ls", "-w", "nowhere", code=3).stderr
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("option", ["--workspace", "--project"])
def test_an_empty_option_is_no_way_to_the_default(cli: Calls, option: str) -> None:
    assert "empty" in cli("ls", option, "", code=2).stderr


@pytest.mark.parametrize("option", ["--name", "--type"])
def test_an_empty_name_or_type_is_no_way_to_the_default(cli: Calls, folder: Path, option: str) -> None:
    assert "empty" in cli("put", "data", option, "", code=2).stderr


# -- errors and exit codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_error_ends_with_the_exit_code_of_its_family(
    cli: Calls, monkeypatch: pytest.MonkeyPatch, family: type[errors.RefartError]
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise family("it went wrong")

    monkeypatch.setattr(Workspace, "open", fail)
    told = cli("ls", code=family.exit_code)
    assert (told.stdout, told.stderr) == ("", "error: it went wrong\n")
    expected = {"type": family.__name__, "message": "it went wrong", "exit_code": family.exit_code}
    assert cli("ls", "--json", code=family.exit_code).error == expected


@pytest.mark.parametrize("args", [("nonsense",), ("ls", "--nonsense"), ("put",), ("diff", "a")])
def test_wrong_usage_ends_with_2_and_says_where_help_is(cli: Calls, args: tuple[str, ...]) -> None:
    told = cli(*args, code=2)
    assert told.stdout == ""
    assert told.stderr.startswith("error: ")
    assert "--help)" in told.stderr
    assert cli("--json", *args, code=2).error["type"] == "UsageError"


def test_what_nobody_expected_ends_with_1_and_one_line(cli: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise KeyError("x\ny")

    monkeypatch.setattr(Workspace, "open", fail)
    told = cli("ls", code=1).stderr
    assert told == "error: unexpected KeyError: 'x\\ny'; run with REFART_DEBUG=1 for the traceback\n"
    monkeypatch.setenv("REFART_DEBUG", "1")
    assert "Traceback (most recent call last)" in cli("ls", code=1).stderr


def test_ctrl_c_ends_with_130(cli: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Workspace, "open", interrupted)
    assert cli("ls", code=130).stderr.split() == ["error:", "stopped"]


_TERMINATED_AT_THE_FIRST_CHUNK = """
import os, signal
from refart.cli import main
from refart.ops.stream import Verifier
from refart.parallel import check_stopped

def terminate(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        check_stopped()

Verifier.update = terminate
main()
"""


def test_sigterm_ends_the_run_and_leaves_no_unfinished_file(
    folder: Path, refart_workspace: Workspace
) -> None:
    """What a scheduler sends first is no less polite than Ctrl-C."""
    environment = {**os.environ, "PYTHONPATH": ROOT}
    assert python("-m", "refart", "put", "data", env=environment).returncode == 0
    done = python("-c", _TERMINATED_AT_THE_FIRST_CHUNK, "get", "data", "--root", "out", env=environment)
    assert (done.returncode, done.stderr.split()) == (143, ["error:", "stopped"])
    assert [path for path in Path("out").rglob("*") if path.is_file()] == []
    assert [(run.job_type, run.state) for run in refart_workspace.runs(limit=1)] == [("get", "failed")]


def test_a_second_sigterm_stops_nothing_that_the_first_puts_in_order() -> None:
    code = """
import signal
from refart.cli import main
from refart.workspace import Workspace

def ended_twice(*arguments, **options):
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)
        print("in order", flush=True)

Workspace.open = ended_twice
main()
"""
    done = python("-c", code, "ls", env={**os.environ, "PYTHONPATH": ROOT})
    assert (done.returncode, done.stdout, done.stderr.split()) == (143, "in order\n", ["error:", "stopped"])


def test_a_reader_that_has_enough_ends_it_quietly_with_141() -> None:
    code = (
        "from refart.cli.output import Column, Text\n"
        "Text(quiet=False).rows(({'path': 'x' * 100} for _ in range(100_000)), [Column('path')])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_an_error_shows_control_characters_and_never_obeys_them(cli: Calls) -> None:
    assert "\x1b" not in cli("show", "\x1b[31mred", code=2).stderr


def test_python_m_refart_is_the_command(cli: Calls, folder: Path) -> None:
    done = python(
        "-m", "refart", "put", "data", "--json", cwd=Path.cwd(), env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "default/data:v0"
    failed = python("-m", "refart", "show", "nothing", cwd=Path.cwd(), env={**os.environ, "PYTHONPATH": ROOT})
    assert (failed.returncode, failed.stdout) == (3, "")
    assert failed.stderr.startswith("error: ")


ROOT = str(Path(refart.__file__).parents[1])
