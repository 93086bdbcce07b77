"""What is tested is what is shipped: the installed wheel, and everything that has to be in it."""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

import pytest

import famcli
import famcli_models

CHECKOUT = Path(__file__).parent.parent
PACKAGES = ("famcli", "famcli_models")
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
FROM_INSTALLER = {"INSTALLER", "REQUESTED", "direct_url.json"}
KINDS = {".py", ".typed", ".json", ".safetensors", ".onnx", ".toml", ".md", ".html", ".css", ".js"}


@pytest.fixture(scope="module")
def installed() -> list[PurePosixPath]:
    """Files of the installed wheel; compiled files and the ``fam`` script, which pip makes, are left out."""
    dist = distribution("famcli")
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("an editable install has no wheel to look at")
    files = [PurePosixPath(str(file)) for file in dist.files or []]
    return [f for f in files if ".." not in f.parts and "__pycache__" not in f.parts]


def test_tests_run_against_the_installed_package(installed: list[PurePosixPath]) -> None:
    """The imported packages are the installed ones, not those of the checkout."""
    assert installed
    for package in (famcli, famcli_models):
        assert CHECKOUT / package.__name__ != Path(package.__file__).parent
        assert (
            Path(package.__file__).resolve()
            == Path(distribution("famcli").locate_file(f"{package.__name__}/__init__.py")).resolve()
        )


def test_wheel_has_two_packages_and_nothing_else(installed: list[PurePosixPath]) -> None:
    """Beside the metadata the wheel has the two packages alone: no tests, docs, benchmarks or scripts."""
    tops = {file.parts[0] for file in installed}
    metadata = {top for top in tops if top.endswith(".dist-info")}
    assert tops - metadata == set(PACKAGES)
    assert len(metadata) == 1
    inside = {"/".join(file.parts[1:]) for file in installed if file.parts[0] in metadata}
    assert inside - FROM_INSTALLER == METADATA


def test_wheel_has_every_file_of_the_packages(installed: list[PurePosixPath]) -> None:
    """Each file of the two packages is in the wheel, and the wheel has no file that they do not have."""
    expected = {
        file.relative_to(CHECKOUT).as_posix()
        for package in PACKAGES
        for file in (CHECKOUT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {file.as_posix() for file in installed if file.parts[0] in PACKAGES} == expected


def test_wheel_has_what_is_no_code(installed: list[PurePosixPath]) -> None:
    """Both packages are typed; the report's page comes along, every packaged checkpoint is whole, and no odd file."""
    names = {file.as_posix() for file in installed}
    assert {file.suffix or file.name for file in installed if file.parts[0] in PACKAGES} <= KINDS
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    page = (
        "page.html",
        "page.css",
        "page.js",
        "pictures.js",
        "gallery.js",
        "view.js",
        "comparison.html",
        "comparison.css",
    )
    assert {f"famcli/report/templates/{name}" for name in page} <= names
    folders = {file.parent for file in installed if file.is_relative_to("famcli_models/weights")}
    assert folders
    for folder in folders:
        assert {f"{folder}/{name}" for name in ("config.json", "model.safetensors", "graph.onnx")} <= names
