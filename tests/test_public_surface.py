"""What `import refart` gives: the names it lists, each documented, at the price of a few milliseconds."""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import refart
from tests.children import environment, good, run_python

HEAVY = ["aiobotocore", "boto3", "botocore", "click", "fsspec", "pyarrow", "rich", "s3fs", "sqlalchemy"]
ATTEMPTS = 7


def imported_for_type_checkers() -> dict[str, str]:
    """Name → module, of the imports under `if TYPE_CHECKING`."""
    assert refart.__file__ is not None
    tree = ast.parse(Path(refart.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_the_list_of_names_is_what_is_there() -> None:
    """`__all__`, what type checkers see and what is loaded on first use are the same names."""
    assert sorted(set(refart.__all__)) == refart.__all__
    assert set(refart.__all__) == {*refart._HOME, "__version__"}
    assert imported_for_type_checkers() == refart._HOME


def test_every_public_name_resolves_to_what_its_module_defines() -> None:
    for name, module in refart._HOME.items():
        assert getattr(refart, name) is getattr(import_module(module), name)
        assert getattr(refart, name).__module__ == module


def test_dir_lists_names_that_are_not_loaded_yet() -> None:
    assert set(refart.__all__) <= set(dir(refart))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'refart' has no attribute 'Artefact'"):
        refart.Artefact  # noqa: B018


def test_every_error_has_the_common_base_and_an_exit_code() -> None:
    errors = [value for name in refart.__all__ if name.endswith("Error") for value in [getattr(refart, name)]]
    assert refart.RefartError in errors
    for error in errors:
        assert issubclass(error, refart.RefartError)
        assert error.exit_code != 0


def test_import_loads_no_driver_no_pyarrow_and_no_sqlalchemy() -> None:
    loaded = good(run_python("import sys, refart; print(*sys.modules)")).split()
    assert "refart" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_help_loads_no_driver_no_pyarrow_and_no_sqlalchemy() -> None:
    code = "import sys, refart.cli; sys.argv[1:] = ['--help']\n"
    code += "try: refart.cli.main()\nfinally: print(*sys.modules)"
    loaded = good(run_python(code)).split()
    assert "Usage:" in loaded
    assert [name for name in HEAVY if name in loaded and name not in ("click", "rich")] == []


def cpu_s(code: str) -> float:
    """User and system time of a fresh interpreter that runs `code`: the best of several."""
    plain = {name: value for name, value in environment().items() if not name.startswith("COV")}

    def once() -> float:
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], plain)
        _, status, used = os.wait4(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return used.ru_utime + used.ru_stime

    return min(once() for _ in range(ATTEMPTS))


def test_import_costs_at_most_three_times_an_empty_program_and_30_ms() -> None:
    assert cpu_s("import refart") <= 3 * cpu_s("pass") + 0.030


def public_members() -> Iterator[tuple[str, object]]:
    for name in refart.__all__:
        value = getattr(refart, name)
        if inspect.isclass(value):
            for member in dir(value):
                if not member.startswith("_") and (found := inspect.getattr_static(value, member)):
                    yield f"{name}.{member}", found


def test_every_public_name_has_a_docstring() -> None:
    values = {name: getattr(refart, name) for name in refart.__all__ if name != "__version__"}
    assert [name for name, value in values.items() if not inspect.getdoc(value)] == []


def test_every_public_method_and_property_has_a_docstring() -> None:
    """Inherited ones of the standard library, and plain data, are documented elsewhere."""
    undocumented = []
    for name, member in public_members():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if callable(function) and (getattr(function, "__module__", None) or "").startswith("refart"):
            text = member.__doc__ if isinstance(member, property) else inspect.getdoc(function)
            if not text:
                undocumented.append(name)
    assert undocumented == []
