"""Configuration: what wins, what is refused, and whose options serve which URI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from refart import config
from refart.config import Config, load
from refart.errors import InvalidInputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def loaded(file: Path, text: str, **environ: str) -> Config:
    file.write_text(text)
    return load({"REFART_CONFIG": str(file), **environ})


def test_defaults(file: Path) -> None:
    found = loaded(file, "")
    assert found == Config()
    assert (found.url, found.project, found.cache_bytes) == (None, "default", 10 << 30)
    assert 8 <= found.threads <= 32


def test_every_setting_of_the_file(file: Path) -> None:
    text = """
        url = "postgresql://ada@db/refart"
        store = "s3://lake/refart"
        project = "vision"
        cache = "/scratch"
        cache_bytes = 0
        threads = 3
        single_writer = true
        openlineage = true
        [storage_options."s3://lake"]
        profile = "lake"
    """
    assert loaded(file, text) == Config(
        url="postgresql://ada@db/refart",
        store="s3://lake/refart",
        project="vision",
        cache_dir=Path("/scratch"),
        cache_bytes=0,
        threads=3,
        single_writer=True,
        openlineage=True,
        storage_options={"s3://lake": {"profile": "lake"}},
    )


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("REFART_URL", "/env", "url", "/env"),
        ("REFART_STORE", "/env", "store", "/env"),
        ("REFART_PROJECT", "env", "project", "env"),
        ("REFART_CACHE", "/env", "cache_dir", Path("/env")),
        ("REFART_CACHE_BYTES", "0", "cache_bytes", 0),
        ("REFART_THREADS", "5", "threads", 5),
        ("REFART_SINGLE_WRITER", "true", "single_writer", True),
        ("REFART_SINGLE_WRITER", "false", "single_writer", False),
        ("REFART_OPENLINEAGE", "true", "openlineage", True),
    ],
)
def test_the_environment_wins(file: Path, variable: str, value: str, field: str, expected: object) -> None:
    text = 'url = "/f"\nstore = "/f"\nproject = "f"\ncache = "/f"\ncache_bytes = 7\nthreads = 7\n'
    assert getattr(loaded(file, text, **{variable: value}), field) == expected
    assert getattr(loaded(file, text, **{variable: ""}), field) in (7, False, "f", "/f", Path("/f"))


def test_a_cache_in_the_home_folder(file: Path) -> None:
    assert loaded(file, 'cache = "~/c"').cache_folder() == Path.home() / "c"


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({}) == Config()
    assert load({}).workspace_url().startswith(str(tmp_path))
    assert Config().cache_folder().name == "refart"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projekt = 'x'", "unknown key 'projekt'; known are cache, "),
        ("url = 3", "url must be a string, not 3"),
        ("threads = 0", "at least 1, not 0"),
        ("threads = 1.5", "whole number, not 1.5"),
        ("threads = true", "whole number, not True"),
        ("threads = 'many'", "whole number, not 'many'"),
        ("single_writer = 'true'", "true or false, not 'true'"),
        ("single_writer = 1", "true or false, not 1"),
        ("cache_bytes = -1", "at least 0, not -1"),
        ("storage_options = 'x'", "storage_options must be tables"),
        ("[storage_options]\nprofile = 'x'", "storage_options must be tables"),
        ("url = ", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_told_and_never_ignored(file: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        loaded(file, text)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("REFART_THREADS", "many"), ("REFART_CACHE_BYTES", "10G"), ("REFART_SINGLE_WRITER", "maybe")],
)
def test_a_mistake_in_the_environment_is_told(file: Path, variable: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match=variable):
        loaded(file, "", **{variable: value})


def test_a_file_that_is_not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match="not valid TOML"):
        load({"REFART_CONFIG": str(file)})


def test_a_named_file_must_exist_and_be_a_file(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="does not exist"):
        load({"REFART_CONFIG": str(file)})
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load({"REFART_CONFIG": str(tmp_path)})


def test_secrets_stay_out_of_the_repr(file: Path) -> None:
    text = "[storage_options.'s3://lake']\nsecret = 'hunter2'"
    assert "hunter2" not in repr(loaded(file, text))


# -- storage options ------------------------------------------------------------------------------------


def options(uri: str, *prefixes: str) -> dict[str, Any]:
    return Config(storage_options={prefix: {"of": prefix} for prefix in prefixes}).options_for(uri)


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("s3://lake/x", "s3://lake"),
        ("s3://lake/x", "s3://lake/"),
        ("s3://lake", "s3://lake"),
        ("s3://lake", "s3://lake/"),
        ("s3://lake/raw/x", "s3://lake/raw"),
        ("s3://lake/x", "s3://"),
        ("S3://lake/x", "s3://lake"),
        ("s3://lake/x", "S3://lake"),
        ("HTTPS://Files.example.org/x", "https://files.example.org"),
        ("https://files.example.org/x", "https://Files.Example.org/"),
        ("/data/x", "/data"),
    ],
)
def test_a_prefix_serves_what_lies_below_it(uri: str, prefix: str) -> None:
    assert options(uri, prefix) == {"of": prefix}


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("s3://lake2/x", "s3://lake"),
        ("s3://lake.evil.example/x", "s3://lake"),
        ("s3://lake/rawer", "s3://lake/raw"),
        ("gs://lake/x", "s3://lake"),
        ("s3://lake", "s3://lake/raw"),
        ("s3://Lake/x", "s3://lake"),
        ("s3://lake?x/k", "s3://lake"),
        ("s3://lake:80/k", "s3://lake"),
        ("sftp://user@lake/k", "sftp://lake"),
        ("https://h/Raw/x", "https://h/raw"),
        ("https://files.example.org@evil.example/x", "https://files.example.org"),
        ("https://files.example.org:80@evil.example/x", "https://files.example.org"),
        ("https://files.example.org.evil.example/x", "https://files.example.org"),
        ("https://files.example.org:8443/x", "https://files.example.org"),
        ("https://files.example.org\\@evil.example/x", "https://files.example.org"),
        ("https://files.example.org?@evil.example/x", "https://files.example.org"),
        ("https://files.example.org#@evil.example/x", "https://files.example.org"),
        ("https://files.example.org\t/x", "https://files.example.org"),
        ("https:///files.example.org/x", "https://files.example.org"),
        ("abfs://raw@evil.dfs.core.windows.net/x", "abfs://raw"),
        ("https://[::1]:80/x", "https://[::1]"),
    ],
)
def test_a_prefix_ends_at_a_component(uri: str, prefix: str) -> None:
    """Options hold credentials: they must not reach a bucket whose name merely begins alike."""
    assert options(uri, prefix) == {}


def test_the_longest_prefix_wins() -> None:
    assert options("s3://lake/raw/x", "s3://", "s3://lake/raw", "s3://lake") == {"of": "s3://lake/raw"}
    assert options("s3://lake/rawer", "s3://", "s3://lake/raw", "s3://lake") == {"of": "s3://lake"}


_parts = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=3)


@given(_parts, st.lists(_parts.map(tuple), max_size=4, unique=True))
def test_options_against_a_model(uri_parts: list[str], prefixes: list[tuple[str, ...]]) -> None:
    """A prefix serves a URI when its components are the first of the URI's; the most components win."""
    serving = [p for p in prefixes if list(p) == uri_parts[: len(p)]]
    texts = {p: "s3://x/" + "/".join(p) for p in prefixes}
    best = {"of": texts[max(serving, key=len)]} if serving else {}
    assert options("s3://x/" + "/".join(uri_parts), *texts.values()) == best


def test_options_are_a_copy() -> None:
    found = Config(storage_options={"s3://lake": {"a": 1}})
    found.options_for("s3://lake/x")["a"] = 2
    assert found.options_for("s3://lake/x") == {"a": 1}


def test_default_threads_follow_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((None, 8), (1, 8), (4, 16), (64, 32)):
        monkeypatch.setattr(config.os, "cpu_count", lambda cores=cores: cores)
        assert config.default_threads() == threads


def test_storage_options_of_the_environment_stand_beside_those_of_the_file(file: Path) -> None:
    text = """
        [storage_options."s3://lake"]
        profile = "file"
        [storage_options."gs://lake"]
        token = "anon"
    """
    found = loaded(file, text, REFART_STORAGE_OPTIONS='{"s3://lake": {"anon": true}, "az://c": {}}')
    assert found.storage_options == {
        "s3://lake": {"anon": True},
        "gs://lake": {"token": "anon"},
        "az://c": {},
    }
    assert found.options_for("s3://lake/x") == {"anon": True}


def test_options_of_a_whole_scheme(file: Path) -> None:
    found = loaded(file, "", REFART_STORAGE_OPTIONS='{"s3://": {"anon": true}, "s3://lake": {}}')
    assert found.options_for("s3://other/x") == {"anon": True}
    assert found.options_for("s3://lake/x") == {}
    assert found.options_for("gs://other/x") == {}


@pytest.mark.parametrize("value", ["{", "[]", "3", '{"s3://lake": "secret"}', '{"lake": {"key": "secret"}}'])
def test_storage_options_that_are_none_are_refused_and_never_shown(file: Path, value: str) -> None:
    with pytest.raises(InvalidInputError, match="REFART_STORAGE_OPTIONS") as error:
        loaded(file, "", REFART_STORAGE_OPTIONS=value)
    assert "secret" not in str(error.value)
