"""What a command costs, measured by a process between it and the caller."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.children import run_child


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_output_and_memory_are_those_of_the_command():
    """This process is larger by far, and does not count."""
    here = bytearray(200 << 20)
    small, large = (run_child(python(f"x = bytearray({mb} << 20); print({mb})")) for mb in (1, 100))
    assert here is not None
    assert (small["output"], large["output"]) == ("1\n", "100\n")
    assert small["rss_mb"] < 50
    assert 100 <= large["rss_mb"] < 150


def test_cpu_of_what_is_left_behind_counts():
    leave = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {!r}], start_new_session=True)"
    )
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    assert run_child(python(leave.format(busy)))["cpu_s"] >= 0.3


def test_the_environment_is_what_is_given():
    record = run_child(python("import os; print(os.environ['WORD'])"), {"WORD": "here"})
    assert record["output"] == "here\n"


def test_output_goes_to_a_file(tmp_path):
    record = run_child(python("print('x' * 100)"), stdout=tmp_path / "out")
    assert record["output"] == ""
    assert (tmp_path / "out").read_text() == "x" * 100 + "\n"


def test_a_command_that_fails_is_an_error_that_says_why():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_child(python("1 / 0"))


def test_a_command_that_takes_too_long_is_ended():
    with pytest.raises(subprocess.TimeoutExpired):
        run_child(python("import time; time.sleep(600)"), timeout_s=0.2)
