"""A third party's package that adds a source, installed as users install it: the example in `tests/plugin`."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from refart import Workspace
from tests.children import environment, good, run_python

EXAMPLE = Path(__file__).parents[1] / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example is installed into, from a copy: a build may leave something behind."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
    ]
    done = subprocess.run(
        [*pip, "--target", str(folder / "site"), str(folder / "source")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@dataclass(frozen=True)
class Catalogue:
    folder: Path
    site: Path

    def write(self, files: dict[str, bytes]) -> None:
        with (self.folder / "catalogue.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["name", "path", "sha256"])
            for number, (name, data) in enumerate(files.items()):
                path = self.folder / f"{number}.bin"
                path.write_bytes(data)
                table.writerow([name, path, hashlib.sha256(data).hexdigest()])

    @property
    def environment(self) -> dict[str, str]:
        options = {"catalogue://": {"file": str(self.folder / "catalogue.csv")}}
        return {
            "PYTHONPATH": f"{environment()['PYTHONPATH']}:{self.site}",
            "REFART_STORAGE_OPTIONS": json.dumps(options),
            "REFART_CACHE_BYTES": "0",
        }

    def run(self, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_python(code, *arguments, **self.environment)

    def refart(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("from refart.cli import main; main()", *arguments)


@pytest.fixture
def catalogue(tmp_path: Path, site: Path, refart_workspace: Workspace) -> Catalogue:
    folder = tmp_path / "archive"
    folder.mkdir()
    return Catalogue(folder, site)


LOG = """
import sys
import refart
with refart.init(job_type="test") as run:
    draft = refart.Artifact("images", "dataset")
    draft.add_reference("catalogue://runs/7")
    print(run.log_artifact(draft).qualified_name)
"""

DOWNLOAD = """
import sys
import refart
with refart.init(job_type="test") as run:
    artifact = run.use_artifact("images:latest")
    artifact.download(sys.argv[1])
    print(artifact["a.tif"].open().read(4))
"""

FILES = {"runs/7/a.tif": b"seven", "runs/7/sub/b#1.tif": b"seven, too", "runs/77/c.tif": b"seventy-seven"}


def test_a_third_party_brings_its_own_scheme(
    catalogue: Catalogue, refart_workspace: Workspace, tmp_path: Path
) -> None:
    catalogue.write(FILES)
    assert good(catalogue.run(LOG)) == "default/images:v0\n"
    [version] = refart_workspace.artifacts()
    assert {entry.path: (entry.uri, entry.content_id) for entry in version.entries()} == {
        "a.tif": ("catalogue://runs/7/a.tif", f"sha256:{hashlib.sha256(b'seven').hexdigest()}"),
        "sub/b#1.tif": (
            "catalogue://runs/7/sub/b#1.tif",
            f"sha256:{hashlib.sha256(b'seven, too').hexdigest()}",
        ),
    }
    assert good(catalogue.run(DOWNLOAD, tmp_path / "root")) == "b'seve'\n"
    assert (tmp_path / "root" / "sub" / "b#1.tif").read_bytes() == b"seven, too"


def test_the_command_line_knows_it_too(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.write(FILES)
    put = json.loads(good(catalogue.refart("put", "catalogue://runs/7/a.tif", "--name", "image", "--json")))
    assert put["version"] == "v0"
    good(catalogue.refart("get", "image", "--root", tmp_path / "root"))
    assert (tmp_path / "root" / "a.tif").read_bytes() == b"seven"


def test_a_change_is_noticed_by_the_hash(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.write(FILES)
    good(catalogue.run(LOG))
    (catalogue.folder / "0.bin").write_bytes(b"SEVEN")
    done = catalogue.run(DOWNLOAD, tmp_path / "root")
    assert "ReferenceChangedError: a.tif: catalogue://runs/7/a.tif changed" in done.stderr
    catalogue.write({**FILES, "runs/7/a.tif": b"SEVEN"})
    done = catalogue.run(DOWNLOAD, tmp_path / "root")
    assert "ReferenceChangedError: 'a.tif': catalogue://runs/7/a.tif has changed" in done.stderr


def test_a_scheme_whose_package_is_not_installed(catalogue: Catalogue) -> None:
    catalogue.write(FILES)
    done = run_python(LOG, **{**catalogue.environment, "PYTHONPATH": environment()["PYTHONPATH"]})
    assert "InvalidInputError: catalogue:// is not a scheme that refart knows" in done.stderr


def test_a_package_that_cannot_be_imported(catalogue: Catalogue, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(catalogue.site, broken)
    (broken / "refart_catalogue.py").write_text("import no_such_package")
    done = Catalogue(catalogue.folder, broken).run(LOG)
    plug_in = "the plug-in for catalogue:// (refart_catalogue:CatalogueSource of refart-catalogue)"
    said = f"NotInstalledError: {plug_in} needs no_such_package, which is not installed"
    assert said in done.stderr
