"""Configuration: the environment first, then `config.toml`, then defaults. Nothing here is ever stored.

| environment          | config.toml     | default                                     |
| -------------------- | --------------- | ------------------------------------------- |
| `REFART_CONFIG`      | –               | `config.toml` in the user's configuration folder |
| `REFART_URL`         | `url`           | the user's data folder                      |
| `REFART_STORE`       | `store`         | where a new PostgreSQL workspace keeps its bytes |
| `REFART_PROJECT`     | `project`       | `default`                                   |
| `REFART_CACHE`       | `cache`         | the user's cache folder                     |
| `REFART_CACHE_BYTES` | `cache_bytes`   | 10 GiB; 0 switches the cache off            |
| `REFART_THREADS`     | `threads`       | 4 a core, between 8 and 32                  |
| `REFART_SINGLE_WRITER` | `single_writer` | false: true lets a server hold a store that ignores exclusive creation |
| `REFART_OPENLINEAGE` | `openlineage`   | false: true sends OpenLineage events of runs (docs/lineage.md) |
| `REFART_STORAGE_OPTIONS` | `storage_options` | per URI prefix, in the words of the fsspec driver |

    [storage_options."s3://lake"]
    endpoint_url = "https://s3.example.org"
    profile = "lake"

In the environment, storage options are JSON: `{"s3://lake": {"profile": "lake"}}`. A prefix that stands there replaces
the same prefix of the file; others of the file stay.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refart.errors import InvalidInputError

DEFAULT_CACHE_BYTES = 10 << 30  # 10 GiB


def default_threads() -> int:
    return min(32, max(8, 4 * (os.cpu_count() or 1)))


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one process. `storage_options` may hold credentials: they are kept out of `repr`."""

    url: str | None = None
    store: str | None = None
    project: str = "default"
    cache_dir: Path | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES
    threads: int = field(default_factory=default_threads)
    single_writer: bool = False
    openlineage: bool = False
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)

    def options_for(self, uri: str) -> dict[str, Any]:
        """The storage options of the longest configured prefix of `uri`; `{}` where none is configured.

        A prefix ends at a component: `s3://lake` serves `s3://lake/x`, not `s3://lake2/x`. Schemes, and hosts of web
        addresses, are the same in upper and lower case.
        """
        best, wanted = "", _as_folder(uri)
        for prefix in self.storage_options:
            if wanted.startswith(_as_folder(prefix)) and len(prefix) > len(best):
                best = prefix
        return dict(self.storage_options[best]) if best else {}

    def cache_folder(self) -> Path:
        """Where the local cache lives; the folder is not created here."""
        if self.cache_dir is not None:
            return self.cache_dir
        import platformdirs

        return Path(platformdirs.user_cache_dir("refart", appauthor=False))

    def workspace_url(self) -> str:
        """The workspace to open when none is named: `url`, else the user's data folder."""
        if self.url is not None:
            return self.url
        import platformdirs

        return platformdirs.user_data_dir("refart", appauthor=False)


def _as_folder(uri: str) -> str:
    """A URI or prefix as it is compared: with a slash at the end, and what has no case in lower case."""
    folder = uri if uri.endswith("/") else f"{uri}/"
    caseless = _CASELESS.match(folder)
    return folder if caseless is None else caseless[0].lower() + folder[caseless.end() :]


_CASELESS = re.compile(r"https?://[^/]*|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


_KNOWN = {
    "url",
    "store",
    "project",
    "cache",
    "cache_bytes",
    "threads",
    "single_writer",
    "openlineage",
    "storage_options",
}


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration of this process.

    Raises `InvalidInputError` for a file that is not TOML, an unknown key (a typo must not be ignored in silence)
    or a value of the wrong type.
    """
    env = os.environ if environ is None else environ
    path, table = _read_file(env)
    unknown = sorted(set(table) - _KNOWN)
    if unknown:
        raise InvalidInputError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}")
    options = {**_options(table.get("storage_options", {}), str(path)), **_options_of_environment(env)}

    def text(variable: str, key: str) -> str | None:
        value = env.get(variable) or table.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidInputError(f"{path}: {key} must be a string, not {value!r}")
        return value

    def number(variable: str, key: str, default: int, least: int) -> int:
        value = env.get(variable) or table.get(key, default)
        try:
            if type(value) is not int and not env.get(variable):  # in TOML, true and 1.5 are no whole numbers
                raise TypeError
            result = int(value)
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{variable} (or {key} in {path}) must be a whole number, not {value!r}"
            ) from None
        if result < least:
            raise InvalidInputError(f"{variable} (or {key} in {path}) must be at least {least}, not {result}")
        return result

    def flag(variable: str, key: str) -> bool:
        said = env.get(variable)
        value = {"true": True, "false": False}.get(said, said) if said else table.get(key, False)
        if not isinstance(value, bool):
            raise InvalidInputError(f"{variable} (or {key} in {path}) must be true or false, not {value!r}")
        return value

    cache = text("REFART_CACHE", "cache")
    return Config(
        url=text("REFART_URL", "url"),
        store=text("REFART_STORE", "store"),
        project=text("REFART_PROJECT", "project") or "default",
        cache_dir=Path(cache).expanduser() if cache else None,
        cache_bytes=number("REFART_CACHE_BYTES", "cache_bytes", DEFAULT_CACHE_BYTES, 0),
        threads=number("REFART_THREADS", "threads", default_threads(), 1),
        single_writer=flag("REFART_SINGLE_WRITER", "single_writer"),
        openlineage=flag("REFART_OPENLINEAGE", "openlineage"),
        storage_options=options,
    )


def _options(value: object, where: str) -> dict[str, dict[str, Any]]:
    """Check storage options; what they hold is never shown, since it may be secret."""
    if not isinstance(value, dict) or not all(isinstance(options, dict) for options in value.values()):
        raise InvalidInputError(f"{where}: storage_options must be tables named by a URI prefix")
    for prefix in value:
        if "://" not in prefix and not prefix.startswith("/"):
            raise InvalidInputError(
                f"{where}: storage_options are named by a URI prefix such as s3://lake, not {prefix[:80]!r}"
            )
    return value


def _options_of_environment(env: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    variable = "REFART_STORAGE_OPTIONS"
    try:
        value = json.loads(env.get(variable) or "{}")
    except ValueError as error:
        # The message of `json` repeats nothing of the text; the chained error would.
        raise InvalidInputError(f"{variable} is not JSON: {error}") from None
    return _options(value, variable)


def _read_file(env: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    named = env.get("REFART_CONFIG")
    if named:
        path = Path(named)
    else:
        import platformdirs

        path = Path(platformdirs.user_config_dir("refart", appauthor=False)) / "config.toml"
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise InvalidInputError(f"REFART_CONFIG names {path}, which does not exist") from None
        return path, {}
    except OSError as error:
        raise InvalidInputError(f"the configuration {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not valid TOML: {error}") from None
